"""Work in parts, shared by threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, wait
from typing import Any


def shared(work: Callable[[Any], None], parts: Sequence[Any], pool: Executor | None) -> None:
    """Does every part, by the threads of a pool: each takes the next one there is.

    Handing over part by part would cost more than a part that the mask leaves out.

    Args:
        pool: None: this thread does them all, in their order.
    """
    left = iter(parts)  # a sequence's iterator gives each to one thread

    def some() -> None:
        for part in left:
            work(part)

    if pool is None:
        some()
        return
    helpers = [pool.submit(some) for _ in range(min(len(parts), os.cpu_count() or 1))]
    wait(helpers)
    for helper in helpers:
        helper.result()
