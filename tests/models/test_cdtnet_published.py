"""CDTNet as published: the numbers of its authors' code, its keys and readings, the laws."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from contract import ModelContract, readings_of, shapes_of
from ruled_cdtnets import (
    GOLDEN,
    SMALL,
    box,
    fill,
    plainly_filled,
    reread,
    soft_inputs,
    soft_misfits,
    two,
    wildly_filled,
)
from ruled_nets import key_misfits, picture
from torch import Tensor
from torch.nn import functional as F

import hzcli.models.cdtnet
from hzcli.core.window import Window
from hzcli.models import cdtnet
from hzcli.models.cdtnet import PublishedCDTNet, PublishedConfig, as_published, mapping
from hzcli.nets import unet


@pytest.fixture(scope="module")
def net() -> PublishedCDTNet:
    return fill(wildly_filled)


# --- Keys and goldens -----------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["cdtnet", "cdtnet-sim"])
def test_keys_and_shapes_are_the_published_ones(variant: str) -> None:
    """139 keys in the published order and 2,744,400 parameters, whether refined or not."""
    expected = GOLDEN["keys"]
    net = cdtnet.published(variant)
    assert key_misfits(net, {**expected, "parameters": 2_744_400}) == []
    assert set(expected["some"]) <= set(net.state_dict())
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


def test_soft_golden(net: PublishedCDTNet) -> None:
    """A picture that is not square, with a soft mask and a smaller thumbnail."""
    with torch.inference_mode():
        assert soft_misfits(net(**soft_inputs())) == {}


def test_sim_is_the_table_alone(net: PublishedCDTNet) -> None:
    """CDTNet (sim): `images` are `lut_images`; everything else is as in the full network."""
    with torch.inference_mode():
        out = reread(net, refinement=False)(**soft_inputs())
    assert torch.equal(out["images"], out["lut_images"])
    assert set(soft_misfits(out)) == {"images"}


def test_goldens_hold_in_a_batch(net: PublishedCDTNet) -> None:
    """Each picture of a batch is harmonised as if it were alone."""
    with torch.inference_mode():
        out = net(**two())
    assert soft_misfits(out, 1) == {}


class _Flipped:
    """torch.nn.functional with the other `align_corners` in every interpolation."""

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)

    @staticmethod
    def interpolate(x: Tensor, size: Any, mode: str, align_corners: bool) -> Tensor:
        return F.interpolate(x, size, mode=mode, align_corners=not align_corners)


def _unordered(self: mapping.ColourMapping, w: Tensor) -> Tensor:
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
        (as_published, "F", _Flipped(), {"w", "images", "lut_images", "base_images"}),
    "refinement upsamples with align_corners":
        (as_published, "upsample", _other_upsample, {"images"}),
    "tables are read as [r][g][b]":
        (mapping.ColourMapping, "combine", _unordered, {"images", "lut_images"}),
    "the blur of the mask is a Gaussian":
        (unet.Blur, "forward", _gaussian, {"images", "base_images"}),
}  # fmt: skip


@pytest.mark.parametrize("case", PATCHES)
def test_goldens_notice_a_changed_step(
    net: PublishedCDTNet, case: str, monkeypatch: pytest.MonkeyPatch
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
        ({"blend": True}, {"images"}),
        ({"legacy_layout": True}, {"lut_images", "images"}),
    ],
    ids=["pooling", "blend", "layout"],
)
def test_goldens_notice_another_reading(
    net: PublishedCDTNet, readings: dict[str, Any], hurt: set[str]
) -> None:
    """Other readings of the paper give other pictures; in a batch, so does the layout."""
    with torch.inference_mode():
        assert set(soft_misfits(reread(net, **readings)(**two()), 1)) == hurt


def test_clamp_bounds_the_table_alone(net: PublishedCDTNet) -> None:
    """clamp=True: where the combined table leaves [0, 1], `lut_images` do not."""
    bright = reread(net)
    bright.lut.classifier.fc.bias.data[0] += 1
    with torch.inference_mode():
        free, held = (
            reread(bright, clamp=clamp)(**soft_inputs())["lut_images"] for clamp in (False, True)
        )
    assert free.max() > 1.05
    assert held.max() <= 1 and held.min() >= 0


# --- Configurations and recognition ---------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        PublishedConfig.published("cdtnet"),
        PublishedConfig.published("cdtnet-sim"),
        SMALL,
        dataclasses.replace(SMALL, attention=0.25, norm_from=3, luts=12, lut_size=5),
    ],
    ids=["cdtnet", "sim", "small", "other"],
)
def test_every_number_is_read_back_from_shapes(config: PublishedConfig) -> None:
    """Widths, depth, tables and all; readings from their texts; none given: as published."""
    with torch.device("meta"):
        shapes = shapes_of(PublishedCDTNet(config).state_dict())
    assert cdtnet.config_from(shapes, readings_of(config)) == config
    assert cdtnet.detect(shapes) == "cdtnet"
    plain = cdtnet.config_from(shapes, {})
    published = PublishedConfig.published()
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


# --- The laws -------------------------------------------------------------------------------


def wild(config: PublishedConfig) -> PublishedCDTNet:
    """Random weights far from the identity."""
    model = PublishedCDTNet(config)
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

    def model(self) -> PublishedCDTNet:
        return wild(SMALL)


class TestOtherReadings(ModelContract):
    """The paper's, where the code has others."""

    module = hzcli.models.cdtnet

    def model(self) -> PublishedCDTNet:
        readings = {"pooling": "area", "clamp": True, "blend": True, "thumbnail_filter": "area"}
        return wild(dataclasses.replace(SMALL, thumbnail=48, **readings))


class TestSim(ModelContract):
    """The table alone."""

    module = hzcli.models.cdtnet
    # The table is predicted from the encoder: nothing else is reached.
    unused = (r"^decoder\.", r"^refine\.")

    def model(self) -> PublishedCDTNet:
        return wild(dataclasses.replace(SMALL, refinement=False))
