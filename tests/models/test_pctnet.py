"""PCT-Net: the contract of all models, and the authors' numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from contract import ModelContract, thumbnail
from ruled_nets import fill, golden, key_misfits, misfits, picture, rectangle
from torch import nn

from hzcli.core.affine import tiles
from hzcli.core.window import Size, Window
from hzcli.models import pctnet
from hzcli.models.pctnet import PCTNet, PCTNetConfig

GOLDEN = golden("pctnet")
FULL, IMAGES = {"images_fullres"}, {"images", "images_fullres"}


class TestPublishedReadings(ModelContract):
    module = pctnet
    unused = (r"^decoder\.to_rgb\.",)  # in the authors' weights, and not used by them

    def model(self) -> nn.Module:
        net = PCTNet(PCTNetConfig(channels=(8, 16, 32, 64), thumbnail=64))
        return fill(net, GOLDEN["weight_rule"])


class TestCompact(ModelContract):
    module = pctnet

    def model(self) -> nn.Module:
        small = {"channels": (32, 32, 32, 64), "code": 32, "hyper": 16, "thumbnail": 64}
        net = PCTNet(replace(PCTNetConfig.compact(), **small))
        for parameter in net.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        return net.eval()


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return fill(pctnet.published(), GOLDEN["weight_rule"])


def unlike(net: nn.Module, case: str) -> set[str]:
    """The outputs of a golden case that are not the golden ones."""
    inputs = picture(256, 256), rectangle(256, 256), picture(*map(int, case.split("x")))
    with torch.inference_mode():
        answer = net(*inputs)
    return {name for name, wanted in GOLDEN["cases"][case].items() if misfits(answer[name], wanted)}


def test_keys_are_the_published_ones(net: nn.Module) -> None:
    assert key_misfits(net, GOLDEN["keys"]) == []


@pytest.mark.parametrize("case", GOLDEN["cases"])
def test_numbers_are_the_authors(net: nn.Module, case: str) -> None:
    assert unlike(net, case) == set()


@pytest.mark.parametrize(
    ("name", "value", "seen_in"),
    [
        ("config", PCTNetConfig(colours="plain"), IMAGES),
        ("config", PCTNetConfig(mode="bilinear"), FULL),
        ("tiles", lambda *a, **k: tiles(*a, **{**k, "align_corners": True}), FULL),
        ("SHARPNESS", 1.0, IMAGES | {"attention"}),
    ],
)
def test_other_choices_give_other_numbers(
    net: nn.Module, name: str, value: Any, seen_in: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(net if name == "config" else pctnet, name, value)
    assert unlike(net, "333x411") == seen_in


def test_compact_starts_at_the_identity_and_is_small() -> None:
    net, rgb, mask = PCTNet(PCTNetConfig.compact()).eval(), picture(50, 70), rectangle(50, 70)
    result = net.predict(thumbnail(net, rgb, mask)).apply(rgb, mask, Window.whole(Size(50, 70)))
    torch.testing.assert_close(result, rgb, atol=3e-6, rtol=0)
    assert sum(p.numel() for p in net.parameters()) < 6e6  # 12 MB in half precision
