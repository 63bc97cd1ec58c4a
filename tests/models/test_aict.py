"""AICT: the numbers of its authors' code, our own configuration, the contract."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from contract import ModelContract
from ruled_nets import fill, golden, key_misfits, misfits, picture, rectangle
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window, bands
from hzcli.models import aict
from hzcli.models.aict import AICT, AICTConfig, IntervalMap
from hzcli.nets import vit

GOLDEN = golden("aict")
CASE = GOLDEN["cases"]["333x411"]
SMALL = dataclasses.replace(
    AICTConfig.compact(), thumbnail=64, latent=16, channels=(16, 24, 32, 32), code=32
)
SMALL_VIT = AICTConfig(
    thumbnail=64, latent=6, patch=8, width=32, depth=2, heads=4, hidden=40, bottom=(12, 10)
)


def thumbnails(edge: int, batch: int = 1) -> Thumbnail:
    rgb = torch.rand(batch, 3, edge, edge, generator=torch.Generator().manual_seed(1))
    return Thumbnail(rgb, rectangle(edge, edge).expand(batch, -1, -1, -1), Size(edge, edge))


def moved(net: AICT, spread: float) -> AICT:
    """A network whose heads, and branches that begin at 0, say something."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in net.named_parameters():
        scale = spread if "_layer." in name else 0.1 if "encoder.blocks." in name else 0
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data.add_(scale * noise)
    return net.eval()


# --- The published network ------------------------------------------------------------------


@pytest.fixture(scope="module")
def net() -> AICT:
    return fill(aict.published(), GOLDEN["weight_rule"])


@pytest.fixture(scope="module")
def inputs() -> dict[str, Tensor]:
    small, full = (256, 256), (333, 411)
    return {
        "image": picture(*small),
        "mask": rectangle(*small),
        "image_fullres": picture(*full),
        "mask_fullres": rectangle(*full),
    }


@pytest.fixture(scope="module")
def outputs(net, inputs) -> dict[str, Tensor]:
    with torch.inference_mode():
        return net(**inputs)


@pytest.fixture
def known_maps(net, outputs, monkeypatch) -> aict.Maps:
    """The transformer's answers are kept, so that what follows it can be run anew."""
    names = ("encoder_map", "latent", "C_widths", "global_weight", "F_params")
    maps = aict.Maps(*(outputs[name] for name in names))
    monkeypatch.setattr(net, "maps", lambda rgb, mask: maps)
    return maps


def test_has_the_published_keys_and_counts(net):
    """132 tensors of 5 181 140 parameters, names and shapes in the published order."""
    assert key_misfits(net, GOLDEN["keys"]) == []
    assert not net.training


def test_weights_are_filled_by_the_rule(net):
    state = net.state_dict()
    for name, first in GOLDEN["weight_check"].items():
        np.testing.assert_allclose(state[name].flatten()[:4], first, atol=1e-8)
    total = sum(value.double().sum() for value in state.values())
    np.testing.assert_allclose(total, GOLDEN["weights_sum"], atol=1e-5)


@pytest.mark.parametrize("name", CASE)
def test_golden(outputs, name):
    assert misfits(outputs[name], CASE[name]) == []


def test_golden_knows_where_the_corners_of_cells_are(net, inputs, known_maps, monkeypatch):
    """At full resolution: at 256 x 256 each pixel lies on its cell either way."""
    monkeypatch.setattr(net, "config", dataclasses.replace(net.config, align_corners=False))
    with torch.inference_mode():
        out = net(**inputs)
    assert misfits(out["images_fullres"], CASE["images_fullres"]) != []


@pytest.mark.parametrize("name", ["images", "images_fullres"])
def test_golden_knows_where_the_first_knot_is(net, inputs, known_maps, monkeypatch, name):
    """The first and the last knot lie at 0 and 1, not half an interval inside."""
    made = F.grid_sample

    def shifted(*args, **options):
        return made(*args, **{**options, "align_corners": False})

    monkeypatch.setattr(aict.intervals.F, "grid_sample", shifted)
    with torch.inference_mode():
        assert misfits(net(**inputs)[name], CASE[name]) != []


