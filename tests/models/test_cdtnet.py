"""CDTNet: the numbers of its authors' code, float64 oracles of its steps, and the laws."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from contract import ModelContract, readings_of, shapes_of
from ruled_nets import filled, golden, misfits, picture
from torch import Tensor, nn
from torch.nn import functional as F

import hzcli.models.cdtnet
from hzcli.core.lut import Lut3D
from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window, bands
from hzcli.models import cdtnet
from hzcli.models.cdtnet import CDTNet, CDTNetConfig
from hzcli.nets import unet

GOLDEN = golden("cdtnet")
SMALL = CDTNetConfig(widths=(8, 12, 16), norm_from=1, attend_from=1, luts=5, lut_size=9, pooled=12,
                     refine=8, thumbnail=64)  # fmt: skip


# --- The rules behind the golden numbers ----------------------------------------------------


def identity_table(n: int) -> Tensor:
    """(3, n, n, n) as the authors store it, [channel][b][g][r], float64."""
    axis = torch.linspace(0, 1, n, dtype=torch.float64)
    b, g, r = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([r, g, b])


def plainly_filled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the rule of the golden case "square"."""
    out = {}
    for place, (name, like) in enumerate(state.items()):
        if not like.is_floating_point():
            out[name] = like
            continue
        v = torch.sin(0.37 * torch.arange(like.numel(), dtype=torch.float64) + place)
        v = v.view(like.shape)
        if name.endswith(".LUT"):
            v = 0.02 * v + (identity_table(like.shape[-1]) if "LUT0" in name else 0)
        elif name == "lut.classifier.fc.bias":
            v = 0.5 + 0.005 * v
        elif name.endswith("running_var"):
            v = 1 + 0.5 * v * v
        elif like.ndim > 1:
            v = v * math.sqrt(1.5 / like[0].numel())
        else:
            v = 1 + 0.1 * v if name.endswith(".weight") else 0.05 * v
        out[name] = v.float()
    return out


