"""Last layers, refitted: what is kept of composites, what is learnt of it, stopped runs."""

from __future__ import annotations

import copy
import itertools
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hzcli import models
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.errors import UsageError
from hzcli.models.aict import AICT, AICTConfig
from hzcli.models.hinet import HINet, HINetConfig
from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig
from hzcli.train import recipes, refit
from hzcli.train.compose import Batch, Composer, Synthesis
from hzcli.train.export import export
from hzcli.train.photos import load_photos

SMALL = HINetConfig(channels=(8, 16, 32, 32), blocks=0, code=32, hyper=16, thumbnail=64)
# What a fit may change, and what reads the code.
LAYERS = (
    "encoder.share", "encoder.colours.1.", "encoder.deep.1.", "encoder.mix.", "tone.", "lut.",
    "context.", "appearance.",
)  # fmt: skip


def _recipe(steps: int, rate: float = 3e-3) -> recipes.Recipe:
    return replace(
        recipes.get("hinet-table"), config=SMALL, synthesis=Synthesis(), steps=steps, batch=4,
        rate=rate, stages=((0.0, 64),), cache=64,
    )  # fmt: skip


@pytest.fixture
def model() -> HINet:
    torch.manual_seed(5)
    return HINet(SMALL).eval()


def _others() -> dict[str, Any]:
    """The other models that can be refitted, with heads that say something."""
    sizes = {"channels": (8, 16, 32, 32), "thumbnail": 64}
    curves = {"widths": (8, 8, 8, 8, 8, 8, 8, 16), "hidden": 32, "pieces": 8}
    torch.manual_seed(6)
    made = {
        "s2crnet": S2CRNet(replace(S2CRNetConfig.compact(), **sizes, **curves)),
        "aict": AICT(replace(AICTConfig.compact(), **sizes, code=32, latent=16)),
    }
    for one in made.values():
        for name, parameter in one.named_parameters():
            if name.startswith(("fusion.", "tone_", "colors_", "params_", "class_")):
                torch.nn.init.normal_(parameter, std=0.5)
    return {name: one.eval() for name, one in made.items()}


@pytest.mark.parametrize("name", ["hinet", "s2crnet", "aict"])
def test_what_is_kept_stands_for_the_picture(name: str, model: HINet, batch: Batch) -> None:
    """From statistics and pixels the last layers make what the network makes of a picture."""
    one = (model if name == "hinet" else _others()[name]).requires_grad_(False)
    if name == "hinet":
        torch.nn.init.normal_(one.tone.weight)
    thumb = Thumbnail(batch.composite, batch.mask, Size(64, 64))
    made = one.predict_lut(thumb) if name == "hinet" else one.predict(thumb)
    whole = made.apply(batch.composite, batch.mask, Window.whole(Size(64, 64)))
    statistics, pixels = one.measured(batch.composite, batch.mask)
    again = one.rendered(statistics, pixels.flatten(2))[0].view_as(whole)
    assert float((whole - batch.composite).abs().mean()) > 0.01
    assert float((again - whole).abs().max()) < 1e-3


@pytest.mark.parametrize(("name", "layers"), [("s2crnet", "fusion."), ("aict", "tone_layer.")])
def test_curves_are_fitted_by_their_layers_alone(
    name: str, layers: str, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit, "TOGETHER", 24)
    one = _others()[name]
    some = refit.kept(one, batch, 0)
    fitted = refit.fitted(
        one, replace(recipes.get(f"{name}-curves"), rate=1e-2, turns=400), some, 0
    )
    with torch.no_grad():
        before, after = (float(refit._error(m, some)[0].mean()) for m in (one, fitted))
    assert after < 0.7 * before
    for key, value in one.state_dict().items():
        same = torch.equal(value, fitted.state_dict()[key])
        assert same != (key.startswith(layers) and "label" not in key), key


@pytest.fixture
def batch(pack: Path) -> Batch:
    photos = load_photos(pack, "train", 64)
    return Composer(photos, Synthesis(edge=64, transfers=0), seed=2).batch(12)


def test_pixels_are_of_the_foreground(model: HINet, batch: Batch) -> None:
    """Each is one of the picture's, with its own truth, and as frequent as its mask is strong."""
    some = refit.kept(model, batch, 0)
    assert some.statistics.shape == (12, sum(n.num_features for n in _norms(model)))
    assert some.pixels.shape == some.truth.shape == (12, 3, refit.PIXELS)
    for i in range(12):
        inside = batch.mask[i, 0] > 0
        pairs = torch.cat([batch.composite[i], batch.truth[i]])[:, inside].T.half()
        drawn = torch.cat([some.pixels[i], some.truth[i]]).T
        assert bool((drawn[:, None] == pairs).all(2).any(1).all())
        weight = batch.mask[i, 0][inside]
        mean = (weight[:, None] * pairs.float()).sum(0) / weight.sum()
        assert torch.allclose(drawn.float().mean(0), mean, atol=0.1)


def _norms(model: HINet) -> list[torch.nn.BatchNorm1d]:
    return [model.encoder.colours[0], model.encoder.deep[0]]  # type: ignore[list-item, index]


def test_statistics_make_the_code(model: HINet, batch: Batch) -> None:
    _, code = model.encoder(batch.composite, batch.mask)
    statistics = refit.kept(model, batch, 0).statistics
    again = model.encoder.code(statistics.float())  # type: ignore[operator]
    assert torch.allclose(again, code, atol=2e-3)


