"""The published HINet: keys, golden numbers, and that each of them can fail."""

from __future__ import annotations

from contextlib import AbstractContextManager
from unittest import mock

import pytest
import torch
from ruled_nets import fill, golden, key_misfits, misfits, picture, rectangle
from torch import Tensor
from torch.nn import functional as F

from hzcli.models import hinet
from hzcli.models.hinet import PublishedConfig, PublishedHINet, as_published
from hzcli.models.hinet.as_published import Encoded

GOLDEN = golden("hinet")


def golden_inputs(size: int) -> tuple[Tensor, Tensor]:
    """Picture in [-1, 1] and mask of the golden cases."""
    return picture(size, size) * 2 - 1, rectangle(size, size)


@pytest.fixture(scope="module")
def net() -> PublishedHINet:
    return fill(hinet.published("hinet"), GOLDEN["weight_rule"])


def test_keys_and_shapes_are_the_published_ones(net: PublishedHINet) -> None:
    """2007 keys in the published order and 38,205,139 parameters."""
    assert key_misfits(net, {**GOLDEN["keys"], "parameters": 38_205_139}) == []


def test_weights_by_rule_are_the_golden_weights(net: PublishedHINet) -> None:
    """Without this, a golden failure could be the rule's and not the network's."""
    state = net.state_dict()
    for name, first in GOLDEN["weight_check"].items():
        assert state[name].flatten()[:4].tolist() == pytest.approx(first, abs=1e-7)
    floats = [t.double() for t in state.values() if t.is_floating_point()]
    assert sum(t.sum().item() for t in floats) == pytest.approx(GOLDEN["weights_sum"], rel=1e-8)
    squares = sum(t.square().sum().item() for t in floats)
    assert squares == pytest.approx(GOLDEN["weights_sumsq"], rel=1e-8)


@pytest.fixture(scope="module")
def known(net: PublishedHINet) -> dict[int, Encoded]:
    """What the encoder says of the golden cases, for tests that change the decoder alone."""
    with torch.inference_mode():
        return {size: net.encode(*golden_inputs(size)) for size in (256, 512)}


def answer(net: PublishedHINet, size: int, encoded: Encoded | None = None) -> dict[str, Tensor]:
    """All tensors of a golden case."""
    image, mask = golden_inputs(size)
    with torch.inference_mode():
        encoded = encoded or net.encode(image, mask)
        with mock.patch.object(net, "encode", return_value=encoded):
            found = net(image, mask)
    return {
        **found,
        "hrnet_out": encoded.hrnet,
        "deconv_out": encoded.deconv,
        "appearance": encoded.appearance,
        **{f"hyper_block{2 - n}": cells for n, cells in enumerate(encoded.cells)},
    }


def wrong(net: PublishedHINet, size: int, encoded: Encoded | None = None) -> set[str]:
    """Names of the golden tensors that the network does not give."""
    wanted, found = GOLDEN["cases"][str(size)], answer(net, size, encoded)
    assert set(wanted) == set(found)
    return {name for name in wanted if misfits(found[name], wanted[name])}


@pytest.mark.parametrize("size", [256, 512])
def test_numbers_are_those_of_the_authors_code(
    net: PublishedHINet, known: dict[int, Encoded], size: int
) -> None:
    """Not told apart here: the raw table (a whole picture's 256 x 256 level lies on the table's
    own places) and the order of the two regions (the attention is symmetric)."""
    assert wrong(net, size, known[size]) == set()


# --- Each golden number can fail ------------------------------------------------------------

AFTER_HRNET = {"hrnet_out", "deconv_out", "appearance", "lut", "lut_image", "composited"}
AFTER_HRNET |= {f"rgb_level{n}" for n in range(3)}


def interpolation(module: str, **changed: object) -> AbstractContextManager:
    """F.interpolate with other options than asked for, where `module` calls it."""
    plain = F.interpolate

    def other(x: Tensor, *args: object, **options: object) -> Tensor:
        return plain(x, *args, **{**options, **changed})

    return mock.patch(f"{module}.F.interpolate", other)


def test_the_aligned_prior_is_another_network(
    net: PublishedHINet, known: dict[int, Encoded]
) -> None:
    """The raw re-view changed: wrong from the second level on, right before."""
    with mock.patch.object(net, "config", PublishedConfig("aligned")):
        assert wrong(net, 256, known[256]) == {"rgb_level1", "rgb_level2", "composited"}


def test_one_align_corners_of_hrnet_is_another_network(net: PublishedHINet) -> None:
    """Its branches are joined with corners on corners; all that hangs on them is wrong."""
    plain = F.interpolate

    def other(x: Tensor, *args: object, **options: object) -> Tensor:
        flipped = options.get("align_corners") is True
        return plain(x, *args, **{**options, "align_corners": (not flipped and None) or False})

    with mock.patch("hzcli.nets.hrnet.F.interpolate", other):
        assert wrong(net, 256) == AFTER_HRNET


