"""S2CRNet's curves: eq. (1) in float64, our readings of it, and a cascade at full resolution."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from ruled_nets import picture, rectangle
from ruled_s2crnets import SMALL, SMALL_CONFIG, inputs, lively, net_of, ramps, thumb_of

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models import s2crnet
from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig, curves_of
from hzcli.nets.trunks import close_up


@pytest.mark.parametrize("mean", [3.0, 1.0, -0.5])
def test_curves_are_eq_1(mean: float) -> None:
    """Slopes of one sign, of both, and negative sums, which turn out positive."""
    rng = torch.Generator().manual_seed(0)
    p = torch.randn(2, 192, generator=rng) + mean
    x = torch.rand(2, 3, 40, 50, generator=rng) * 1.2 - 0.1
    curves = curves_of(p)
    got = curves.at(x.flatten(2)).view(x.shape)
    assert (got - ramps(x, p)).abs().max() < 2e-5
    assert torch.equal(curves.knots[..., 0], torch.zeros(2, 3))
    assert (curves.knots[..., -1] - 1).abs().max() < 1e-6


@pytest.mark.parametrize("curve", ["monotone", "free"])
def test_our_curves_rise_and_are_bounded(curve: str) -> None:
    """Whatever is predicted; near a sum of 0, where published ones explode, too."""
    extra = curve == "free"
    count = 3 * (64 + extra)
    rng = torch.Generator().manual_seed(0)
    for scale in (1.0, 30.0, 1000.0):
        knots = curves_of(torch.randn(4, count, generator=rng) * scale, curve).knots
        assert knots.isfinite().all()
        assert (knots.diff(dim=-1) >= 0).all()
    zero_sum = torch.linspace(-1, 1, count)[None]
    assert curves_of(torch.linspace(-1, 1, 192)[None] + 1e-6).knots.abs().max() > 5
    assert curves_of(zero_sum, curve).knots.abs().max() < 1.2


@pytest.mark.parametrize("curve", ["monotone", "free"])
def test_our_curves_start_at_the_identity(curve: str) -> None:
    config = S2CRNetConfig(widths=SMALL, labels=3, hidden=8, curve=curve, pooling="masked")
    net = S2CRNet(config).eval()
    thumb = thumb_of()
    window = Window.whole(Size(64, 64))
    for label in (None, 2):
        net.label = label
        with torch.inference_mode():
            result = net.predict(thumb).apply(thumb.rgb, thumb.mask, window)
            assert (result - thumb.rgb).abs().max() < 1e-6


def test_ends_are_free_where_they_should_be() -> None:
    p = torch.zeros(1, 3 * 9)
    p[:, [0, 9, 18]] = 1.0
    knots = curves_of(p, "free").knots
    assert torch.allclose(knots[..., 0], torch.full((1, 3), s2crnet.rendering.GAIN))
    assert torch.allclose(knots[..., -1], torch.full((1, 3), 1 + s2crnet.rendering.GAIN))
    pinned = curves_of(torch.randn(1, 24), "monotone").knots
    assert torch.allclose(pinned[..., [0, -1]], torch.tensor([0.0, 1.0]).expand(1, 3, 2))


# --- Full resolution ------------------------------------------------------------------------


def test_predict_renders_what_is_published() -> None:
    """The cascade as one table, on a larger picture, against eq. (1) twice in float64."""
    net, given = net_of("s2crnet-s"), inputs()
    near = Thumbnail(given["fg_image"], given["fg_mask"], Size(96, 120))
    thumb = Thumbnail(given["image"], given["mask"], Size(300, 411), near)
    full, mask = picture(300, 411), rectangle(300, 411)
    with torch.inference_mode():
        out = net(**given, image_fullres=full, mask_fullres=mask)
        result = net.predict(thumb).apply(full, mask, Window.whole(Size(300, 411)))
        few = net.curves(thumb).apply(full, mask, Window.whole(Size(300, 411)))
    want = ramps(ramps(full, out["p1"]), out["p2"])
    for got in (result, few, out["images_fullres"]):
        assert (got - want).abs().max() < 5e-6
    assert torch.equal(out["composited_fullres"], out["images_fullres"] * mask + full * (1 - mask))


def test_forward_cuts_the_foreground_out_itself() -> None:
    net, given = net_of("s2crnet-s"), inputs()
    near = close_up(Thumbnail(given["image"], given["mask"], Size(256, 256)), (256, 256))
    with torch.inference_mode():
        alone = net(given["image"], given["mask"])
        with_it = net(given["image"], given["mask"], near.rgb, near.mask)
    assert torch.equal(alone["y2"], with_it["y2"])


def test_published_networks_see_the_size_they_were_trained_on() -> None:
    net = net_of("s2crnet-s")
    assert (net.thumbnail_edge, net.thumbnail_filter, net.needs_closeup) == (256, "triangle", True)
    with torch.inference_mode():
        small, large = (net.stages(thumb_of(edge))[0].knots for edge in (128, 256))
    assert (small - large).abs().max() < 0.05


def test_the_table_is_exact_for_one_stage_and_near_for_two() -> None:
    for cascade, limit in (("1", 1e-5), ("12", 0.03)):
        config = dataclasses.replace(SMALL_CONFIG, hidden=8, cascade=cascade)
        net, thumb = lively(config), thumb_of()
        window = Window.whole(Size(64, 64))
        with torch.inference_mode():
            table = net.predict_lut(thumb).apply(thumb.rgb, thumb.mask, window)
            curves = net.predict(thumb).apply(thumb.rgb, thumb.mask, window)
        assert (table - curves).abs().max() < limit
        assert (curves - thumb.rgb).abs().max() > 0.03


def test_learning_renders_what_predicting_does() -> None:
    net, thumb = lively(dataclasses.replace(SMALL_CONFIG, thumbnail=64)), thumb_of()
    window = Window.whole(Size(64, 64))
    learning = net.predict(thumb).apply(thumb.rgb, thumb.mask, window)
    with torch.inference_mode():
        rendering = net.predict(thumb).apply(thumb.rgb, thumb.mask, window)
    assert learning.requires_grad
    assert (learning - rendering).abs().max() < 2e-3
