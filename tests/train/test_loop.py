"""The trainer: composites hold together, runs resume, weights come out that `load` takes."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from hzcli import models
from hzcli.errors import UsageError
from hzcli.models.hinet import HINet, HINetConfig
from hzcli.train import loop, recipes
from hzcli.train.charts import curve
from hzcli.train.compose import Batch, Composer, Synthesis
from hzcli.train.export import export
from hzcli.train.losses import foreground_mse, lut_range, relative
from hzcli.train.objectives import Loss, Stage, modern
from hzcli.train.photos import load_photos

SMALL = HINetConfig(channels=(8, 16, 32, 32), blocks=1, code=32, hyper=16, thumbnail=64)


def _recipe(steps: int) -> recipes.Recipe:
    return replace(
        recipes.hinet(),
        config=SMALL,
        synthesis=Synthesis(),
        steps=steps,
        batch=4,
        warmup=2,
        stages=((0.0, 64),),
        local_from=0.5,
        cache=64,
    )


def test_composites_equal_the_truth_outside_the_mask(pack: Path):
    composer = Composer(load_photos(pack, "train", 64), Synthesis(edge=48), seed=1)
    batch = composer.batch(16)
    assert batch.composite.shape == (16, 3, 48, 48)
    outside = batch.mask == 0
    same = (batch.composite == batch.truth).all(1, keepdim=True)
    assert same[outside].all()
    assert (batch.composite - batch.truth).abs().amax((1, 2, 3)).gt(0).float().mean() > 0.8
    assert batch.mask.amin() >= 0 and batch.mask.amax() <= 1
    assert batch.composite.amin() >= 0 and batch.composite.amax() <= 1


def test_the_same_seed_makes_the_same_composites(pack: Path):
    photos = load_photos(pack, "val", 64)
    first, second = (Composer(photos, Synthesis(edge=48), seed=9).batch(8) for _ in range(2))
    assert torch.equal(first.composite, second.composite)
    other = Composer(photos, Synthesis(edge=48), seed=10).batch(8)
    assert not torch.equal(first.composite, other.composite)


def test_splits_are_kept_apart_and_one_shard_is_enough(pack: Path, tmp_path: Path):
    names = [set(load_photos(pack, split, 32).names) for split in ("train", "val")]
    assert len(names[0]) == 24 and len(names[1]) == 8 and not names[0] & names[1]
    shutil.copy(pack / "index.csv", tmp_path)
    shutil.copy(pack / "photos-00.tar", tmp_path)
    assert len(load_photos(tmp_path, "train", 32)) == 12


def test_several_packs_are_one(pack: Path):
    both = load_photos([pack, pack], "val", 32)
    assert len(both) == 16
    assert len(both.regions) == 2 * len(load_photos(pack, "val", 32).regions)


def test_figures_after_a_resume_count_what_was_done(pack: Path, tmp_path: Path):
    """A resumed run's first loss is a mean over the steps since, not over the interval."""
    losses = []
    for steps in (4, 3):  # one run of four steps; one stopped after three of four
        folder = tmp_path / str(steps)

        def stop(event: dict, steps: int = steps) -> None:
            if event["event"] == "validated" and steps == 3:
                signal.raise_signal(signal.SIGTERM)

        loop.train(_recipe(4), [pack], folder, validate_every=steps, on_event=stop)
        done = loop.train(_recipe(4), [pack], folder, resume=True, validate_every=100)
        losses.append(done["history"][-1]["loss"])
    assert 0.2 < losses[1] / losses[0] < 5