def wildly_filled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the rule of the golden case "soft": features vary from place to place."""
    out = filled(state, GOLDEN["soft_weight_rule"])
    out["lut.LUT0.LUT"] += identity_table(33).float()
    return out


def fill(rule: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> CDTNet:
    """The published network, weights by rule, loaded strictly; eval mode, no gradients."""
    net = cdtnet.published("cdtnet")
    net.load_state_dict(rule(net.state_dict()), strict=True)
    return net.requires_grad_(False)


def box(height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., slice(*rows), slice(*columns)] = 1
    return mask


def ellipse(height: int, width: int) -> Tensor:
    """The soft mask of the golden case "soft", (1, 1, H, W)."""
    y = (torch.arange(height, dtype=torch.float64).view(-1, 1) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float64).view(1, -1) + 0.5) / width
    inside = 1 - ((x - 0.45) / 0.3) ** 2 - ((y - 0.55) / 0.35) ** 2
    return (inside / 0.4).clamp(0, 1)[None, None].float()


def soft_inputs() -> dict[str, Any]:
    """What the network is called with in the golden case "soft"."""
    case = GOLDEN["soft"]
    size = case["height"], case["width"]
    return {"image": picture(*size, case["phase"]), "mask": ellipse(*size), "lr": case["lr"]}


def soft_misfits(out: dict[str, Tensor], index: int = 0) -> dict[str, list[str]]:
    """What does not fit of one picture of a batch."""
    wanted = GOLDEN["soft"]["tensors"]
    found = {name: misfits(out[name][index : index + 1], wanted[name]) for name in wanted}
    return {name: wrong for name, wrong in found.items() if wrong}


def reread(net: CDTNet, **readings: Any) -> CDTNet:
    """The same weights with other readings."""
    other = CDTNet(dataclasses.replace(net.config, **readings)).eval().requires_grad_(False)
    other.load_state_dict(net.state_dict(), strict=True)
    return other


def resize(x: Tensor, edge: int) -> Tensor:
    """The published resize: bilinear, no antialiasing."""
    return F.interpolate(x, (edge, edge), mode="bilinear", align_corners=False)


@pytest.fixture(scope="module")
def net() -> CDTNet:
    return fill(wildly_filled)


# --- Keys and goldens -----------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["cdtnet", "cdtnet-sim"])
def test_keys_and_shapes_are_the_published_ones(variant: str) -> None:
    """139 keys in the published order and 2,744,400 parameters, whether refined or not."""
    expected = GOLDEN["keys"]
    net = cdtnet.published(variant)
    state, parameters = net.state_dict(), dict(net.named_parameters())
    lines = [f"{n} {'x'.join(map(str, t.shape))}" for n, t in state.items()]
    counts = {
        prefix: [
            sum(n.startswith(prefix) for n in state),
            sum(p.numel() for n, p in parameters.items() if n.startswith(prefix)),
        ]
        for prefix in expected["prefixes"]
    }
    assert counts == expected["prefixes"]
    assert len(lines) == expected["count"] == 139
    assert sum(p.numel() for p in parameters.values()) == 2_744_400
    assert set(expected["some"]) <= set(state)
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == expected["sha256"]
    assert not net.training


def test_square_golden() -> None:
    """The picture of 384 x 384 with a hard mask: statistics and single values."""
    net = fill(plainly_filled)
    case = GOLDEN["square"]
    size = case["height"], case["width"]
    with torch.inference_mode():
        out = net(image=picture(*size), mask=box(*size, (96, 240), (120, 300)), lr=case["lr"])
    assert out["w"].flatten().tolist() == pytest.approx(case["tensors"]["w"], abs=case["tol"])
    for name, wanted in case["tensors"].items():
        if name == "w":
            continue
        t = out[name].double().flatten()
        middle = t.numel() // 2
        assert list(out[name].shape) == wanted["shape"]
        assert t.mean().item() == pytest.approx(wanted["mean"], abs=case["tol_stat"])
        assert t.std().item() == pytest.approx(wanted["std"], abs=case["tol_stat"])
        assert t[:4].tolist() == pytest.approx(wanted["first4"], abs=case["tol"])
        assert t[middle : middle + 4].tolist() == pytest.approx(wanted["mid4"], abs=case["tol"])


def test_soft_golden(net: CDTNet) -> None:
    """A picture that is not square, with a soft mask and a smaller thumbnail."""
    with torch.inference_mode():
        assert soft_misfits(net(**soft_inputs())) == {}


def test_sim_is_the_table_alone(net: CDTNet) -> None:
    """CDTNet (sim): `images` are `lut_images`; everything else is as in the full network."""
    with torch.inference_mode():
        out = reread(net, refinement=False)(**soft_inputs())
    assert torch.equal(out["images"], out["lut_images"])
    assert set(soft_misfits(out)) == {"images"}


def test_goldens_hold_in_a_batch(net: CDTNet) -> None:
    """Each picture of a batch is harmonised as if it were alone."""
    with torch.inference_mode():
        out = net(**_two())
    assert soft_misfits(out, 1) == {}


def _two() -> dict[str, Any]:
    """Another picture, then that of the golden case."""
    inputs = soft_inputs()
    for name in ("image", "mask"):
        inputs[name] = torch.cat([inputs[name].flip(3), inputs[name]])
    return inputs


class _Flipped:
    """torch.nn.functional with the other `align_corners` in every interpolation."""

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)

    @staticmethod
    def interpolate(x: Tensor, size: Any, mode: str, align_corners: bool) -> Tensor:
        return F.interpolate(x, size, mode=mode, align_corners=not align_corners)


def _unordered(self: cdtnet.ColourMapping, w: Tensor) -> Tensor:
    tables = torch.stack([self.get_parameter(f"LUT{n}.LUT") for n in range(w.shape[1])])
    return torch.einsum("bn,n...->b...", w, tables)


def _other_upsample(maps: Tensor, window: Window, *, align_corners: bool) -> Tensor:
    size = window.size.height, window.size.width
    return F.interpolate(maps, size, mode="bilinear", align_corners=not align_corners)


def _gaussian(self: unet.Blur, mask: Tensor) -> Tensor:
    del self  # and with it the weights that were loaded
    return F.conv2d(mask, unet.Blur().weight, padding=3)


PATCHES: dict[str, tuple[Any, str, Any, set[str]]] = {
    "decoder upsamples without align_corners":
        (unet, "F", _Flipped(), {"images", "base_images"}),
    "the thumbnail and pooled mask are resized with align_corners":
        (cdtnet, "F", _Flipped(), {"w", "images", "lut_images", "base_images"}),
    "refinement upsamples with align_corners":
        (cdtnet, "upsample", _other_upsample, {"images"}),
    "tables are read as [r][g][b]":
        (cdtnet.ColourMapping, "combine", _unordered, {"images", "lut_images"}),
    "the blur of the mask is a Gaussian":
        (unet.Blur, "forward", _gaussian, {"images", "base_images"}),
}  # fmt: skip


@pytest.mark.parametrize("case", PATCHES)
def test_goldens_notice_a_changed_step(
    net: CDTNet, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One choice changed, and just the tensors behind it are off."""
    where, name, other, hurt = PATCHES[case]
    monkeypatch.setattr(where, name, other)
    with torch.inference_mode():
        assert set(soft_misfits(net(**soft_inputs()))) == hurt


