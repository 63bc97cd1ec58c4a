"""Several looks at one thumbnail: laws of their mean, and the models that take it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ruled_nets import picture, rectangle
from torch import Tensor

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size
from hzcli.models import readings_of
from hzcli.models.aict import AICT, AICTConfig
from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig
from hzcli.nets.compact import CompactEncoder
from hzcli.nets.views import look

NARROW = {"channels": (16, 24, 32, 32), "blocks": 1}


def stirred(net: torch.nn.Module) -> torch.nn.Module:
    """Parts that begin at nothing say something."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


def pictures() -> tuple[Tensor, Tensor]:
    """A composite that is not its own mirror image, and a mask off the middle."""
    return picture(96, 96), rectangle(96, 96) * (torch.arange(96) < 60)


@pytest.mark.parametrize("views", [1, 2, 3])
@torch.inference_mode()
def test_a_mirrored_picture_has_the_same_code_and_mirrored_maps(views: int) -> None:
    encoder = stirred(CompactEncoder(**NARROW, code=24))
    rgb, mask = pictures()
    maps, code = look(encoder, rgb, mask, views)
    back, same = look(encoder, rgb.flip(3), mask.flip(3), views)
    assert torch.allclose(code, same, atol=1e-5)
    for there, here in zip(maps, back, strict=True):
        assert torch.allclose(there, here.flip(3), atol=1e-5)
    once, alone = look(encoder, rgb, mask, 0)
    assert not torch.allclose(alone, encoder(rgb.flip(3), mask.flip(3))[1], atol=1e-3)
    assert not torch.allclose(code, alone, atol=1e-4)
    assert [m.shape for m in maps] == [m.shape for m in once]


@torch.inference_mode()
def test_the_code_is_the_mean_of_the_looks() -> None:
    """One by one in float64."""
    encoder = stirred(CompactEncoder(**NARROW, code=24)).double()
    rgb, mask = (t.double() for t in pictures())
    codes = []
    for edge in (96, 64):
        size = (edge, edge)
        small, inside = (torch.nn.functional.interpolate(t, size, mode="area") for t in (rgb, mask))
        codes += [encoder(small, inside)[1], encoder(small.flip(3), inside.flip(3))[1]]
    assert torch.allclose(look(encoder, rgb, mask, 2)[1], sum(codes) / 4, atol=1e-12)


NETS = {
    "aict": lambda: AICT(
        dataclasses.replace(AICTConfig.compact(), **NARROW, code=32, latent=16, views=2)
    ),
    "s2crnet": lambda: S2CRNet(
        dataclasses.replace(S2CRNetConfig.compact(), **NARROW, hidden=32, views=2)
    ),
}


@pytest.mark.parametrize("name", NETS)
@torch.inference_mode()
def test_views_reach_the_prediction_once_trained(name: str) -> None:
    net = stirred(NETS[name]())
    rgb, mask = pictures()
    thumb = Thumbnail(rgb.repeat(2, 1, 1, 1), mask.repeat(2, 1, 1, 1), Size(96, 96))

    def table(views: int) -> Tensor:
        net.config = dataclasses.replace(net.config, views=views)
        return net.predict_lut(thumb).lut

    assert not torch.allclose(table(0), table(2), atol=1e-4)
    assert readings_of(net.config)["views"] == "2"
    net.train()
    assert torch.allclose(table(0), table(2), atol=1e-6)
