"""The published HINet, streamed: equal to the whole picture's golden numbers and to `render`."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from contract import HALF_CODE
from held_pictures import Codes, Held, Rows, bound, soft_mask, tensors
from held_pictures import picture as codes_of
from ruled_nets import fill, golden, misfits, picture, rectangle
from torch.nn import functional as F

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.engine import stream, thumbnail
from hzcli.engine.plan import Plan
from hzcli.models import hinet
from hzcli.models.hinet import PublishedConfig, PublishedHINet, windows
from hzcli.nets import hinet_cells

GOLDEN = golden("hinet")
PRIORS = ("published", "aligned")
# Squares, sizes whose cells are ragged, sizes to be continued, few pixels, a level of exactly
# 65536 pixels that is not the table's square (128 x 512).
SIZES = [(64, 100), (67, 45), (3, 2), (1, 37), (41, 1), (128, 512), (300, 131)]


@pytest.fixture(scope="module")
def net() -> PublishedHINet:
    """By rule; encodes each thumbnail once."""
    model = fill(hinet.published("hinet"), GOLDEN["weight_rule"]).requires_grad_(False)
    plain, known = model.encode, {}

    def encode(image, mask, *, cells=True):
        key = (tuple(image.shape), float(image.double().sum()), float(mask.double().sum()))
        if key not in known:
            known[key] = plain(image, mask)
        return known[key]

    model.encode = encode
    return model


def rendered(net: PublishedHINet, rgb: torch.Tensor, mask: torch.Tensor, thumb: Thumbnail):
    """The published decoder on the whole picture, continued to multiples of 4: [0, 1]."""
    height, width = rgb.shape[2:]
    over = (0, -width % 4, 0, -height % 4)
    image, soft = (F.pad(t, over, mode="replicate") for t in (rgb * 2 - 1, mask))
    encoded = net.encode(thumb.rgb * 2 - 1, thumb.mask)
    return (net.render(encoded, image, soft)[-1][..., :height, :width] + 1) / 2


@pytest.mark.parametrize("size", [256, 512])
def test_streamed_pictures_have_the_golden_numbers(net: PublishedHINet, size: int) -> None:
    """From the thumbnail that the streaming filter makes, through `predict` and `bind`."""
    rgb, mask = picture(size, size), rectangle(size, size)
    edge = net.thumbnail_edge
    small = thumbnail.resize(
        rgb[0].permute(1, 2, 0).numpy(), edge, edge, net.thumbnail_filter
    ).transpose(2, 0, 1)
    soft = thumbnail.resize(mask[0, 0, ..., None].numpy(), edge, edge, net.thumbnail_filter)
    thumb = Thumbnail(
        torch.from_numpy(small.copy())[None],
        torch.from_numpy(soft[..., 0].copy())[None, None],
        Size(size, size),
    )
    with torch.inference_mode():
        transform = bound(net.predict(thumb), rgb, mask)
        result = transform.apply(rgb, mask, Window.whole(thumb.full)) * 2 - 1
        composited = torch.where(mask > 0, result, rgb * 2 - 1)
        # Every pixel, wherever the mask is: rgb_level2 itself.
        with mock.patch.object(windows, "_finest", everywhere):
            everything = transform.apply(rgb, mask, Window.whole(thumb.full)) * 2 - 1
    wanted = GOLDEN["cases"][str(size)]
    assert misfits(composited, wanted["composited"]) == []
    assert misfits(everything, wanted["rgb_level2"]) == []


def everywhere(level, rgb, mask, window, prior):
    """`windows._finest` without regard to the mask."""
    out = rgb.clone()
    pixels = torch.cat([rgb * 2 - 1, mask[None]])
    for patch, values in level.decode(pixels, (window.top, window.left), prior):
        patch.put((level.colours(values) + 1) / 2, out)
    return out


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_windows_equal_the_whole_picture(
    net: PublishedHINet, size: tuple[int, int], prior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any size, in strips, small blocks and odd windows, against the published whole decoder."""
    monkeypatch.setattr(net, "config", PublishedConfig(prior))
    monkeypatch.setattr(windows, "STRIP", 64 * size[1])
    monkeypatch.setattr(hinet_cells, "LARGEST", 5)
    mask = np.zeros(size, np.uint8) if min(size) < 4 else soft_mask(*size)
    mask.flat[mask.size // 2 :: 3] = 200
    rgb, soft = tensors(codes_of(*size), mask)
    whole = Size(*size)
    thumb = Thumbnail(picture(256, 256), rectangle(256, 256), whole)
    with torch.inference_mode():
        expected = rendered(net, rgb, soft, thumb)
        transform = bound(net.predict(thumb), rgb, soft)
        reach = transform.reach
        third = [Window(0, size[0], 0, size[1], whole)]
        for a, b in ((size[0] // 3, 2 * size[0] // 3 + 1), (0, size[0] // 2 + 1)):
            third.append(Window(a, b, size[1] // 4, size[1] // 2 + 1, whole))
        for window in third:
            seen = window.grow(reach.halo, reach.align)
            part = (..., slice(seen.top, seen.bottom), slice(seen.left, seen.right))
            got = transform.apply(rgb[part], soft[part], seen)
            inner = (..., *window.inside(seen))
            own = (..., slice(window.top, window.bottom), slice(window.left, window.right))
            error = (got[inner] - expected[own]).abs() * (soft[own] > 0)
            assert error.max() <= HALF_CODE


def test_a_halo_too_small_shows(net: PublishedHINet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The aligned reading needs its 4 pixels: with none, windows differ from the whole."""
    monkeypatch.setattr(net, "config", PublishedConfig("aligned"))
    size = Size(96, 80)
    rgb, mask = picture(96, 80), torch.ones(1, 1, 96, 80)
    with torch.inference_mode():
        transform = net.predict(Thumbnail(picture(256, 256), rectangle(256, 256), size))
        whole = transform.apply(rgb, mask, Window.whole(size))
        cut = Window(32, 64, 0, 80, size)
        part = (..., slice(32, 64), slice(0, 80))
        got = transform.apply(rgb[part], mask[part], cut)
    assert (got - whole[..., 32:64, :]).abs().max() > 10 * HALF_CODE
    assert (got - whole[..., 32:64, :])[..., 4:-4, :].abs().max() <= HALF_CODE


@pytest.mark.parametrize("prior", PRIORS)
def test_the_engine_delivers_the_published_picture(
    net: PublishedHINet, prior: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From codes to codes, bands of 40 rows, results kept in a file: all of it together."""
    monkeypatch.setattr(net, "config", PublishedConfig(prior))
    codes, mask = codes_of(135, 210), soft_mask(135, 210)
    rows = Rows()
    with (
        mock.patch.object(stream, "plan", return_value=Plan(40, 64, 0, "")),
        mock.patch.object(stream, "room", return_value=0),
    ):
        stream.harmonise(Codes(codes), Codes(mask), net, rows)
    rgb, soft = tensors(codes, mask)
    thumb = thumbnail.make(Codes(codes), Codes(mask), 256, "bilinear").thumbnail
    result = rendered(net, rgb, soft, thumb)
    expected = (rgb + soft * (result - rgb))[0].permute(1, 2, 0).double().numpy()
    assert np.abs(rows.array / 65535 - expected).max() <= 2 * HALF_CODE
    assert np.abs(rows.array / 65535 - codes / 65535).max() > 0.1


def test_only_pixels_in_the_mask_are_decoded_at_full_size(
    net: PublishedHINet, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    run = hinet_cells.run_mlp
    monkeypatch.setattr(
        hinet_cells, "run_mlp", lambda x, w: decoded.append(len(x) * x.shape[2]) or run(x, w)
    )
    size = Size(256, 256)
    rgb, mask = picture(256, 256), torch.zeros(1, 1, 256, 256)
    mask[..., 100:110, 60:90] = 1
    with torch.inference_mode():
        transform = net.predict(Thumbnail(rgb, mask, size)).bind(Held(rgb, mask))
        decoded.clear()
        transform.apply(rgb, mask, Window.whole(size))
    assert sum(decoded) <= 2 * 16 * 36  # cells of 4 x 4 that the mask meets; and colours


def test_two_pictures_are_decoded_each_by_its_own_function(net: PublishedHINet) -> None:
    """The aligned reading takes batches."""
    with mock.patch.object(net, "config", PublishedConfig("aligned")), torch.inference_mode():
        rgb = torch.cat([picture(40, 48), picture(40, 48, 1.0)])
        mask = rectangle(40, 48).expand(2, -1, -1, -1)
        thumbs = Thumbnail(
            torch.cat([picture(256, 256), picture(256, 256, 2.0)]),
            rectangle(256, 256).expand(2, -1, -1, -1),
            Size(40, 48),
        )
        both = net.predict(thumbs).apply(rgb, mask, Window.whole(thumbs.full))
        alone = Thumbnail(thumbs.rgb[1:], thumbs.mask[1:], thumbs.full)
        second = net.predict(alone).apply(rgb[1:], mask[1:], Window.whole(thumbs.full))
    assert (both[1:] - second).abs().max() < 5e-5
    assert (both[:1] - second).abs().max() > 0.01


def test_the_table_is_the_encoders(net: PublishedHINet) -> None:
    rgb, mask = picture(256, 256), rectangle(256, 256)
    with torch.inference_mode():
        table = net.predict_lut(Thumbnail(rgb, mask, Size(256, 256)))
    assert misfits(table.lut, GOLDEN["cases"]["256"]["lut"]) == []
