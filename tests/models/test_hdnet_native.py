"""HDNet on a picture of any size: equal to the network, in rows, mirrored at the ends."""

from __future__ import annotations

import pytest
import torch
from contract import Held
from ruled_hdnets import GOLDEN, RULE, VARIANTS, inputs, lite
from ruled_nets import fill, misfits, picture, rectangle
from torch import Tensor

import hzcli.models.hdnet as hdnet
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window, bands
from hzcli.models.hdnet import Native


@pytest.fixture(autouse=True)
def _no_gradients(request: pytest.FixtureRequest):
    """Nothing here learns, except where the contract says so."""
    with torch.set_grad_enabled("gradient" in request.node.name):
        yield


@pytest.mark.parametrize("readings", [
    {},
    {"inputs": 4, "dynamics": "paper", "neighbours": 3, "masks": "area"},
], ids=["published", "other"])  # fmt: skip
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (16, 16), (136, 24)], ids=str)
def test_native_equals_forward(readings, soft: bool, size, monkeypatch: pytest.MonkeyPatch):
    """In blocks of a few rows: every border between blocks counts."""
    monkeypatch.setattr("hzcli.nets.rain.BLOCK", 512)
    monkeypatch.setattr("hzcli.models.hdnet.whole.MIXED", 5)
    net = lite(**readings)
    image, mask = inputs(*size, soft)
    rgb = image / 2 + 0.5
    bound = Native(net).bind(Held(rgb, mask))
    found = bound.apply(rgb, mask, Window.whole(Size(*size))) * 2 - 1
    expected = net(image, mask)["output"]
    assert ((found - expected).abs() * (mask > 0)).max() < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_native_holds_the_golden_numbers(variant: str):
    """The published result, within its own tolerance, through the rows."""
    case = GOLDEN["cases"][variant]
    net = fill(hdnet.published(variant), RULE)
    image, mask = inputs(*case["size"])
    rgb = image / 2 + 0.5
    whole = Window.whole(Size(*case["size"]))
    bound = net.predict(Thumbnail(rgb, mask, whole.size)).bind(Held(rgb, mask))
    found = bound.apply(rgb, mask, whole) * 2 - 1
    blended = found * mask + image * (1 - mask)
    assert misfits(blended, case["tensors"]["blended"]) == []


@pytest.mark.parametrize("size", [(61, 90), (1, 37), (41, 1), (1, 1)], ids=str)
def test_native_mirrors_odd_sizes(size):
    """Equal to the network on a picture that was mirrored beforehand."""
    net = lite()
    height, width = size
    rgb = picture(height, width)
    mask = torch.zeros(1, 1, *size)
    mask[..., : max(1, height // 2), : max(1, 2 * width // 3)] = 1
    bound = Native(net).bind(Held(rgb, mask))
    found = bound.apply(rgb, mask, Window.whole(Size(*size)))

    def mirrored(n: int) -> Tensor:
        line = list(range(n)) + (list(range(n - 2, 0, -1)) if n > 1 else [])
        wanted = max(16, -(-n // 8) * 8)
        return torch.tensor((line * (wanted // len(line) + 1))[:wanted])

    large = [x[:, :, mirrored(height)][..., mirrored(width)] for x in (rgb * 2 - 1, mask)]
    expected = net(*large)["output"][..., :height, :width] / 2 + 0.5
    assert ((found - expected).abs() * mask).max() < 1e-4


def test_native_windows_are_parts_of_the_whole():
    """L1, exactly; outside the mask's box the picture is handed back."""
    net, size = lite(), Size(70, 61)
    rgb, mask = picture(70, 61), torch.zeros(1, 1, 70, 61)
    mask[..., 20:50, 7:40] = 1
    bound = Native(net).bind(Held(rgb, mask))
    whole = bound.apply(rgb, mask, Window.whole(size))
    for window in bands(size, 11):
        rows = slice(window.top, window.bottom)
        found = bound.apply(rgb[:, :, rows], mask[:, :, rows], window)
        assert torch.equal(found, whole[:, :, rows])
    assert torch.equal(whole[..., 41:], rgb[..., 41:])


def test_native_must_see_the_picture():
    window = Window.whole(Size(16, 16))
    with pytest.raises(ValueError, match="bound"):
        Native(lite()).apply(picture(16, 16), rectangle(16, 16), window)
