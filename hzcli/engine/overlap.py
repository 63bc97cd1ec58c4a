"""Reading ahead and writing behind, each by a thread of its own, and what every stage took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from hzcli.engine.pipeline import heed

Item = TypeVar("Item")
Band = TypeVar("Band")


class Clock:
    """Adds up wall time by stage. Each stage is timed by one thread only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


@contextmanager
def ahead(
    read: Callable[[Item], Band],
    items: Iterable[Item],
    pool: Executor | None = None,
    count: int = 1,
) -> Iterator[Iterator[Band]]:
    """Gives the results of `read` in order, each begun while its forerunner is worked on.

    Args:
        pool: who reads, and is left in peace at the end; None: a thread of its own.
        count: how many are begun ahead.
    """
    with ThreadPoolExecutor(1, "hz-read") if pool is None else nullcontext(pool) as readers:
        waiting: deque[Future[Band]] = deque()

        def results() -> Iterator[Band]:
            for item in items:
                heed()
                waiting.append(readers.submit(read, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield results()
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)


@contextmanager
def behind(write: Callable[[Item], None]) -> Iterator[Callable[[Item], None]]:
    """Gives `send`, which writes in order and returns while the last item is still written."""
    with ThreadPoolExecutor(1, "hz-write") as pool:
        waiting: Future[None] | None = None

        def send(item: Item) -> None:
            nonlocal waiting
            if waiting is not None:
                waiting.result()
            waiting = pool.submit(write, item)

        yield send
        if waiting is not None:
            waiting.result()
