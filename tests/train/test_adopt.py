"""Weights to start from: what fits is taken, and what is frozen stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hzcli.errors import UsageError
from hzcli.models import aict, s2crnet
from hzcli.models.hinet import HINet, HINetConfig
from hzcli.train.adopt import adopt, freeze

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


def test_blocks_that_are_new_change_nothing(hinet: HINet) -> None:
    colours, masks = torch.rand(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    deeper = HINet(replace(hinet.config, blocks=3))
    adopt(deeper, hinet.state_dict())
    one, two = (m.eval().encoder(colours, masks)[1] for m in (hinet, deeper))
    assert torch.equal(one, two)


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
