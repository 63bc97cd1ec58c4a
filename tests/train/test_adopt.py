"""Weights to start from: what fits is taken, and what is frozen stays."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hzcli.commands import train as command
from hzcli.errors import UsageError
from hzcli.models import aict, s2crnet
from hzcli.models.hinet import HINet, HINetConfig
from hzcli.train import loop, recipes
from hzcli.train.adopt import adopt, freeze, hold_norms, sized
from hzcli.train.export import save_weights

SMALL = {"channels": (8, 16, 16, 32), "blocks": 1}


@pytest.fixture
def hinet() -> HINet:
    torch.manual_seed(1)
    return HINet(replace(HINetConfig.compact(), **SMALL, code=32))


def test_the_same_model_takes_everything(hinet: HINet) -> None:
    other = HINet(hinet.config)
    assert adopt(other, hinet.state_dict()) == len(hinet.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(other.parameters(), hinet.parameters(), strict=True)
    )


def test_another_model_takes_the_encoder_whatever_its_name(hinet: HINet) -> None:
    colours, masks = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    wanted = hinet.eval().encoder(colours, masks)[1]
    with_curves = s2crnet.S2CRNet(
        replace(s2crnet.S2CRNetConfig.compact(), **SMALL, hidden=32, pieces=8)
    )
    with_maps = aict.AICT(replace(aict.AICTConfig.compact(), **SMALL, code=32, latent=16))
    for model, encoder in ((with_curves, with_curves.joint), (with_maps, with_maps.encoder)):
        assert adopt(model, hinet.state_dict()) == len(encoder.state_dict())
        assert torch.equal(encoder.eval()(colours, masks)[1], wanted)


@pytest.mark.parametrize("blocks", [0, 1])
def test_blocks_that_are_new_change_nothing(hinet: HINet, blocks: int) -> None:
    """Of an encoder that has some, or none at all."""
    colours, masks = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    flat = HINet(replace(hinet.config, blocks=blocks))
    deeper = HINet(replace(hinet.config, blocks=3))
    adopt(deeper, flat.state_dict())
    one, two = (m.eval().encoder(colours, masks)[1] for m in (flat, deeper))
    assert torch.equal(one, two)
    shapes = {name: tuple(value.shape) for name, value in flat.state_dict().items()}
    assert HINetConfig.from_shapes(shapes, {}).blocks == blocks


@pytest.mark.parametrize("name", ["cdtnet", "s2crnet", "aict", "hdnet-lite"])
def test_an_encoder_of_another_size_is_lent_whole(hinet: HINet, name: str) -> None:
    """The recipe's configuration takes the size of the encoder that it is given."""
    plan = recipes.get(name)
    config = sized(plan.config, hinet.state_dict())
    assert (config.channels, config.blocks) == (SMALL["channels"], SMALL["blocks"])
    model = recipes.build(replace(plan, config=config)).eval()
    adopt(model, hinet.state_dict())
    colours, masks = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    encoder = getattr(model, "joint", None) or model.encoder
    wanted = hinet.eval().encoder(colours, masks)[1]
    assert torch.equal(encoder(colours, masks)[1], wanted)


def test_without_an_encoder_on_both_sides_the_size_stays(hinet: HINet) -> None:
    config = recipes.get("cdtnet").config
    assert sized(config, {"weight": torch.zeros(3)}) == config
    published = aict.AICTConfig.published()
    assert sized(published, hinet.state_dict()) == published


def test_strangers_are_refused(hinet: HINet) -> None:
    with pytest.raises(UsageError, match="no tensor in common"):
        adopt(hinet, {"weight": torch.zeros(3)})


def test_what_is_frozen_stays(hinet: HINet) -> None:
    hinet.train()
    freeze(hinet, ("encoder",))
    before = {k: v.clone() for k, v in hinet.encoder.state_dict().items()}
    rate = torch.optim.AdamW([p for p in hinet.parameters() if p.requires_grad], 0.1)
    _, code = hinet.encoder(torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64))
    hinet.tone(code).square().sum().add(hinet.lut(code + 1).sum()).backward()
    rate.step()
    assert all(torch.equal(v, before[k]) for k, v in hinet.encoder.state_dict().items())
    assert float(hinet.lut.weight.detach().abs().sum()) > 0


def test_held_norms_treat_a_picture_as_in_use(hinet: HINet) -> None:
    """The averaged statistics, and a result that does not hang on the batch; still learning."""
    averaged = copy.deepcopy(hinet)
    for buffer in averaged.buffers():
        if buffer.is_floating_point():
            buffer.add_(torch.rand_like(buffer))
    hinet.train()
    hold_norms(hinet, averaged)
    rgb, mask = torch.rand(4, 3, 64, 64), torch.rand(4, 1, 64, 64)
    _, together = hinet.encoder(rgb, mask)
    _, alone = hinet.encoder(rgb[:2], mask[:2])
    torch.testing.assert_close(together[:2], alone)
    for (name, own), its in zip(hinet.named_buffers(), averaged.buffers(), strict=True):
        assert torch.equal(own, its), name
    together.sum().backward()
    assert float(hinet.encoder.norm.weight.grad.abs().sum()) > 0


def planned(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path, **given: Any) -> tuple:
    """What `hz train` would have begun: its recipe, and the weights to start from."""
    seen = []

    def train(plan: recipes.Recipe, *_: object, init: object, **__: object) -> dict:
        seen.append((plan, init))
        raise InterruptedError

    monkeypatch.setattr(loop, "train", train)
    with pytest.raises(InterruptedError):
        command.train(name, [folder], device="cpu", **given)
    return seen[0]


@pytest.mark.parametrize(
    ("given", "frozen"),
    [
        ({"init": True}, ("encoder", "mapping")),
        ({"init": True, "freeze": ["encoder"]}, ("encoder",)),
        ({}, ()),
    ],
    ids=["lent", "said", "alone"],
)
def test_a_recipe_freezes_what_is_lent(
    hinet: HINet, given: dict, frozen: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`hz train cdtnet`: parts that come from --init stay; without it there are none."""
    save_weights(hinet, tmp_path / "w.safetensors", id="w")
    given = {**given, "init": tmp_path / "w.safetensors"} if given.get("init") else given
    plan, init = planned("cdtnet", monkeypatch, tmp_path, **given)
    assert plan.frozen == frozen
    assert plan.config.blocks == (1 if given else 0)
    assert (init is None) == (not given)


def test_weights_of_the_same_model_are_trained_on_at_a_tenth_of_the_rate(
    hinet: HINet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full rate would undo in its first minutes what took hours."""
    save_weights(hinet, tmp_path / "w.safetensors", id="w")
    rate = recipes.get("hinet").rate
    for name, factor in (("hinet", 0.1), ("cdtnet", None)):
        whole = recipes.get(name).rate
        plan, _ = planned(name, monkeypatch, tmp_path, init=tmp_path / "w.safetensors")
        assert plan.rate == pytest.approx(whole * (factor or 1))
        assert (plan.norms_until == 0) == (factor is not None)
    plan, init = planned("hinet", monkeypatch, tmp_path)
    assert (plan.rate, init) == (rate, None)