@pytest.mark.parametrize(
    ("readings", "hurt"),
    [
        ({"pooling": "area"}, {"w", "lut_images", "images"}),
        ({"head": "residual"}, {"images", "base_images"}),
        ({"blend": True}, {"images"}),
        ({"legacy_layout": True}, {"lut_images", "images"}),
    ],
    ids=str,
)
def test_goldens_notice_another_reading(
    net: CDTNet, readings: dict[str, Any], hurt: set[str]
) -> None:
    """Other readings of the paper give other pictures; in a batch, so does the layout."""
    with torch.inference_mode():
        assert set(soft_misfits(reread(net, **readings)(**_two()), 1)) == hurt


def test_clamp_bounds_the_table_alone(net: CDTNet) -> None:
    """clamp=True: where the combined table leaves [0, 1], `lut_images` do not."""
    bright = reread(net)
    bright.lut.classifier.fc.bias.data[0] += 1
    with torch.inference_mode():
        free, held = (
            reread(bright, clamp=clamp)(**soft_inputs())["lut_images"] for clamp in (False, True)
        )
    assert free.max() > 1.05
    assert held.max() <= 1 and held.min() >= 0


# --- Oracles --------------------------------------------------------------------------------


def eight_corners(table: Tensor, rgb: Tensor) -> Tensor:
    """The authors' trilinear lookup in float64: table (3, n, n, n) [channel][b][g][r], rgb
    (3, H, W)."""
    n = table.shape[-1]
    place = rgb.double() / (1.000001 / (n - 1))
    low = place.floor().long().clamp(0, n - 2)
    t = place - low
    out = torch.zeros(rgb.shape, dtype=torch.float64)
    for corner in range(8):
        step = [corner >> c & 1 for c in range(3)]
        r, g, b = (low[c] + step[c] for c in range(3))
        weight = math.prod(t[c] if step[c] else 1 - t[c] for c in range(3))
        out += weight * table.double()[:, b, g, r]
    return out