@pytest.mark.parametrize("name", ["images", "images_fullres"])
def test_golden_knows_the_layout_of_levels(net, inputs, known_maps, monkeypatch, name):
    """Knot after knot instead of channel after channel."""
    made = aict.network.interval_map

    def interleaved(widths, levels, **rest):
        levels = levels.unflatten(1, (-1, 3)).transpose(1, 2).flatten(1, 2)
        return made(widths, levels, **rest)

    monkeypatch.setattr(aict.network, "interval_map", interleaved)
    with torch.inference_mode():
        assert misfits(net(**inputs)[name], CASE[name]) != []


def test_golden_knows_the_order_inside_a_patch(net, inputs, monkeypatch):
    """Channel slowest instead of fastest."""
    fast = vit.patches

    def slow(x, side):
        tokens = fast(x, side)
        return tokens.unflatten(2, (side * side, -1)).transpose(2, 3).flatten(2)

    monkeypatch.setattr(vit, "patches", slow)
    with torch.inference_mode():
        features = net.encoder(torch.cat([inputs["image"], inputs["mask"]], 1))
    assert misfits(features, CASE["encoder_map"]) != []


def test_golden_knows_the_pooling(net, outputs):
    """The strongest place decides, not the mean of places."""
    with torch.inference_mode():
        features = net.bottom_convs(outputs["encoder_map"])
        weights = {how: net.class_layer(getattr(features, how)((2, 3))) for how in ("amax", "mean")}
    wrong = {
        how: misfits(weight[:, :, None, None], CASE["global_weight"])
        for how, weight in weights.items()
    }
    assert wrong["amax"] == []
    assert wrong["mean"] != []


def test_predict_gives_the_published_full_resolution(net, inputs, outputs, known_maps):
    """The Transform through bands, blended, is images_fullres."""
    rgb, mask = inputs["image_fullres"], inputs["mask_fullres"]
    size = Size(333, 411)
    with torch.inference_mode():
        transform = net.predict(Thumbnail(inputs["image"], inputs["mask"], size))
        parts = [transform.apply(rgb[:, :, b.top : b.bottom], mask, b) for b in bands(size, 20)]
    blended = torch.cat(parts, 2) * mask + rgb * (1 - mask)
    assert misfits(blended[0], CASE["images_fullres"]) == []
    assert transform.reach.halo == 0


def test_other_thumbnails_are_resized_as_published(net, monkeypatch):
    """256 x 256, bilinear, not antialiased."""
    seen = []
    empty = torch.zeros(1, 24, 4, 4)
    maps = aict.Maps(empty, empty, empty.unflatten(1, (3, 8)), empty, empty)
    monkeypatch.setattr(net, "maps", lambda rgb, mask: seen.append((rgb, mask)) or maps)
    thumb = thumbnails(300)

    net.predict(thumb)

    for got, given in zip(seen[0], (thumb.rgb, thumb.mask), strict=True):
        expected = F.interpolate(given, (256, 256), mode="bilinear", align_corners=False)
        assert torch.equal(got, expected)
    assert net.thumbnail_filter == "bilinear"
    assert net.thumbnail_edge == 256


def test_only_one_variant_was_published():
    with pytest.raises(ValueError, match="aict-large"):
        aict.published("aict-large")


# --- Our own configuration ------------------------------------------------------------------


class TestCompactContract(ModelContract):
    module = aict

    def model(self) -> AICT:
        return moved(AICT(SMALL), 0.5)


class TestTransformerContract(ModelContract):
    module = aict

    def model(self) -> AICT:
        net = moved(AICT(SMALL_VIT), 0.3)
        with torch.no_grad():
            net.class_layer.bias.add_(1)
            net.params_layer.bias.copy_(torch.linspace(0.1, 0.9, 8).repeat(3))
        return net


