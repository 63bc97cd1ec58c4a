"""Threads that share one picture's pixels."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Barrier


def workers() -> Executor | None:
    """As many threads as torch takes in this one, in which it takes no others; None for one.

    Torch shares an operation with threads of its own, which costs more than a cached block's
    operations themselves.
    """
    import torch

    count = torch.get_num_threads()
    if count == 1:
        return None
    begun = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # settles what the thread begins with, or that would win later
        torch.set_num_threads(1)
        begun.wait()

    pool = ThreadPoolExecutor(count, "hz-pixels", initializer=begin)
    for _ in range(count):
        pool.submit(int)
    begun.wait()
    torch.set_num_threads(count)  # for threads that begin later: the last to set it won
    return pool
