"""Threads beside torch's own."""

from __future__ import annotations

import threading

import torch

from hzcli.engine.workers import workers


def test_torch_takes_one_thread_in_each_and_as_many_as_before_elsewhere() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        pool = workers()
        assert pool is not None
        barrier = threading.Barrier(3)

        def look(_: int) -> int:
            barrier.wait(20)  # each has a task
            return torch.get_num_threads()

        assert list(pool.map(look, range(3))) == [1, 1, 1]
        assert torch.get_num_threads() == 3
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [3]
        torch.set_num_threads(1)
        assert workers() is None
    finally:
        torch.set_num_threads(before)
