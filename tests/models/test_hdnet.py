"""HDNet in our configuration: its start, its equations, the way to full size, the laws."""

from __future__ import annotations

import dataclasses

import own_networks
import pytest
import torch
from contract import ModelContract
from own_networks import WHOLE, change
from ruled_nets import picture, rectangle
from torch import Tensor

import hzcli.models.hdnet
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models.hdnet import HDNet, HDNetConfig
from hzcli.models.hdnet.own import Dynamics
from hzcli.models.hinet import HINet, HINetConfig
from hzcli.train.adopt import adopt

SMALL = HDNetConfig(thumbnail=64, channels=(8, 16, 16, 32), blocks=1, code=16, lut=5,
                    widths=(4, 6, 8), neighbours=2)  # fmt: skip
EDGE = 64


def wild(config: HDNetConfig) -> HDNet:
    return own_networks.wild(lambda: HDNet(config), "^(last|tone|lut)", 0.4)


def seen(edge: int = EDGE) -> tuple[Tensor, Tensor, Thumbnail]:
    return own_networks.seen(edge, rectangle)


@pytest.mark.parametrize("edge", [128, 200, 72])
def test_untrained_it_changes_nothing(edge: int) -> None:
    torch.manual_seed(5)
    model = HDNet(HDNetConfig.compact()).eval()
    assert sum(p.numel() for p in model.parameters()) <= 6e6
    assert change(model, *seen(edge)) < 2e-5


def test_the_network_starts_where_the_table_ends() -> None:
    """Its last layer at 0, it adds nothing to what the colours' kernel gives; else it does."""
    model = wild(SMALL)
    image, mask, thumb = seen()
    window = Window.whole(WHOLE)
    added = model.predict(thumb).apply(image, mask, window)
    for t in model.last.parameters():
        t.zero_()
    bare = model.predict(thumb).apply(image, mask, window)
    table = model.predict_lut(thumb).apply(image, mask, window)
    inside = mask > 0
    assert ((bare - table) * inside).abs().max() < 2e-5
    assert ((added - table) * inside).abs().max() > 1e-2
    assert ((table - image) * inside).abs().max() > 0.05


def test_hinets_table_comes_along() -> None:
    """Weights of the encoder and of both heads of the table, by their names."""
    torch.manual_seed(1)
    config = dataclasses.replace(
        HINetConfig.compact(), channels=SMALL.channels, blocks=1, code=SMALL.code, lut=5
    )
    hinet = HINet(config).eval().requires_grad_(False)
    for head in (hinet.tone, hinet.lut):
        for t in head.parameters():
            t.normal_(0, 0.3)
    model = HDNet(SMALL).eval()
    adopt(model, hinet.state_dict())
    image, mask, thumb = seen()
    window = Window.whole(WHOLE)
    with torch.inference_mode():
        expected = hinet.predict_lut(thumb).apply(image, mask, window)
        for transform in (model.predict_lut(thumb), model.predict(thumb)):
            got = transform.apply(image, mask, window)
            assert ((got - expected) * (mask > 0)).abs().max() < 2e-5
    assert (expected - image).abs().max() > 0.05


def test_dynamics_in_float64() -> None:
    """Eq. (6), place by place: kernels from the code; the mask says which holds."""
    torch.manual_seed(2)
    layer = Dynamics(5, 3).requires_grad_(False)
    layer.kernels.weight.normal_(0, 0.5)
    x, mask, code = torch.randn(2, 3, 4, 6), torch.rand(2, 1, 4, 6), torch.randn(2, 5)
    found = layer(x, mask, code).double()
    x, mask, code = x.double(), mask.double(), code.double()
    choose, kernels = layer.choose.double(), layer.kernels.double()
    for b in range(2):
        numbers = kernels(1 / (1 + (-choose(code[b])).exp()))
        w_f, w_b = numbers[:9].view(3, 3), numbers[9:].view(3, 3)
        for i in range(4):
            for j in range(6):
                m = mask[b, 0, i, j]
                expected = (m * w_f + (1 - m) * w_b) @ x[b, :, i, j]
                assert (found[b, :, i, j] - expected).abs().max() < 1e-5


def test_dynamics_start_near_the_identity() -> None:
    torch.manual_seed(2)
    x, mask = torch.randn(2, 8, 4, 6), torch.rand(2, 1, 4, 6)
    found = Dynamics(16, 8)(x, mask, torch.randn(2, 16))
    assert (found - x).abs().mean() < 0.2 * x.abs().mean()


def test_the_full_size_repeats_the_thumbnail() -> None:
    """What is trained (colours added to a picture as small as the thumbnail), and what is
    delivered (an affine map a place), are nearly the same."""
    model = wild(SMALL)
    thumb = Thumbnail(picture(EDGE, EDGE), rectangle(EDGE, EDGE), Size(EDGE, EDGE))
    window = Window.whole(thumb.full)
    delivered = model.predict(thumb).apply(thumb.rgb, thumb.mask, window)
    table = model.predict_lut(thumb).apply(thumb.rgb, thumb.mask, window)
    model.train().encoder.eval()
    trained = model.predict(thumb).apply(thumb.rgb, thumb.mask, window)
    left, before = (((x - trained) * thumb.mask).square().mean().sqrt() for x in (delivered, table))
    assert left < 0.5 * before


def test_a_few_steps_undo_a_tint() -> None:
    """By the table, and, with the table held, by the network alone."""
    for held in ((), ("tone", "lut", "encoder")):
        torch.manual_seed(6)
        model = HDNet(SMALL)
        for name in held:
            model.get_submodule(name).requires_grad_(False)
        own_networks.check_a_tint_is_undone(model, 1e-2, 25)


class TestHDNet(ModelContract):
    module = hzcli.models.hdnet

    def model(self) -> HDNet:
        return wild(SMALL)


class TestCloser(ModelContract):
    """Several looks at each picture."""

    module = hzcli.models.hdnet

    def model(self) -> HDNet:
        return wild(dataclasses.replace(SMALL, closer=2))
