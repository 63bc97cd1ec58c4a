"""Passes: tables, curves and interval maps in turn, and the models that look again."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.lut import identity_lut, lookup
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models import readings_of
from hzcli.models.aict import AICT, AICTConfig
from hzcli.models.aict.intervals import IntervalMap, alike, interval_map
from hzcli.models.aict.intervals import composed as composed_maps
from hzcli.models.cdtnet import CDTNet, CDTNetConfig
from hzcli.models.hdnet import HDNet, HDNetConfig
from hzcli.models.hinet import HINet, HINetConfig
from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig
from hzcli.nets.passes import LATER, NODES, composed, finer, in_all, recoloured

NARROW = {"channels": (16, 24, 32, 32), "blocks": 1}
SIZE = Size(64, 96)
WHOLE = Window.whole(SIZE)


def table(nodes: int, seed: int) -> Tensor:
    """Smooth, and not far from the identity; of two pictures."""
    noise = 0.1 * torch.randn(2, 3, 3, 3, 3, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(noise, (nodes,) * 3, mode="trilinear", align_corners=True)
    return identity_lut(nodes) + smooth


def colours() -> Tensor:
    return torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("nodes", [2, 5, 7, 13, 17, 25, 33])
def test_a_finer_table_is_the_same_one(nodes: int) -> None:
    fine = finer(table(nodes, 1))
    assert fine.shape[2] >= NODES
    assert (fine.shape[2] - 1) % (nodes - 1) == 0
    assert torch.allclose(lookup(fine, colours()), lookup(table(nodes, 1), colours()), atol=1e-5)


@pytest.mark.parametrize("nodes", [(7, 7), (7, 33), (33, 5)])
def test_two_tables_as_one(nodes: tuple[int, int]) -> None:
    first, then = table(nodes[0], 1), table(nodes[1], 2)
    one = composed(first, then)
    in_turn = lookup(then, lookup(first, colours()).clamp(0, 1))
    assert (lookup(one, colours()) - in_turn).abs().mean() * 255 < 0.3
    # At its own nodes it is exact.
    n = one.shape[2]
    at = identity_lut(n).view(1, 3, n * n, n).expand(2, -1, -1, -1)
    wanted = lookup(then, lookup(first, at).clamp(0, 1)).view(one.shape)
    assert torch.allclose(one, wanted, atol=1e-5)


def test_without_a_first_table_the_last_is_all() -> None:
    assert in_all(None, table(7, 1)).shape[2] == 7
    unchanged = identity_lut(7).expand(2, -1, -1, -1, -1)
    later = torch.lerp(unchanged, table(7, 1), LATER)
    assert torch.allclose(in_all(unchanged, table(7, 1)), finer(later), atol=1e-5)


def test_a_foreground_alone_is_recoloured() -> None:
    rgb, mask = torch.rand(1, 3, 8, 8), torch.tensor([0.0, 0.5, 1.0, 1.0]).repeat(2)
    mask = mask.expand(1, 1, 8, 8)
    thumb = Thumbnail(rgb, mask, SIZE, closeup=Thumbnail(rgb, mask, SIZE))
    seen = recoloured(thumb, torch.full_like(rgb, 1.5))
    assert torch.equal(seen.rgb[..., 0], rgb[..., 0])
    assert torch.allclose(seen.rgb[..., 1], (rgb[..., 1] + 1) / 2)
    assert (seen.rgb[..., 2:4] == 1).all()
    assert seen.closeup is None and seen.mask is thumb.mask


def even_map(levels: int, cells: int, seed: int) -> IntervalMap:
    generator = torch.Generator().manual_seed(seed)
    widths = torch.rand(1, 3, levels, cells, cells, generator=generator).add(1)
    rising = torch.linspace(0, 1, levels).repeat(3).view(1, -1, 1, 1)
    change = 0.08 * torch.randn(1, 3, 1, cells, cells, generator=generator)
    noise = (change * torch.sin(3 * torch.linspace(0, 1, levels)).view(-1, 1, 1)).flatten(1, 2)
    return interval_map(widths / widths.sum(2, keepdim=True), rising + noise)


@pytest.mark.parametrize("cells", [1, 3])
def test_two_interval_maps_as_one(cells: int) -> None:
    """By `apply`, one after the other, the first the same everywhere."""
    one, two = alike(even_map(16, cells, 1), torch.ones(1, 1, 6, 6)), even_map(16, cells, 2)
    rgb, mask = colours()[:1], torch.ones(1, 1, 40, 50)
    window = Window.whole(Size(40, 50))
    in_turn = two.apply(one.apply(rgb, mask, window), mask, window)
    error = (composed_maps(one, two).apply(rgb, mask, window) - in_turn).abs() * 255
    assert error.mean() < 0.3
    change = (in_turn - rgb).abs() * 255
    assert change.mean() > 4


def test_the_mean_of_all_cells_goes_by_the_mask() -> None:
    """Of two cells, against each alone and the mean of both."""
    both = even_map(16, 2, 3)
    window, rgb = Window.whole(Size(40, 50)), colours()[:1]
    left = torch.zeros(1, 1, 8, 8)
    left[..., :4, :4] = 1

    def of(mask: Tensor) -> Tensor:
        return alike(both, mask).apply(rgb, mask, window)

    one = IntervalMap(both.knots[:, :, :1, :, :1], both.levels[:, :, :1, :, :1])
    assert (of(left) - one.apply(rgb, left, window)).abs().mean() * 255 < 0.1
    quarters = [left.roll((4 * i, 4 * j), (2, 3)) for i in range(2) for j in range(2)]
    mean = torch.stack([of(quarter) for quarter in quarters]).mean(0)
    assert torch.allclose(of(torch.ones(1, 1, 8, 8)), mean, atol=1e-4)
    assert torch.isfinite(of(0 * left)).all()


NETS = {
    "aict": lambda: AICT(
        dataclasses.replace(AICTConfig.compact(), **NARROW, code=32, latent=16, thumbnail=64)
    ),
    "cdtnet": lambda: CDTNet(CDTNetConfig(**NARROW, code=32, luts=4, thumbnail=64)),
    "cdtnet-sim": lambda: CDTNet(
        CDTNetConfig(**NARROW, code=32, luts=4, thumbnail=64, refinement=False)
    ),
    "hdnet": lambda: HDNet(HDNetConfig(**NARROW, code=32, thumbnail=64)),
    "hinet": lambda: HINet(HINetConfig(**NARROW, code=32, thumbnail=64)),
    "s2crnet": lambda: S2CRNet(
        dataclasses.replace(S2CRNetConfig.compact(), **NARROW, hidden=32, thumbnail=64)
    ),
}


def net_of(name: str) -> Any:
    torch.manual_seed(3)
    net = NETS[name]()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return net.eval()


def shown() -> Thumbnail:
    generator = torch.Generator().manual_seed(2)
    coarse = torch.rand(1, 3, 8, 12, generator=generator)
    rgb = F.interpolate(coarse, (SIZE.height, SIZE.width), mode="bilinear")
    mask = torch.zeros(1, 1, SIZE.height, SIZE.width)
    mask[..., 16:48, 20:60] = 1
    return Thumbnail(rgb, mask, SIZE)


def with_passes(net: Any, passes: int) -> Any:
    net.config = dataclasses.replace(net.config, passes=passes)
    return net


@pytest.mark.parametrize("name", NETS)
@torch.inference_mode()
def test_a_second_pass_is_shown_what_the_first_left(name: str) -> None:
    """Against a picture that is given back to a network that looks once."""
    net, thumb = with_passes(net_of(name), 1), shown()
    predict = net.predict if name == "aict" else net.predict_lut
    first = predict(thumb)
    if name == "aict":
        first = alike(first, thumb.mask)
    once = first.apply(thumb.rgb, thumb.mask, WHOLE)
    later = predict(recoloured(thumb, once))
    steps = net.stages(recoloured(thumb, once)) if name == "s2crnet" else (later,)
    in_turn = once  # held in [0, 1] before each, as tables and curves do
    for step in steps:  # of each stage's change a share, where there are several
        at = in_turn.clamp(0, 1)
        in_turn = torch.lerp(at, step.apply(at, thumb.mask, WHOLE), LATER)
    with_passes(net, 2)
    found = predict(thumb).apply(thumb.rgb, thumb.mask, WHOLE)
    assert (found - in_turn).abs().mean() * 255 < 0.5
    assert (found - once).abs().mean() * 255 > 1
    assert readings_of(net.config)["passes"] == "2"


@pytest.mark.parametrize("name", NETS)
@torch.inference_mode()
def test_passes_reach_the_picture(name: str) -> None:
    net, thumb = net_of(name), shown()
    results = [
        with_passes(net, n).predict(thumb).apply(thumb.rgb, thumb.mask, WHOLE) for n in (1, 2, 3)
    ]
    assert not torch.allclose(results[0], results[1], atol=1e-3)
    assert not torch.allclose(results[1], results[2], atol=1e-4)


@pytest.mark.parametrize("name", NETS)
@torch.inference_mode()
def test_a_network_in_training_looks_once(name: str) -> None:
    net, thumb = net_of(name), shown()
    for norm in net.train().modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.eval()  # so that one call does not change the next
    tables = [with_passes(net, n).predict_lut(thumb).lut for n in (1, 2)]
    assert torch.allclose(*tables, atol=1e-6)