def test_compact_is_small():
    net = AICT(AICTConfig.compact())
    assert sum(p.numel() for p in net.parameters()) < 6_000_000
    assert net.thumbnail_filter == "area"


@pytest.mark.parametrize(
    "config",
    [SMALL, dataclasses.replace(SMALL_VIT, residual=True, clamp=False)],
    ids=["compact", "vit"],
)
def test_training_begins_at_the_identity_and_leaves_it(config):
    """Random weights change nothing, and the first steps reach intervals, levels and weight."""
    torch.manual_seed(0)
    net, thumb = AICT(config), thumbnails(config.thumbnail, 2)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        out = net.predict(thumb).apply(thumb.rgb, thumb.mask, Window.whole(thumb.full))
        if not losses:
            np.testing.assert_allclose(out.detach(), thumb.rgb, atol=1e-6)
        loss = (out - thumb.rgb.sqrt()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    for head in (net.colors_layer, net.params_layer, net.class_layer):
        assert head.weight.abs().max() > 0


def test_no_interval_is_narrower_than_the_floor():
    """However certain the network is, every curve keeps a slope between floor and K."""
    net = moved(AICT(SMALL), 20)
    with torch.inference_mode():
        widths = net.maps(thumbnails(64).rgb, thumbnails(64).mask).widths
    share = widths * SMALL.intervals
    assert share.min() >= SMALL.floor - 1e-6
    assert share.min() < SMALL.floor + 0.01, "the heads are not certain enough to test"
    np.testing.assert_allclose(widths.sum(2), 1, atol=1e-5)


@pytest.mark.parametrize("degrees", [4, 8])
def test_a_picture_s_tone_is_a_sum_of_legendre_polynomials(degrees):
    """Alone on the identity, a tenth of numpy's, at the knots of F; older weights had four."""
    net = AICT(dataclasses.replace(SMALL, degrees=degrees)).eval()
    factors = np.random.default_rng(3).normal(size=(3, degrees))
    with torch.inference_mode():
        net.tone_layer.bias.copy_(torch.from_numpy(factors).flatten())
        levels = net.maps(thumbnails(64).rgb, thumbnails(64).mask).levels[0, :, 0, 0]
    x = np.linspace(-1, 1, 8)
    curves = np.polynomial.legendre.legval(x, factors.T)
    np.testing.assert_allclose(levels.view(3, 8), (x + 1) / 2 + 0.1 * curves, atol=1e-6)
    shapes = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    assert aict.config_from(shapes, {}).degrees == degrees


@pytest.mark.parametrize("edge", [64, 96, 50])
def test_own_weights_read_square_thumbnails_of_any_size(edge):
    net = moved(AICT(SMALL), 0.1)
    with torch.inference_mode():
        transform = net.predict(thumbnails(edge))
    assert isinstance(transform, IntervalMap)
    assert transform.knots.shape[2] == (edge if edge % 32 == 0 else 64) // 8


@pytest.mark.parametrize(
    "config",
    [AICTConfig.published(), AICTConfig.compact(), SMALL, SMALL_VIT],
    ids=lambda c: c.encoder,
)
def test_missing_readings_are_the_published_ones(config):
    """Shapes alone give the sizes; whatever is not said is as the authors have it."""
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in AICT(config).state_dict().items()}

    read = aict.config_from(shapes, {})

    default = AICTConfig.published()
    unsaid = {name: getattr(default, name) for name in AICTConfig.READINGS}
    assert read == dataclasses.replace(config, **unsaid)
    assert aict.detect(shapes) == "aict"


def test_a_wrong_configuration_is_refused():
    with pytest.raises(ValueError, match="idih"):
        AICT(dataclasses.replace(SMALL, encoder="idih"))


@pytest.mark.parametrize("lacking", ["colors_layer.weight", "params_layer.weight"])
def test_weights_that_lack_a_head_are_not_recognised(lacking):
    shapes = {k: tuple(v.shape) for k, v in AICT(SMALL).state_dict().items()}
    del shapes[lacking]
    assert aict.detect(shapes) is None