def test_a_fit_lowers_the_error_and_changes_the_tables_layers_alone(
    model: HINet, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refit, "TOGETHER", 24)
    some = refit.kept(model, batch, 0)
    fitted = refit.fitted(model, replace(_recipe(1), turns=400), some, 0)
    with torch.no_grad():
        after, before, _ = refit._error(fitted, some)
    assert float(after.mean()) < 0.5 * float(before.mean())
    with torch.no_grad():
        pairs = [(m.context[0](m.encoder.code(some.statistics.float()))) for m in (model, fitted)]
    assert torch.allclose(*pairs, atol=0.05 * float(pairs[0].std()))
    for name, value in model.state_dict().items():
        same = torch.equal(value, fitted.state_dict()[name])
        assert same != name.startswith(LAYERS), name


def test_layers_are_carried_over_to_another_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that a linear map turns into the old ones: what is read of them stays. With what is not
    linear, too, nothing reads them better (numpy)."""
    monkeypatch.setattr(refit, "RIDGE", 0.0)
    chance = torch.Generator().manual_seed(1)
    new = torch.randn(400, 12, generator=chance) * torch.logspace(-2, 1, 12)
    turn = torch.randn(12, 12, generator=chance)
    head = torch.nn.Linear(12, 5).requires_grad_(False)
    for more in (0.0, 1.0):
        old = new @ turn + 3 + more * torch.sin(40 * new)
        before = head(old)
        other = copy.deepcopy(head)
        refit.carry([other], old=old, new=new)
        columns = torch.cat([new, torch.ones(400, 1)], 1).double().numpy()
        best = np.linalg.lstsq(columns, before.double().numpy(), rcond=None)[0]
        assert np.allclose(other(new).numpy(), columns @ best, atol=1e-3)
        if not more:
            assert torch.allclose(other(new), before, atol=1e-3)


def _run(pack: Path, folder: Path, init: dict[str, Tensor] | None, **more: object) -> dict:
    return refit.refit(_recipe(10), [pack], folder, init=init, **more)  # type: ignore[arg-type]


def test_a_stopped_run_ends_as_the_undisturbed_one(
    pack: Path, tmp_path: Path, model: HINet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured until then is not measured again, and at last is gone."""
    monkeypatch.setattr(refit, "PART", 4)
    init = model.state_dict()
    whole = _run(pack, tmp_path / "whole", init)

    def stop(event: dict) -> None:
        if event["event"] == "measured":
            signal.raise_signal(signal.SIGTERM)

    folder = tmp_path / "parts"
    first = _run(pack, folder, init, on_event=stop)
    assert first["step"] == 0
    [part] = (folder / refit.FOLDER).iterdir()
    written = part.stat().st_mtime_ns, part.read_bytes()
    with pytest.raises(UsageError, match="holds a run already"):
        _run(pack, folder, init)
    _run(pack, folder, None, resume=True, on_event=stop)
    assert (part.stat().st_mtime_ns, part.read_bytes()) == written
    assert len(list((folder / refit.FOLDER).iterdir())) == 2
    last = _run(pack, folder, None, resume=True)
    assert last["step"] == whole["step"] == 10
    assert not (folder / refit.FOLDER).exists()
    ratios = [[row["ratio"] for row in done["history"]] for done in (last, whole)]
    assert ratios[0] == pytest.approx(ratios[1])
    assert _run(pack, folder, None, resume=True)["history"] == last["history"]


def test_no_time_is_too_short_to_get_on(
    pack: Path, tmp_path: Path, model: HINet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that end before a part is full: each goes on where the last one stopped."""
    seen, kept = [], refit.kept
    monkeypatch.setattr(
        refit, "kept", lambda m, batch, step: seen.append(step) or kept(m, batch, step)
    )
    clock = itertools.count(step=2.0)
    monkeypatch.setattr(refit, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    done = _run(pack, tmp_path, model.state_dict(), minutes=0.3)
    for _ in range(12):
        if done["step"]:
            break
        done = _run(pack, tmp_path, None, resume=True, minutes=0.3)
    assert done["step"] == 10
    assert seen == list(range(10))


def test_a_fit_takes_what_there_was_time_for(
    pack: Path, tmp_path: Path, model: HINet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    kept = refit.kept
    monkeypatch.setattr(refit, "kept", lambda *given: seen.append(given) or kept(*given))
    monkeypatch.setattr(refit, "MEASURING", 1e-9)
    none = _run(pack, tmp_path / "none", model.state_dict(), minutes=1.0, fit=True)
    assert none["step"] == 0 and not seen
    monkeypatch.setattr(refit, "MEASURING", 0.5)
    clock = itertools.count(step=2.0)
    monkeypatch.setattr(refit, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    some = _run(pack, tmp_path / "some", model.state_dict(), minutes=0.4, fit=True)
    assert 0 < some["step"] == len(seen) < 10


def test_weights_of_a_run_are_the_better_ones(pack: Path, tmp_path: Path, model: HINet) -> None:
    """A rate that does harm: what was given stays."""
    init = model.state_dict()
    done = refit.refit(_recipe(4, rate=30.0), [pack], tmp_path, init=init)
    first, last = (row["ratio"] for row in done["history"])
    assert last > first
    given = models.load(export(tmp_path, id="own")).state_dict()
    torch.testing.assert_close(given["tone.weight"], init["tone.weight"])
    assert done["best"] == 0


def test_there_must_be_an_encoder(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no encoder"):
        _run(pack, tmp_path, None)


def test_the_encoder_must_be_the_one_that_measures(pack: Path, tmp_path: Path) -> None:
    recipe = replace(_recipe(4), config=HINetConfig.paper())
    with pytest.raises(UsageError, match="another encoder"):
        refit.refit(recipe, [pack], tmp_path, init={})