def test_lookup_against_eight_corners_in_float64() -> None:
    """With random tables, at random colours, at nodes and at both ends."""
    torch.manual_seed(1)
    table = torch.randn(3, 9, 9, 9)
    rgb = torch.rand(1, 3, 40, 50)
    rgb[..., :4, :] = (rgb[..., :4, :] * 8).round() / 8
    rgb[..., 0, 0], rgb[..., 0, 1] = 0, 1
    lut = table.permute(0, 3, 2, 1)[None]
    expected = eight_corners(table, rgb[0])
    assert torch.allclose(cdtnet.look_up(lut, rgb)[0].double(), expected, atol=2e-5, rtol=0)
    # Nodes moved to k / (n - 1): no more than the width of the sliver between them is lost.
    moved = Lut3D(cdtnet.on_nodes(lut)).apply(rgb, rgb[:, :1], Window.whole(Size(40, 50)))
    assert torch.allclose(moved[0].double(), expected, atol=5e-5, rtol=0)


def test_combined_table_equals_the_sum_of_lookups(net: CDTNet) -> None:
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
def test_weights_against_pooling_after_the_convolution(net: CDTNet, pooling: str) -> None:
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


def test_pooling_by_area_does_not_see_the_size_of_the_foreground(net: CDTNet) -> None:
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
    got = cdtnet.look_up(lut, x, legacy_layout=True)
    first = cdtnet.look_up(lut[:1], torch.stack([r0, b0, g1])[None])[0]
    second = cdtnet.look_up(lut[:1], torch.stack([g0, r1, b1])[None])[0]
    assert torch.equal(got[0], torch.stack([first[0], second[0], first[1]]))
    assert torch.equal(got[1], torch.stack([second[1], first[2], second[2]]))
    alone = cdtnet.look_up(lut[:1], x[:1], legacy_layout=True)
    assert torch.equal(alone, cdtnet.look_up(lut[:1], x[:1]))


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


# --- Streaming ------------------------------------------------------------------------------


def seen(image: Tensor, mask: Tensor, edge: int, coarse: int) -> Thumbnail:
    """A thumbnail by the published resize, with the mask that pooling samples."""
    size, masks = Size(*image.shape[2:]), {coarse: resize(mask, coarse)}
    return Thumbnail(resize(image, edge), resize(mask, edge), size, masks=masks)


