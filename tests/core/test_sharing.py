"""Every part is done once, whoever does it; what goes wrong is told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hzcli.core.sharing import shared


@pytest.mark.parametrize("threads", [0, 1, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_every_part_is_done_once(threads: int, count: int) -> None:
    done: list[int] = []
    if threads:
        with ThreadPoolExecutor(threads) as pool:
            shared(done.append, range(count), pool)
            assert sorted(done) == list(range(count))  # before the pool is left
    else:
        shared(done.append, range(count), None)
        assert done == list(range(count))


def test_no_more_threads_work_than_the_pool_has() -> None:
    seen: set[int] = set()
    with ThreadPoolExecutor(2) as pool:
        shared(lambda part: seen.add(threading.get_ident()), range(500), pool)
    assert len(seen) <= 2 and threading.get_ident() not in seen


@pytest.mark.parametrize("threads", [0, 3])
def test_what_goes_wrong_is_told(threads: int) -> None:
    def work(part: int) -> None:
        if part == 7:
            raise ValueError(part)

    with ThreadPoolExecutor(threads or 1) as pool, pytest.raises(ValueError, match="7"):
        shared(work, range(20), pool if threads else None)
