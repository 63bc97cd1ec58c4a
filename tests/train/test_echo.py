"""Echoed batches: each is used as often as the recipe says, in turns, mirrored every other time."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from hzcli.models.hinet import HINetConfig
from hzcli.train import echo, loop, recipes
from hzcli.train.compose import Batch, Synthesis


@given(times=st.integers(1, 4), blocks=st.integers(1, 5))
def test_every_batch_is_used_equally_often_and_never_twice_in_a_row(times: int, blocks: int):
    uses = [echo.use(step, times) for step in range(blocks * times * echo.BLOCK)]
    numbers = [number for number, _, _ in uses]
    assert sorted(Counter(numbers)) == list(range(blocks * echo.BLOCK))
    assert set(Counter(numbers).values()) == {times}
    assert all(a != b for a, b in itertools.pairwise(numbers))
    for step, (number, turn, first) in enumerate(uses):
        assert turn == numbers[:step].count(number)
        assert numbers.index(number) == first


def test_without_echo_a_step_has_its_own_batch():
    assert [echo.use(step, 1) for step in range(40)] == [(step, 0, step) for step in range(40)]


def test_mirrored_twice_is_the_batch():
    tensors = [torch.rand(2, c, 4, 6) for c in (3, 1, 3)]
    batch = Batch(*tensors, torch.zeros(2), torch.zeros(2))
    once = echo.mirrored(batch)
    assert torch.equal(once.truth[..., 0], batch.truth[..., -1])
    assert torch.equal(echo.mirrored(once).composite, batch.composite)


def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(
    pack: Path, tmp_path: Path, monkeypatch
):
    """Also where the interruption falls between two uses of a batch."""
    small = HINetConfig(channels=(8, 16, 32, 32), blocks=1, code=32, hyper=16, thumbnail=64)
    recipe = replace(
        recipes.hinet(), config=small, synthesis=Synthesis(), steps=22, batch=2, warmup=2,
        stages=((0.0, 0),), edges=(64, 96), cache=64, echo=2,
    )  # fmt: skip
    seen: list[float] = []
    objective = loop.OBJECTIVES["modern"]

    def noted(model, batch, stage):
        seen.append(float(batch.composite.double().sum() + stage.edge))
        return objective(model, batch, stage)

    monkeypatch.setitem(loop.OBJECTIVES, "modern", noted)
    loop.train(recipe, [pack], tmp_path / "whole", seed=3, validate_every=100)
    whole, seen[:] = list(seen), []
    for steps in (11, 22):  # the schedule is cut short, then has its length again
        part = replace(recipe, steps=steps)
        place = tmp_path / "parts" / "checkpoint.pt"
        if place.exists():
            state = torch.load(place, weights_only=True)
            state["recipe"] = part.as_dict()
            torch.save(state, place)
        loop.train(part, [pack], tmp_path / "parts", seed=3, validate_every=100,
                   resume=place.exists())  # fmt: skip
    assert seen == whole
    assert len(set(whole)) < len(whole)  # sums do not tell a mirrored batch from its original