@pytest.mark.parametrize("rows", [1, 7, 64, 200])
def test_bands_are_the_published_picture(net: CDTNet, rows: int) -> None:
    """`predict` and `apply`, in bands with their halo and in columns, give what `forward` gives:
    whole or in parts, to a thousandth of an 8-bit level."""
    inputs = soft_inputs()
    image, mask, lr = inputs["image"], inputs["mask"], inputs["lr"]
    size = Size(*image.shape[2:])
    with torch.inference_mode():
        expected = net(**inputs)["images"]
        transform = net.predict(seen(image, mask, lr, lr // 8))
        for band in bands(size, rows):
            if rows == 1 and band.top % 20:
                continue
            for left, right in ((0, 130), (130, size.width)):
                window = dataclasses.replace(band, left=left, right=right)
                wide = window.grow(transform.reach.halo, transform.reach.align)
                part = (..., slice(wide.top, wide.bottom), slice(wide.left, wide.right))
                result = transform.apply(image[part], mask[part], wide)
                got = result[(..., *window.inside(wide))]
                whole = expected[..., window.top : window.bottom, left:right]
                assert (got - whole).abs().max() < 4e-6


def test_halo_is_two_rows_and_no_less(net: CDTNet) -> None:
    """With a row less around it, a band is not the picture's any more."""
    inputs = soft_inputs()
    image, mask, lr = inputs["image"], inputs["mask"], inputs["lr"]
    window = Window(60, 100, 0, 333, Size(200, 333))
    with torch.inference_mode():
        transform = net.predict(seen(image, mask, lr, lr // 8))
        expected = net(**inputs)["images"][..., 60:100, :]
        for halo, same in ((2, True), (1, False)):
            wide = window.grow(halo)
            part = (..., slice(wide.top, wide.bottom), slice(None))
            got = transform.apply(image[part], mask[part], wide)[(..., *window.inside(wide))]
            assert ((got - expected).abs().max() < 4e-6) == same
    assert transform.reach.halo == 2


def test_the_full_pictures_mask_is_what_pooling_samples(net: CDTNet) -> None:
    """Point samples of a mask of thin stripes depend on the size that they are taken from:
    given the full picture's, colours are the published ones; by the thumbnail's, they are not."""
    image = soft_inputs()["image"]
    mask = box(200, 333, (37, 121), (55, 180))
    mask[..., ::7] = 0
    with torch.inference_mode():
        expected = net(image, mask, lr=128)
        thumb = seen(image, mask, 128, 16)
        given = net.predict(thumb).apply(image, mask, Window.whole(thumb.full))
        plain = net.predict(Thumbnail(thumb.rgb, thumb.mask, thumb.full))
        near = plain.apply(image, mask, Window.whole(thumb.full))
    assert (given - expected["images"]).abs().max() < 4e-6
    assert (near - expected["images"]).abs().max() > 0.01
    assert net.mask_edges == (32,)
    assert CDTNet(CDTNetConfig.compact()).mask_edges == ()


def test_sim_predicts_a_plain_table_and_runs_no_decoder(
    net: CDTNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table of `predict` is that of `predict_lut`, and gives `lut_images`."""
    inputs = soft_inputs()
    image, mask, lr = inputs["image"], inputs["mask"], inputs["lr"]
    sim = reread(net, refinement=False)
    thumb = seen(image, mask, lr, lr // 8)
    with torch.inference_mode():
        expected = sim(**inputs)["lut_images"]
        monkeypatch.setattr(unet.Decoder, "forward", None)
        table, same = sim.predict(thumb), net.predict_lut(thumb)
        assert isinstance(table, Lut3D)
        assert torch.equal(table.lut, same.lut)
        got = table.apply(image, mask, Window.whole(thumb.full))
    # Its nodes lie at k / (n - 1), not a millionth further: rough tables show that.
    assert (image + mask * (got - image) - expected).abs().max() < 2e-5


# --- Configurations and recognition ---------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        CDTNetConfig.published("cdtnet"),
        CDTNetConfig.published("cdtnet-sim"),
        CDTNetConfig.compact(),
        SMALL,
        dataclasses.replace(SMALL, attention=0.25, norm_from=3, luts=12, lut_size=5),
    ],
    ids=["cdtnet", "sim", "compact", "small", "other"],
)
def test_every_number_is_read_back_from_shapes(config: CDTNetConfig) -> None:
    """Widths, depth, tables and all; readings from their texts; none given: as published."""
    with torch.device("meta"):
        shapes = shapes_of(CDTNet(config).state_dict())
    assert cdtnet.config_from(shapes, readings_of(config)) == config
    assert cdtnet.detect(shapes) == "cdtnet"
    plain = cdtnet.config_from(shapes, {})
    published = CDTNetConfig.published()
    assert readings_of(plain) == readings_of(published)


def test_recognised_by_its_own_keys_only() -> None:
    """Neither libcom's network of that name, nor the U-Net alone, nor one with another input."""
    shapes = shapes_of(cdtnet.published().state_dict())
    libcom = {
        "encoder.model.conv1.weight": (32, 4, 3, 3),
        "lut.LUT0.LUT": (3, 33, 33, 33),
        "lut.classifier.conv.weight": (256, 256, 1, 1),
        "lut.classifier.fc.weight": (6, 768, 1, 1),
    }
    base = {k: v for k, v in shapes.items() if k.startswith(("encoder.", "decoder."))}
    other = {**shapes, "encoder.block0.convs.block.0.block.0.weight": (32, 3, 3, 3)}
    table = {**shapes, "lut.LUT0.LUT": (33, 33, 33, 3)}
    for wrong in (libcom, base, other, table, {}):
        assert cdtnet.detect(wrong) is None
    # One key amiss, and it is still this network: loading says which.
    lost = {
        k: v for k, v in shapes.items() if k != "decoder.up_blocks.0.convs.block.0.block.0.bias"
    }
    assert cdtnet.detect(lost) == "cdtnet"


@pytest.mark.parametrize("bad", [{"pooling": "thorough"}, {"clamp": "perhaps"}, {"thumbnail": "x"}])
def test_unknown_readings_are_refused(bad: dict[str, str]) -> None:
    shapes = shapes_of(cdtnet.published().state_dict())
    with pytest.raises(ValueError, match=next(iter(bad.values()))):
        cdtnet.config_from(shapes, bad)
    with pytest.raises(ValueError, match="variant"):
        cdtnet.published("s2crnet")


@pytest.mark.parametrize("edge", [128, 200, 72])
def test_compact_starts_at_the_identity(edge: int) -> None:
    """Untrained, it changes nothing: w = (1, 0, ...), both blending layers add nothing."""
    torch.manual_seed(5)
    model = CDTNet(CDTNetConfig.compact()).eval()
    assert sum(p.numel() for p in model.parameters()) <= 6e6
    image, mask = picture(90, 131), ellipse(90, 131)
    with torch.inference_mode():
        thumb = Thumbnail(resize(image, edge), resize(mask, edge), Size(90, 131))
        transform, table = model.predict_both(thumb)
        for t in (transform, table):
            result = t.apply(image, mask, Window.whole(thumb.full))
            assert (result - image).abs().max() < 5e-6
    assert transform.base.shape == (1, 3, edge, edge)


def test_compact_trains() -> None:
    """A few steps undo a tint that is the same in every picture: tables and weights both move."""
    torch.manual_seed(6)
    config = dataclasses.replace(
        CDTNetConfig.compact(), widths=(8, 8, 16), attend_from=1, lut_size=9
    )
    model = CDTNet(config).train()
    rate = torch.optim.Adam(model.parameters(), 2e-3)
    size, losses = Size(32, 32), []
    truth = torch.rand(8, 3, 32, 32) * 0.6
    mask = box(32, 32, (8, 24), (4, 28)).expand(8, -1, -1, -1)
    image = truth + mask * torch.tensor([0.2, 0.0, -0.1]).view(1, 3, 1, 1)
    for _ in range(15):
        transform, table = model.predict_both(Thumbnail(image, mask, size))
        results = [t.apply(image, mask, Window.whole(size)) for t in (transform, table)]
        loss = sum(((r - truth).square() * mask).sum() / mask.sum() for r in results)
        rate.zero_grad()
        loss.backward()
        rate.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


# --- The laws -------------------------------------------------------------------------------


def wild(config: CDTNetConfig) -> CDTNet:
    """Random weights far from the identity."""
    model = CDTNet(config)
    for name, t in model.state_dict().items():
        if name.endswith(("running_mean", "to_rgb.weight", "to_rgb.bias")):
            t.normal_(0, 0.3)
        elif name.endswith("fc.weight"):
            t.normal_(0, 0.5)
        elif name.endswith(".LUT"):
            t.add_(torch.randn_like(t), alpha=0.01)
    return model.eval()


class TestSmallCDTNet(ModelContract):
    """The published readings in a small size."""

    module = hzcli.models.cdtnet

    def model(self) -> CDTNet:
        return wild(SMALL)


class TestCompactReadings(ModelContract):
    """Our own readings."""

    module = hzcli.models.cdtnet

    def model(self) -> CDTNet:
        ours = readings_of(CDTNetConfig.compact())
        config = cdtnet.config_from(shapes_of(CDTNet(SMALL).state_dict()), ours)
        return wild(dataclasses.replace(config, thumbnail=48))


class TestSim(ModelContract):
    """The table alone."""

    module = hzcli.models.cdtnet
    # The table is predicted from the encoder: nothing else is reached.
    unused = (r"^decoder\.", r"^refine\.")

    def model(self) -> CDTNet:
        return wild(dataclasses.replace(SMALL, refinement=False))
