"""Batches made ahead, in a thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Makes the next batches in a thread of its own while the network works on this one.

    On a GPU the composer's kernels queue behind the network's anyway, and the thread only
    hides the launches.
    """

    def __init__(self, make: Callable[[], T], depth: int = 2) -> None:
        self._queue: queue.Queue[T | BaseException] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(make,), daemon=True)
        self._thread.start()

    def _work(self, make: Callable[[], T]) -> None:
        with torch.no_grad():
            while not self._stop.is_set():
                try:
                    item: T | BaseException = make()
                except BaseException as error:  # handed on to the caller of `next`
                    item = error
                while not self._stop.is_set():
                    try:
                        self._queue.put(item, timeout=0.2)
                        break
                    except queue.Full:
                        continue

    def next(self) -> T:
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