def test_norms_are_held_for_the_last_steps(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Also when the run was stopped and resumed after the change."""
    seen = []

    def spied(model: HINet, batch: Batch, stage: Stage) -> Loss:
        seen.append((model.encoder.norm.training, model.encoder.norm.running_mean.clone()))
        return modern(model, batch, stage)

    monkeypatch.setitem(loop.OBJECTIVES, "modern", spied)

    def stop(event: dict) -> None:
        if event["event"] == "validated" and event["step"] == 5:
            signal.raise_signal(signal.SIGTERM)

    recipe = replace(_recipe(8), norms_until=0.5)
    loop.train(recipe, [pack], tmp_path, validate_every=5, on_event=stop)
    loop.train(recipe, [pack], tmp_path, resume=True, validate_every=5)
    assert [training for training, _ in seen] == [True] * 4 + [False] * 4
    means = [mean for _, mean in seen[4:]]
    assert all(torch.equal(mean, means[0]) for mean in means)


def test_no_photographs_is_a_usage_error(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no photographs"):
        load_photos(tmp_path, "train", 32)


def test_a_run_resumes_where_it_stopped(pack: Path, tmp_path: Path):
    """Six steps are six steps, in one go or in two; nothing half-written stays."""
    recipe = _recipe(6)
    loop.train(recipe, [pack], tmp_path / "run", minutes=0, validate_every=3)
    assert not (tmp_path / "run" / "checkpoint.part").exists()
    with pytest.raises(UsageError, match="resume"):
        loop.train(recipe, [pack], tmp_path / "run", validate_every=3)
    other = replace(recipe, steps=9, rate=1.0)  # what the name stands for by now
    done = loop.train(other, [pack], tmp_path / "run", resume=True, validate_every=3)
    assert done["step"] == 6
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert recipes.Recipe.from_dict(state["recipe"]) == recipe
    assert [row["step"] for row in done["history"]] == [3, 6]
    again = loop.train(recipe, [pack], tmp_path / "run", resume=True, validate_every=3)
    assert again["history"] == done["history"]
    assert (tmp_path / "run" / "history.csv").read_text().count("\n") == 3


def test_a_schedule_fits_into_a_time(pack: Path, tmp_path: Path, monkeypatch):
    """However few steps there is time for, the rate has fallen at the end, and figures are told."""
    seconds = itertools.count()  # a second passes at every look at the clock
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    recipe = _recipe(10_000)
    done = loop.train(recipe, [pack], tmp_path / "run", minutes=1, fit=True)
    assert 0 < done["step"] < 10_000
    assert done["history"][-1]["step"] == done["step"]
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["optimizer"]["param_groups"][0]["lr"] < 0.5 * recipe.rate
    again = loop.train(recipe, [pack], tmp_path / "run", resume=True)
    assert again["step"] == done["step"], "the time is over"


def test_a_kill_costs_no_more_than_was_said(pack: Path, tmp_path: Path, monkeypatch):
    saved = []
    monkeypatch.setattr(loop, "save", lambda path, state: saved.append(state["step"]))
    loop.train(_recipe(4), [pack], tmp_path, save_seconds=0.0, validate_every=100)
    assert saved[:3] == [1, 2, 3]


def test_sigterm_saves_and_stops(pack: Path, tmp_path: Path):
    def stop(event: dict) -> None:
        if event["event"] == "validated":
            signal.raise_signal(signal.SIGTERM)

    done = loop.train(_recipe(50), [pack], tmp_path, validate_every=2, on_event=stop)
    assert done["step"] == 2
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2 and state["optimizer"]["state"]


def test_weights_of_a_run_can_be_loaded(pack: Path, tmp_path: Path):
    loop.train(_recipe(2), [pack], tmp_path, validate_every=2)
    path = export(tmp_path, id="own")
    model = models.load(path)
    assert model.config == SMALL
    assert model.card.id == "own" and model.card.steps == 2
    assert {p.name for p in tmp_path.iterdir()} == {
        "checkpoint.pt", "history.csv", "history.png", "own.json", "own.safetensors",
    }  # fmt: skip


def test_training_lowers_the_error(pack: Path, tmp_path: Path):
    """Forty steps on a toy pack improve on doing nothing for what was seen."""
    torch.manual_seed(0)
    photos = load_photos(pack, "train", 64)
    batch = Composer(photos, Synthesis(edge=64, transfers=0), seed=2).batch(8)
    model = HINet(SMALL).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for _ in range(40):
        loss = modern(model, batch, Stage(64, 32)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_foreground_mse_against_the_definition():
    p, t = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    m = torch.rand(2, 1, 16, 16)
    for i in range(2):
        expected = ((p[i] - t[i]) ** 2 * m[i]).sum() / (3 * m[i].sum())
        assert foreground_mse(p, t, m)[i] == pytest.approx(float(expected), rel=1e-5)


def test_relative_loss_is_one_for_doing_nothing_to_a_bad_composite_and_grows_slowly_after():
    before = torch.tensor([1.0])
    assert float(relative(before, before, floor=0.0)) == pytest.approx(1.0)
    error = torch.tensor([4.0], requires_grad=True)
    relative(error, before, floor=0.0).backward()
    assert float(error.grad) == pytest.approx(0.5)  # that of 2 sqrt(r) - 1 at r = 4


def test_lut_range_penalises_only_the_excess():
    assert float(lut_range(torch.tensor([0.0, 0.5, 1.0]))) == 0
    assert float(lut_range(torch.tensor([-0.2, 1.1, 0.5, 0.5]))) == pytest.approx(0.05 / 4)


def test_a_run_starts_from_given_weights(pack: Path, tmp_path: Path):
    """Before the first step the averaged weights are those that were given."""
    torch.manual_seed(5)
    state = HINet(SMALL).state_dict()
    loop.train(_recipe(4), [pack], tmp_path, init=state, minutes=0)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(torch.equal(saved["ema"][name], value) for name, value in state.items())
    [row] = saved["history"]  # and what they reach is known
    assert row["step"] == 0
    assert 0 < row["ratio"] < 10
    assert "loss" not in row


def test_the_best_average_is_what_a_run_gives(pack: Path, tmp_path: Path):
    """A rate that ruins what was given: the run goes on, its weights are those given."""
    torch.manual_seed(5)
    state = HINet(SMALL).state_dict()
    recipe = replace(_recipe(4), rate=3.0, warmup=0, clip=0.0)
    done = loop.train(recipe, [pack], tmp_path, init=state, validate_every=2)
    ratios = {row["step"]: row["ratio"] for row in done["history"]}
    assert list(ratios) == [0, 2, 4]
    assert ratios[4] > ratios[0], "the rate was to do harm"
    given = models.load(export(tmp_path, id="own")).state_dict()
    assert done["best"] == 0
    for name, value in state.items():
        if value.is_floating_point():
            torch.testing.assert_close(given[name], value, rtol=1e-3, atol=1e-4)
    assert json.loads((tmp_path / "own.json").read_text())["steps"] == done["best"]


def test_the_curve_is_a_picture_of_the_history(tmp_path: Path):
    rows = [{"step": 10 * i, "ratio": 1 / i, "retouch": None} for i in range(1, 6)]
    assert not curve([], tmp_path / "empty.png")
    assert curve(rows, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (960, 540)
        colours = {pixel for _, pixel in picture.convert("RGB").getcolors(1 << 20)}
    assert (31, 119, 180) in colours  # the first line's
