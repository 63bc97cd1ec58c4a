"""Masks as they are used: channel, size, inverted, cut and soft, whatever they were saved as."""

from __future__ import annotations

from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from ruled_pictures import rough, smooth, stored_as

from hzcli.core.window import Size, Window, bands
from hzcli.errors import MaskError, UsageError
from hzcli.io import masks, soften
from hzcli.io.masks import MaskOptions, open_prepared, prepared, union

GREY = smooth(60, 80)[..., 0]


class Held:
    """A mask in memory."""

    def __init__(self, array, name="m.png"):
        self.array, self.size = array, Size(*array.shape)
        self.depth = 8 * array.dtype.itemsize
        self.path, self.closed = Path(name), 0

    def read(self, window):
        assert 0 <= window.top < window.bottom <= self.size.height
        assert 0 <= window.left < window.right <= self.size.width
        return self.array[window.top : window.bottom, window.left : window.right]

    def close(self):
        self.closed += 1


def whole(array, size=None, **options):
    reader = Held(array) if isinstance(array, np.ndarray) else array
    mask = prepared(reader, MaskOptions(**options), size or reader.size)
    return mask.read(Window.whole(mask.size))


def opened(path, **options):
    with open_prepared(path, MaskOptions(**options)) as reader:
        return reader.read(Window.whole(reader.size)).copy()


# What is not asked for


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_mask_that_needs_nothing_is_left_alone(dtype):
    reader = Held(rough(9, 7, 1, dtype)[..., 0])
    assert prepared(reader, MaskOptions(), reader.size) is reader


@pytest.mark.parametrize(
    "options",
    [
        {"source": "layer"},
        {"source": "psd:"},
        {"channel": "x"},
        {"feather": -1},
        {"feather": 501},
        {"feather": float("nan")},
        {"threshold": 0},
        {"threshold": 1.5},
        {"resize": "nearest"},
        {"source": "alpha", "channel": "r"},
    ],
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UsageError):
        MaskOptions(**options)


# Depths


@pytest.mark.parametrize("options", [{"invert": True}, {"feather": 3}, {"threshold": 0.2}])
def test_eight_and_sixteen_bits_and_float_give_one_mask(options):
    """A mask is the same however many bits it was saved with."""
    wide, floats = GREY.astype(np.uint16) * 257, (GREY / 255).astype(np.float32)
    assert np.array_equal(whole(GREY, **options), whole(wide, **options))
    assert np.array_equal(whole(GREY, **options), whole(floats, **options))


def test_one_bit_is_black_and_white(tmp_path):
    bits = GREY > 128
    tifffile.imwrite(tmp_path / "m.tif", bits, photometric="minisblack")
    Image.fromarray((bits * 255).astype(np.uint8)).save(tmp_path / "m.png")
    assert set(np.unique(opened(tmp_path / "m.tif", feather=2))) > {0, 65535}
    for options in ({"invert": True}, {"feather": 2}):
        assert np.array_equal(
            opened(tmp_path / "m.tif", **options), opened(tmp_path / "m.png", **options)
        )


def test_floats_become_sixteen_bits():
    ramp = np.linspace(-0.2, 1.2, 1000, dtype=np.float32)[None]
    expected = np.floor(ramp.clip(0, 1).astype(np.float64) * 65535 + 0.5)
    assert np.abs(whole(ramp).astype(float) - expected).max() <= 1
    assert whole(np.array([[0, 1]], np.float32)).tolist() == [[0, 65535]]


@pytest.mark.parametrize("value", [255.0, float("nan")])
def test_floats_that_are_no_shares_are_refused(value):
    with pytest.raises(MaskError, match="expected 0 to 1"):
        whole(np.array([[0, value]], np.float32))


# Pixel by pixel


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.sampled_from([np.uint8, np.uint16]))
def test_inverted_twice_is_the_mask(seed, dtype):
    mask = rough(11, 13, 1, dtype, seed)[..., 0]
    once = whole(mask, invert=True)
    assert np.array_equal(once, 65535 - masks.widened(mask))
    assert np.array_equal(whole(once, invert=True), masks.widened(mask))


@pytest.mark.parametrize("threshold", [0.2, 0.5, 1.0, 1 / 255])
def test_the_threshold_cuts_where_it_says(threshold):
    codes = np.arange(256, dtype=np.uint8)[None]
    expected = np.where(np.arange(256) >= round(threshold * 255, 9), 65535, 0)
    assert np.array_equal(whole(codes, threshold=threshold)[0], expected)


def test_a_mask_is_inverted_before_it_is_cut_and_cut_before_it_is_soft():
    cut = whole(GREY, invert=True, threshold=0.3)
    assert np.array_equal(cut, np.where(255 - GREY.astype(int) >= 0.3 * 255, 65535, 0))
    both = whole(GREY, invert=True, threshold=0.3, feather=4)
    assert np.array_equal(both, whole(cut, feather=4))


# Soft edges


