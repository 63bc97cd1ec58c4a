"""Every recipe trains: two steps of it lower nothing but run from photographs to weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hzcli import catalog, models
from hzcli.train import loop, recipes
from hzcli.train.adopt import freeze
from hzcli.train.export import export

OWN = ("hinet", "cdtnet", "cdtnet-sim", "s2crnet", "aict", "hdnet-lite", "pctnet")
# Those whose networks a test can afford.
PUBLISHED = ("s2crnet-paper", "hdnet-lite-paper", "cdtnet-paper")


def _short(name: str) -> recipes.Recipe:
    plan = recipes.get(name, steps=2)
    plan = replace(plan, batch=2, warmup=0, cache=72)
    if not plan.published:
        return replace(plan, stages=((0.0, 64),), local_from=0.0, frozen=())
    edge = 96 if plan.adversary else 64  # the adversary's patches need some room
    return replace(plan, stages=((0.0, edge),), picture=min(plan.picture, 1.5))


@pytest.mark.parametrize("name", OWN)
def test_our_own_start_at_doing_nothing_and_come_back(name: str, pack: Path, tmp_path: Path):
    start = loop.train(_short(name), [pack], tmp_path / "a", validate_every=2)
    assert 0.5 < start["history"][-1]["ratio"] < 1.5  # averaged weights, next to their start
    path = export(tmp_path / "a")
    model = models.load(path)
    saved = torch.load(tmp_path / "a" / "checkpoint.pt", weights_only=True)["ema"]
    for key, value in model.state_dict().items():
        assert torch.allclose(value.float(), saved[key].float(), rtol=2e-3, atol=1e-4), key


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_take_a_step_of_their_paper(name: str, pack: Path, tmp_path: Path):
    plan = _short(name)
    loop.train(plan, [pack], tmp_path, validate_every=10)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2
    assert (state["adversary"] is not None) == (name == "s2crnet-paper")
    start = models.published(plan.published).state_dict()
    assert state["model"].keys() == start.keys()
    assert all(torch.isfinite(v).all() for v in state["model"].values())


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_recipe_s_network_can_be_laid_out_for_training(name: str):
    network = loop.channels_last(recipes.build(recipes.get(name)))
    weights = [w for w in network.parameters() if w.dim() == 4]
    assert weights
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


@pytest.mark.parametrize("name", [name for name in OWN if name != "pctnet"])
def test_a_recipe_s_weights_look_as_those_that_ship(name: str):
    assert models.readings_of(recipes.get(name).config) == catalog.find(name).readings


def test_every_recipe_names_a_model_and_says_what_it_is():
    for name, make in recipes.RECIPES.items():
        plan = make()
        assert plan.name == name and plan.model in recipes.CLASSES
        assert make.__doc__ and plan.steps >= 200
        assert (plan.config is None) == bool(plan.published)
        if plan.frozen:  # the parts are there
            freeze(recipes.build(plan), plan.frozen)


def test_a_short_run_reaches_its_rate():
    for steps in (20, 200, 5000):
        plan = recipes.get("hinet", steps=steps)
        rates = [loop.rate_at(step, plan) for step in range(steps)]
        assert max(rates) == pytest.approx(plan.rate, rel=1e-3)
        assert plan.warmup == min(200, steps // 5)


def test_a_run_of_an_older_hz_goes_on_though_it_knew_more():
    plan = recipes.get("hinet")
    stored = plan.as_dict() | {"gone": 1}
    stored["config"] = {**stored["config"], "views": 2}
    stored["synthesis"] = {**stored["synthesis"], "passes": 0.5}
    del stored["echo"]
    assert recipes.Recipe.from_dict(stored) == replace(plan, echo=1)


def test_a_stage_has_one_edge_or_several(tmp_path: Path):
    """The same ones after the recipe was stored in a checkpoint."""
    stages = ((0.0, 0), (0.5, (160, 192, 224)), (0.9, 256))
    plan = replace(recipes.get("hinet", steps=200), stages=stages, edges=(96, 128))
    torch.save(plan.as_dict(), tmp_path / "plan.pt")
    plan = recipes.Recipe.from_dict(torch.load(tmp_path / "plan.pt", weights_only=True))
    drawn = [{plan.edge_at(step) for step in steps} for steps in (range(100), range(100, 180))]
    assert drawn == [{96, 128}, {160, 192, 224}]
    assert {plan.edge_at(step) for step in range(180, 200)} == {256}
    ends = [replace(plan, stages=stages[:n]).last_edge for n in (1, 2, 3)]
    assert ends == [96, 192, 256]


def test_an_encoder_alone_moves_nothing_that_reads_it(pack: Path, tmp_path: Path):
    plan = recipes.get("hinet-encoder", steps=2)
    plan = replace(plan, batch=2, warmup=0, cache=72, edges=(64, 96))
    start = recipes.build(plan).state_dict()
    for name in ("lut.weight", "lut.bias"):  # at the identity nothing before it has a gradient
        start[name] += 0.01 * torch.randn_like(start[name])
    loop.train(plan, [pack], tmp_path, init=start, validate_every=9)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    moved = {name for name, value in state.items() if not torch.equal(value, start[name])}
    assert "encoder.stages.0.down.weight" in moved
    for name in moved:
        assert name.startswith(("encoder.stages", "encoder.norm", "encoder.share"))