def test_one_align_corners_of_resizing_is_another_network(net: PublishedHINet) -> None:
    """Pictures, levels and the prior are resized with pixels as areas: all there is is wrong."""
    with interpolation("hzcli.models.hinet.as_published", align_corners=True):
        assert wrong(net, 512) == set(GOLDEN["cases"]["512"])


def test_one_align_corners_of_the_table_is_another_network(
    net: PublishedHINet, known: dict[int, Encoded]
) -> None:
    """At 512 only the middle level has the 65536 vectors that read the table as it is."""
    plain = F.grid_sample

    def other(x: Tensor, grid: Tensor, **options: object) -> Tensor:
        if x.ndim == 4:  # the position table; the colour table has five dimensions
            options["align_corners"] = False
        return plain(x, grid, **options)

    with mock.patch("hzcli.nets.hinet_heads.F.grid_sample", other):
        assert {"rgb_level0", "rgb_level1", "rgb_level2"} <= wrong(net, 512, known[512])


def test_one_align_corners_of_the_lut_is_another_network(
    net: PublishedHINet, known: dict[int, Encoded]
) -> None:
    plain = F.grid_sample

    def other(x: Tensor, grid: Tensor, **options: object) -> Tensor:
        return plain(x, grid, **{**options, "align_corners": x.ndim == 4})

    with mock.patch("hzcli.core.lut.F.grid_sample", other):
        assert wrong(net, 256, known[256]) == {"lut_image"}


def test_a_pooled_coarse_level_is_another_network(
    net: PublishedHINet, known: dict[int, Encoded]
) -> None:
    """A quarter is the mean of the middle 2 x 2 of 4 x 4 pixels, not of all of them; a half is
    the mean of 2 x 2 either way."""

    def pooled(x: Tensor, height: int, width: int) -> Tensor:
        return F.adaptive_avg_pool2d(x, (height, width))

    with mock.patch.object(as_published, "_resize", pooled):
        assert wrong(net, 256, known[256]) == {"rgb_level0"}


def test_pooling_by_the_area_of_the_mask_is_another_network(net: PublishedHINet) -> None:
    """HRNet gathers its two regions by a softmax of the raw mask, which hardly tells them
    apart; means over foreground and background would."""

    def by_area(features: Tensor, mask: Tensor) -> Tensor:
        small = F.interpolate(mask, features.shape[2:], mode="bilinear", align_corners=True)
        regions = torch.cat([small, 1 - small], 1).flatten(2)
        weights = regions / regions.sum(2, keepdim=True)
        return (weights @ features.flatten(2).mT).mT.unsqueeze(3)

    with mock.patch("hzcli.nets.hrnet.gather_regions", by_area):
        assert wrong(net, 256) == AFTER_HRNET


# --- More than the goldens ------------------------------------------------------------------


def test_batch_is_its_pictures_one_by_one(net: PublishedHINet) -> None:
    """Two pictures that are not square, together and alone."""
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, 3, 68, 100, generator=generator) * 2 - 1
    mask = torch.rand(2, 1, 68, 100, generator=generator)
    with torch.inference_mode():
        both = net(image, mask)
        second = net(image[1:], mask[1:])
    for name, expected in second.items():
        torch.testing.assert_close(both[name][1:], expected, atol=5e-5, rtol=0)


def test_sizes_that_do_not_nest_are_refused(net: PublishedHINet) -> None:
    """Levels are a half and a quarter of the picture: multiples of 4 only."""
    with torch.inference_mode():
        prediction = net.encode(*golden_inputs(256))
        with pytest.raises(ValueError, match="66x64"):
            net.render(prediction, torch.zeros(1, 3, 64, 66), torch.zeros(1, 1, 64, 66))


def test_gradient_reaches_every_parameter() -> None:
    """All three levels and the table together depend on all that is learnt."""
    torch.manual_seed(7)
    net = PublishedHINet().train()
    answer = net(torch.rand(2, 3, 32, 32) * 2 - 1, torch.rand(2, 1, 32, 32))
    loss = sum(answer[name].square().sum() for name in ("rgb_level0", "rgb_level2", "lut_image"))
    loss.backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_the_authors_keys_are_read_back(net: PublishedHINet) -> None:
    """Known by keys and shapes; the prior comes from metadata, as published if there is none."""
    shapes = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    assert hinet.detect(shapes) == "hinet"
    assert hinet.config_from(shapes, {}) == PublishedConfig("published")
    aligned = hinet.config_from(shapes, {"prior": "aligned"})
    assert aligned == PublishedConfig("aligned")
    with torch.device("meta"):
        assert hinet.build(aligned).config == aligned
    with pytest.raises(ValueError, match="scrambled"):
        hinet.config_from(shapes, {"prior": "scrambled"})
    del shapes["backbone.mask_conv.1.scale"]
    assert hinet.detect(shapes) is None