def blurred(mask, pixels):
    """By OpenCV, in float64: codes of 16 bits, not rounded."""
    reach = int(1.5 * pixels)
    kernel = cv2.getGaussianKernel(2 * reach + 1, pixels / 2)
    values = mask.astype(np.float64) / np.iinfo(mask.dtype).max * 65535
    return cv2.sepFilter2D(values, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_REPLICATE)


SHAPES = ((300, 700), (1, 900), (900, 1), (5, 3), (270, 257))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("pixels", [1, 2.5, 20, 70])
def test_feathering_is_a_gaussian(shape, pixels):
    """As OpenCV blurs it, at any size, up to the rounding to 16 bits."""
    mask = 255 * (rough(*shape, 1, np.uint8)[..., 0] > 200).astype(np.uint8)
    mask[: shape[0] // 2, : shape[1] // 2] = 255
    assert np.abs(whole(mask, feather=pixels) - blurred(mask, pixels)).max() < 0.7


def test_an_edge_is_softened_over_the_pixels_that_were_asked_for():
    """19 parts in 20 within them to each side, half at the edge, nothing one and a half away."""
    mask = np.zeros((3, 400), np.uint8)
    mask[:, 200:] = 255
    line = whole(mask, feather=20)[1] / 65535
    assert line[179] < 0.025 and line[219] > 0.975
    assert line[199] + line[200] == pytest.approx(1, abs=1e-4)
    assert line[160] == 0 and line[239] == 1
    assert (np.diff(line) >= 0).all()


def test_a_foreground_that_the_border_cuts_is_not_faded_there():
    mask = np.full((50, 60), 255, np.uint8)
    assert (whole(mask, feather=30) == 65535).all()
    mask[:, 40:] = 0
    assert (whole(mask, feather=8)[:, :20] == 65535).all()


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.floats(0.3, 40),
    st.tuples(*[st.floats(0, 1)] * 4),
)
def test_windows_of_a_soft_mask_equal_the_whole(height, width, pixels, corners):
    """L1, of the filter itself: any window, to half a 16-bit code."""
    mask = rough(height, width, 1, np.uint8, height)[..., 0]
    soft = soften.Feathered(masks._Values(Held(mask)), pixels)
    everything = soft.read(Window.whole(soft.size))
    top, bottom = sorted(int(c * height) for c in corners[:2])
    left, right = sorted(int(c * width) for c in corners[2:])
    window = Window(top, max(bottom, top + 1), left, max(right, left + 1), soft.size)
    window = Window(min(top, height - 1), *(min(window.bottom, height), min(left, width - 1)),
                    min(window.right, width), soft.size)  # fmt: skip
    part = soft.read(window)
    error = np.abs(part - everything[window.inside(Window.whole(soft.size))])
    assert error.max() * 65535 < 0.5


@pytest.mark.parametrize("budget", [None, 1])
@pytest.mark.parametrize("rows", [1, 37, 200])
def test_bands_of_a_prepared_mask_are_the_whole_bit_for_bit(budget, rows):
    """Also where it lies in a file instead of in memory."""
    mask = rough(300, 333, 1, np.uint8)[..., 0]
    options = MaskOptions(feather=9, invert=True)
    expected = whole(mask, feather=9, invert=True)
    with prepared(Held(mask), options, Size(300, 333), budget_bytes=budget) as reader:
        parts = [reader.read(band) for band in bands(reader.size, rows)]
        assert np.array_equal(np.concatenate(parts), expected)
        window = Window(7, 290, 130, 262, reader.size)
        assert np.array_equal(reader.read(window), expected[7:290, 130:262])


def test_where_a_mask_is_flat_it_stays_exactly_so():
    mask = np.zeros((600, 900), np.uint8)
    mask[200:400, 300:600] = 255
    soft = whole(mask, feather=40)
    assert (soft[:139] == 0).all() and (soft[:, :239] == 0).all()
    assert (soft[261:339, 361:539] == 65535).all()


# Sizes


def pillow(mask, size, kind):
    """By Pillow, in its float mode."""
    filters = {"bilinear": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}
    floats = Image.fromarray(mask.astype(np.float32) / np.iinfo(mask.dtype).max)
    out = np.asarray(floats.resize((size.width, size.height), filters[kind]))
    return out.clip(0, 1).astype(np.float64) * 65535


@pytest.mark.parametrize("kind", ["bilinear", "lanczos"])
@pytest.mark.parametrize("target", [(60, 80), (121, 161), (300, 400), (23, 31), (60, 33), (7, 300)])
def test_resizing_is_what_pillow_does(kind, target):
    mask = rough(59, 79, 1, np.uint8)[..., 0]
    size = Size(*target)
    assert np.abs(whole(mask, size, resize=kind) - pillow(mask, size, kind)).max() < 1.5


@pytest.mark.parametrize("target", [(120, 160), (181, 239)])
def test_growing_bilinearly_is_what_opencv_does(target):
    mask = rough(60, 80, 1, np.uint8)[..., 0]
    expected = cv2.resize(mask.astype(np.float64) * 257, target[::-1])
    assert np.abs(whole(mask, Size(*target), resize="bilinear") - expected).max() < 1


