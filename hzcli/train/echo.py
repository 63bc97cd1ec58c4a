"""Batches used more than once: data echoing (Choi et al., arXiv 1907.05550).

Where making composites costs as much as learning from them, each batch serves twice, the second
time mirrored. Other batches lie in between, so that two steps in a row never see the same.
"""

from __future__ import annotations

from dataclasses import replace

from hzcli.train.compose import Batch

BLOCK = 8  # batches that are kept for another turn


def use(step: int, times: int) -> tuple[int, int, int]:
    """What a step learns from, where each batch is used `times` times.

    Returns:
        The number of the batch, how often it was used before, and the step of its first use.
    """
    block, at = divmod(step, times * BLOCK)
    turn, place = divmod(at, BLOCK)
    return block * BLOCK + place, turn, block * times * BLOCK + place


def mirrored(batch: Batch) -> Batch:
    """The batch with left and right exchanged."""
    flipped = (t.flip(3) for t in (batch.composite, batch.mask, batch.truth))
    composite, mask, truth = flipped
    return replace(batch, composite=composite, mask=mask, truth=truth)
