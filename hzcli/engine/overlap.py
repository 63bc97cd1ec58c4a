"""Reading ahead and writing behind, each by a thread of its own, and what every stage took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
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
def ahead(read: Callable[[Item], Band], items: Iterable[Item]) -> Iterator[Iterator[Band]]:
    """Gives the results of `read` in order, each begun while its forerunner is worked on."""
    with ThreadPoolExecutor(1, "hz-read") as pool:

        def results() -> Iterator[Band]:
            waiting: Future[Band] | None = None
            for item in items:
                heed()
                following = pool.submit(read, item)
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()

        yield results()


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