@pytest.mark.parametrize("kind", ["bilinear", "lanczos"])
@pytest.mark.parametrize("target", [(700, 500), (100, 140)])
def test_windows_of_a_resized_mask_equal_the_whole_bit_for_bit(kind, target):
    mask = rough(300, 333, 1, np.uint16)[..., 0]
    resized = soften.Resized(masks._Values(Held(mask)), Size(*target), kind)
    everything = resized.read(Window.whole(resized.size))
    for window in (Window(3, 90, 11, 57, resized.size), *bands(resized.size, 41)):
        part = everything[window.inside(Window.whole(resized.size))]
        assert np.array_equal(resized.read(window), part)


def test_another_size_is_refused_and_the_hint_names_the_option():
    with pytest.raises(MaskError, match="80 x 60 pixels, the picture 81 x 60") as caught:
        whole(GREY, Size(60, 81))
    assert "--resize-mask lanczos" in caught.value.hint


def test_a_turned_mask_is_never_resized():
    with pytest.raises(MaskError) as caught:
        whole(GREY, Size(80, 60), resize="lanczos")
    assert "turned" in caught.value.hint


def test_a_stretched_mask_is_told_of():
    reader = prepared(Held(GREY), MaskOptions(resize="bilinear"), Size(120, 160))
    assert len(reader.notes) == 1 and "was resized from 80 x 60" in reader.notes[0]
    reader = prepared(Held(GREY), MaskOptions(resize="bilinear"), Size(100, 100))
    assert any("stretched" in note for note in reader.notes)


# Channels


COLOUR = rough(20, 30, 3, np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_chosen_channel_is_that_channel(tmp_path, dtype):
    rgba = rough(20, 30, 4, dtype)
    (tmp_path / "m.png").write_bytes(imagecodecs.png_encode(rgba))
    for at, channel in enumerate(("r", "g", "b", "alpha")):
        assert np.array_equal(opened(tmp_path / "m.png", channel=channel), rgba[..., at])


def test_luma_is_that_of_rec_709_and_grey_stays_grey(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "m.png")
    expected = COLOUR @ np.array([0.2126, 0.7152, 0.0722]) * 257
    assert np.abs(opened(tmp_path / "m.png", channel="luma") - expected).max() < 1.5
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    tifffile.imwrite(tmp_path / "g.tif", grey, photometric="minisblack")
    assert np.array_equal(opened(tmp_path / "g.tif", channel="luma"), grey)


def test_alpha_that_is_not_there_is_missed(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "m.png")
    with pytest.raises(MaskError, match="no alpha"):
        opened(tmp_path / "m.png", channel="alpha")


def test_a_coloured_mask_is_none_but_by_its_channel(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "m.png")
    with pytest.raises(MaskError, match="coloured"):
        opened(tmp_path / "m.png")
    assert np.array_equal(opened(tmp_path / "m.png", channel="g"), COLOUR[..., 1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_as_its_file_says(tmp_path, orientation):
    """Then feathered and inverted: a camera's mask is that of its picture."""
    stored = np.ascontiguousarray(stored_as(GREY, orientation))
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "m.tif", stored, photometric="minisblack", extratags=tag)
    found = opened(tmp_path / "m.tif", invert=True, feather=5)
    assert np.array_equal(found, whole(GREY, invert=True, feather=5))


def test_layers_are_of_psd_files(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "m.png")
    with pytest.raises(MaskError, match="has no layers"):
        opened(tmp_path / "m.png", source="psd:Person")


def test_a_layer_is_read_by_its_name(tmp_path):
    """Its transparency, on the whole canvas; a layer that is not there names those that are."""
    psd_tools = pytest.importorskip("psd_tools")
    document = psd_tools.PSDImage.new("RGB", (30, 20))
    layer = np.dstack([COLOUR[:8, :10], rough(8, 10, 1, np.uint8)])
    document.create_pixel_layer(Image.fromarray(layer, "RGBA"), name="Person: left", top=3, left=5)
    document.save(tmp_path / "m.psd")
    found = opened(tmp_path / "m.psd", source="psd:Person: left")
    expected = np.zeros((20, 30), np.uint8)
    expected[3:11, 5:15] = layer[..., 3]
    assert np.array_equal(found, expected)
    with pytest.raises(MaskError) as caught:
        opened(tmp_path / "m.psd", source="psd:Nobody")
    assert "Person: left" in caught.value.hint


# Several


def test_the_union_is_the_highest_and_one_mask_is_itself():
    a, b = rough(9, 7, 1, np.uint8)[..., 0], rough(9, 7, 1, np.uint16, 1)[..., 0]
    reader = union([Held(a), Held(b)])
    expected = np.maximum(a.astype(np.uint16) * 257, b)
    assert np.array_equal(reader.read(Window.whole(reader.size)), expected)
    alone = Held(a)
    assert union([alone]) is alone


def test_closing_a_prepared_mask_closes_its_file():
    reader = Held(GREY)
    with prepared(reader, MaskOptions(feather=2), reader.size) as mask:
        mask.read(Window.whole(mask.size))
    assert reader.closed == 1
