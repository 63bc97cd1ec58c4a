"""CDTNet's parts against float64: tables, their weights, the published layout of a batch."""

from __future__ import annotations

import pytest
import torch
from ruled_cdtnets import box, eight_corners, fill, soft_inputs, wildly_filled
from torch import nn
from torch.nn import functional as F

from hzcli.core.lut import Lut3D
from hzcli.core.window import Size, Window
from hzcli.models.cdtnet import PublishedCDTNet, mapping
from hzcli.nets import unet


@pytest.fixture(scope="module")
def net() -> PublishedCDTNet:
    return fill(wildly_filled)


def test_lookup_against_eight_corners_in_float64() -> None:
    """With random tables, at random colours, at nodes and at both ends."""
    torch.manual_seed(1)
    table = torch.randn(3, 9, 9, 9)
    rgb = torch.rand(1, 3, 40, 50)
    rgb[..., :4, :] = (rgb[..., :4, :] * 8).round() / 8
    rgb[..., 0, 0], rgb[..., 0, 1] = 0, 1
    lut = table.permute(0, 3, 2, 1)[None]
    expected = eight_corners(table, rgb[0])
    assert torch.allclose(mapping.look_up(lut, rgb)[0].double(), expected, atol=2e-5, rtol=0)
    # Nodes moved to k / (n - 1): no more than the width of the sliver between them is lost.
    moved = Lut3D(mapping.on_nodes(lut)).apply(rgb, rgb[:, :1], Window.whole(Size(40, 50)))
    assert torch.allclose(moved[0].double(), expected, atol=5e-5, rtol=0)


def test_combined_table_equals_the_sum_of_lookups(net: PublishedCDTNet) -> None:
    """Eq. (1): one lookup in sum w_n Phi_n, and sum w_n Phi_n(I), in float64."""
    inputs = soft_inputs()
    with torch.inference_mode():
        out = net(**inputs)
    state = net.state_dict()
    image, m = inputs["image"].double(), inputs["mask"].double()
    mixed = sum(
        out["w"][0, n].double() * eight_corners(state[f"lut.LUT{n}.LUT"], inputs["image"][0])
        for n in range(4)
    )
    expected = mixed * m + image * (1 - m)
    assert (out["lut_images"].double() - expected).abs().max() < 1e-6


@pytest.mark.parametrize("pooling", ["whole", "area"])
def test_weights_against_pooling_after_the_convolution(net: PublishedCDTNet, pooling: str) -> None:
    """The predictor pools first; the published order, in float64, gives the same."""
    torch.manual_seed(2)
    features, mask = torch.rand(2, 256, 8, 8), torch.rand(2, 1, 8, 8)
    got = net.lut.classifier(features, mask, pooling)
    head = net.state_dict()
    weight, bias, fc, fc_bias = (
        head[f"lut.classifier.{name}"].double()
        for name in ("conv.weight", "conv.bias", "fc.weight", "fc.bias")
    )
    x, m = F.conv2d(features.double(), weight, bias), mask.double()
    sides = [(x * side).mean((2, 3)) for side in (m, 1 - m)]
    if pooling == "area":
        sides = [f / side.mean((2, 3)) for f, side in zip(sides, (m, 1 - m), strict=True)]
    expected = torch.cat(sides, 1) @ fc.flatten(1).T + fc_bias
    assert torch.allclose(got.double(), expected, atol=5e-6, rtol=0)


def test_pooling_by_area_does_not_see_the_size_of_the_foreground(net: PublishedCDTNet) -> None:
    """On even features weights are the same for any mask; pooled over the whole map, not."""
    features = torch.ones(1, 256, 8, 8)
    small, large = box(8, 8, (2, 3), (2, 3)), box(8, 8, (0, 6), (0, 8))
    predict = net.lut.classifier
    areas = [predict(features, m, "area") for m in (small, large)]
    wholes = [predict(features, m, "whole") for m in (small, large)]
    assert torch.allclose(*areas, atol=1e-6)
    assert not torch.allclose(*wholes, atol=1e-2)
    # And a mask that point samples miss altogether is not divided by 0.
    assert predict(features, torch.zeros(1, 1, 8, 8), "area").isfinite().all()


def test_legacy_layout_mixes_planes_of_two_pictures() -> None:
    """(B, 3) planes taken as (3, B): of two pictures, (R0, B0, G1) and (G0, R1, B1) are read
    as the colours of pixels, and written back to where they came from."""
    torch.manual_seed(3)
    lut, x = torch.randn(1, 3, 5, 5, 5).expand(2, -1, -1, -1, -1), torch.rand(2, 3, 6, 7)
    (r0, g0, b0), (r1, g1, b1) = x
    got = mapping.look_up(lut, x, legacy_layout=True)
    first = mapping.look_up(lut[:1], torch.stack([r0, b0, g1])[None])[0]
    second = mapping.look_up(lut[:1], torch.stack([g0, r1, b1])[None])[0]
    assert torch.equal(got[0], torch.stack([first[0], second[0], first[1]]))
    assert torch.equal(got[1], torch.stack([second[1], first[2], second[2]]))
    alone = mapping.look_up(lut[:1], x[:1], legacy_layout=True)
    assert torch.equal(alone, mapping.look_up(lut[:1], x[:1]))


def test_normalisation_joins_its_convolution() -> None:
    """Outside training one convolution does both; in training, statistics are the batch's."""
    torch.manual_seed(4)
    conv, norm = nn.Conv2d(5, 7, 3, padding=1), nn.BatchNorm2d(7)
    for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        t.data.uniform_(0.5, 2)
    x = torch.randn(2, 5, 9, 8)
    norm.eval()
    expected = norm.double()(conv.double()(x.double()))
    got = unet.convolve(conv.float(), norm.float(), x)
    assert torch.allclose(got.double(), expected, atol=1e-5, rtol=0)
    norm.train()
    spread = unet.convolve(conv, norm, x).std().item()
    assert spread == pytest.approx(norm.weight.mean().item(), rel=0.2)
