"""The reduction to a thumbnail, against OpenCV and a float64 closed form."""

from __future__ import annotations

from unittest import mock

import cv2
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from memory_pictures import Picture, colours, soft_disc
from PIL import Image
from torch.nn import functional as F

from hzcli.core.mask import bounding_box
from hzcli.core.window import Size
from hzcli.engine import thumbnail
from hzcli.io.picture import open_mask, open_picture

# float32 sums of up to some thousand values of [0, 1].
TOLERANCE = 2e-6


def box_mean(line: np.ndarray, target: int) -> np.ndarray:
    """Means of a line over `target` equal boxes: differences of its integral, float64."""
    integral = np.concatenate([[0.0], np.cumsum(line, dtype=np.float64)])
    borders = np.linspace(0, len(line), target + 1)
    return np.diff(np.interp(borders, np.arange(len(line) + 1), integral)) * target / len(line)


@pytest.mark.parametrize("factor", [(1, 1), (2, 3), (5, 4), (16, 7)])
def test_whole_factors_equal_opencv(factor):
    array = colours(11 * factor[0], 13 * factor[1], 8).astype(np.float32) / 255
    ours = thumbnail.resize(array, 11, 13)
    theirs = cv2.resize(array, (13, 11), interpolation=cv2.INTER_AREA)
    assert np.abs(ours - theirs).max() < TOLERANCE


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 64))
def test_areas_are_exact_shrinking_and_growing(source, target):
    line = np.random.default_rng(source).random(source)
    ours = thumbnail.weights(source, target) @ line
    assert np.abs(ours - box_mean(line, target)).max() < TOLERANCE


@pytest.mark.parametrize(("source", "target"), [(1, 7), (3, 16), (15, 16), (16, 64)])
def test_bilinear_growing_is_as_in_opencv(source, target):
    array = colours(source, source, 8).astype(np.float32) / 255
    ours = thumbnail.resize(array, target, target, "bilinear")
    theirs = cv2.resize(array, (target, target), interpolation=cv2.INTER_LINEAR)
    assert np.abs(ours - theirs).max() < 1e-5  # OpenCV places samples in float32


@given(st.integers(1, 5000), st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_weights_keep_a_flat_picture_flat(source, target):
    weights = thumbnail.weights(source, target)
    assert weights.shape == (target, source) and weights.min() >= 0
    assert np.abs(weights.sum(axis=1) - 1).max() < TOLERANCE


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.integers(1, 40),
    st.integers(1, 2000),
    st.sampled_from([8, 16]),
    st.sampled_from([8, 16]),
)
@example((43, 60), 1, 1, 8, 8)  # a sum of many small numbers
def test_a_streamed_thumbnail_equals_the_whole(shape, edge, read_pixels, depth, mask_depth):
    picture = colours(*shape, depth)
    mask = soft_disc(*shape, mask_depth, (0.6, 0.3), 12)
    with mock.patch.object(thumbnail, "READ_PIXELS", read_pixels):
        survey = thumbnail.make(Picture(picture), Picture(mask), edge)
    full, mask_full = np.iinfo(picture.dtype).max, np.iinfo(mask.dtype).max
    rgb = thumbnail.resize(picture / full, edge, edge)
    soft = thumbnail.resize((mask / mask_full)[..., None], edge, edge)
    thumb = survey.thumbnail
    assert thumb.rgb.shape == (1, 3, edge, edge) and thumb.mask.shape == (1, 1, edge, edge)
    assert np.abs(thumb.rgb[0].numpy().transpose(1, 2, 0) - rgb).max() < TOLERANCE
    assert np.abs(thumb.mask[0].numpy().transpose(1, 2, 0) - soft).max() < TOLERANCE
    assert (thumb.full.height, thumb.full.width) == shape
    assert survey.box == bounding_box(mask)
    assert survey.foreground == pytest.approx((mask / mask_full).mean())
    assert survey.inside == np.count_nonzero(mask)
    assert survey.lowest == mask.min() / mask_full


def test_an_empty_mask_has_no_box():
    survey = thumbnail.make(Picture(colours(5, 6, 8)), Picture(np.zeros((5, 6), np.uint8)), 4)
    assert survey.box is None and survey.foreground == 0 and survey.inside == 0


def test_every_row_is_read_once():
    picture, mask = Picture(colours(50, 40, 8)), Picture(soft_disc(50, 40, 8, (0.5, 0.5), 9))
    with mock.patch.object(thumbnail, "READ_PIXELS", 280):
        thumbnail.make(picture, mask, 16)
    rows = [row for top, bottom in picture.rows_read for row in range(top, bottom)]
    assert rows == list(range(50)) and picture.rows_read == mask.rows_read
    assert picture.rows_read[0] == (0, 7)


# --- Filters of published networks ----------------------------------------------------------

SHAPES = [(64, 48, 16), (300, 217, 32), (33, 500, 24), (16, 16, 16), (9, 7, 16), (1, 40, 8)]


def in_bands(picture: np.ndarray, mask: np.ndarray, edge: int, filter: str, **options):
    """A survey that reads few rows at a time."""
    with mock.patch.object(thumbnail, "READ_PIXELS", 11 * picture.shape[1]):
        return thumbnail.make(Picture(picture), Picture(mask), edge, filter, **options)


def square(tensor: torch.Tensor) -> np.ndarray:
    return tensor[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(("height", "width", "edge"), SHAPES)
def test_bilinear_is_opencvs_and_torchs(height: int, width: int, edge: int) -> None:
    """INTER_LINEAR and F.interpolate without antialiasing, streamed, on 16-bit pictures."""
    picture, mask = colours(height, width, 16), np.full((height, width), 255, np.uint8)
    mask[0, 0] = 0
    survey = in_bands(picture, mask, edge, "bilinear")
    float_picture = picture.astype(np.float32) / 65535
    theirs = cv2.resize(float_picture, (edge, edge), interpolation=cv2.INTER_LINEAR)
    assert np.abs(square(survey.thumbnail.rgb) - theirs).max() < 2e-5
    given = torch.from_numpy(float_picture.transpose(2, 0, 1).copy())[None]
    torchs = F.interpolate(given, (edge, edge), mode="bilinear", align_corners=False)
    assert (survey.thumbnail.rgb - torchs).abs().max() < 2e-5
    soft = torch.from_numpy(mask[None, None].astype(np.float32) / 255)
    torchs = F.interpolate(soft, (edge, edge), mode="bilinear", align_corners=False)
    assert (survey.thumbnail.mask - torchs).abs().max() < 2e-5


@pytest.mark.parametrize(("height", "width", "edge"), SHAPES)
def test_triangle_is_pillows_bilinear(height: int, width: int, edge: int) -> None:
    """In float: Pillow's mode F, channel by channel; and its 8 bits to their rounding."""
    picture, mask = colours(height, width, 8), np.full((height, width), 255, np.uint8)
    mask[-1, -1] = 0
    ours = square(in_bands(picture, mask, edge, "triangle").thumbnail.rgb)
    for c in range(3):
        channel = Image.fromarray(picture[..., c].astype(np.float32))
        theirs = np.asarray(channel.resize((edge, edge), Image.Resampling.BILINEAR)) / 255
        assert np.abs(ours[..., c] - theirs).max() < 2e-5
    rounded = np.asarray(Image.fromarray(picture).resize((edge, edge), Image.Resampling.BILINEAR))
    assert np.abs(ours * 255 - rounded).max() <= 1.01


@pytest.mark.parametrize("filter", thumbnail.FILTERS)
@pytest.mark.parametrize(("height", "width", "edge"), SHAPES)
def test_bands_add_up_to_the_whole(height: int, width: int, edge: int, filter: str) -> None:
    picture, mask = colours(height, width, 16), soft_disc(height, width, 16, (0.5, 0.5), 5)
    survey = in_bands(picture, mask, edge, filter)
    whole = thumbnail.resize(picture / 65535, edge, edge, filter)
    assert np.abs(square(survey.thumbnail.rgb) - whole).max() < TOLERANCE


@given(st.integers(1, 3000), st.integers(1, 300), st.sampled_from(thumbnail.FILTERS))
@settings(deadline=None, max_examples=60)
def test_every_filter_keeps_a_flat_picture_flat(source: int, target: int, filter: str) -> None:
    weights = thumbnail.weights(source, target, filter)
    assert weights.shape == (target, source) and weights.min() >= 0
    assert np.abs(weights.sum(axis=1) - 1).max() < TOLERANCE


@pytest.mark.parametrize("filter", thumbnail.FILTERS)
def test_a_closeup_is_the_thumbnail_of_the_box(filter: str) -> None:
    """Of every pixel that is not 0, however faint; at the same edge and by the same filter."""
    picture, mask = colours(90, 120, 8), np.zeros((90, 120), np.uint8)
    mask[20:70, 30:101] = 200
    mask[75, 17] = 1
    closeup = in_bands(picture, mask, 16, filter, closeup=True).thumbnail.closeup
    assert closeup is not None and closeup.full == Size(56, 84)
    for tensor, whole in ((closeup.rgb, picture), (closeup.mask, mask[..., None])):
        box = thumbnail.resize(whole[20:76, 17:101] / 255, 16, 16, filter)
        assert np.abs(square(tensor) - box).max() < TOLERANCE


LYING = {
    "tiles": {"tile": (48, 32)},
    "strips": {"rowsperstrip": 7, "compression": "lzw"},
    "rows as they are": {"rowsperstrip": 7},
    "one strip": {"rowsperstrip": 300, "compression": "zlib"},
}


@pytest.mark.parametrize("filter", thumbnail.FILTERS)
@pytest.mark.parametrize("form", LYING)
def test_parts_of_a_tiff_are_summed_a_few_at_a_time(tmp_path, form: str, filter: str) -> None:
    """What is read at once is small, and the sums are those of the picture in memory; they are
    the same to the last bit, however many threads there are."""
    picture, mask = colours(300, 210, 16), np.zeros((300, 210), np.uint8)
    mask[33:250, 20:150] = 90
    mask[3, 5] = mask[40, 200] = 1  # in one row of tiles, and not read at once
    for name, pixels, kind in (("a", picture, "rgb"), ("m", mask, "minisblack")):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric=kind, **LYING[form])
    before, surveys = torch.get_num_threads(), []
    for threads in (1, 3):
        with (
            mock.patch.object(thumbnail, "READ_PIXELS", 4000),
            open_picture(tmp_path / "a.tif") as reader,
            open_mask(tmp_path / "m.tif") as inside,
        ):
            read, most = reader._source.read, []
            reader._source.read = lambda t, b, x, y, read=read, most=most: (
                most.append((b - t) * (y - x)),
                read(t, b, x, y),
            )[1]
            torch.set_num_threads(threads)
            try:
                surveys.append(
                    thumbnail.make(reader, inside, 24, filter, closeup=True, cells=Size(48, 32))
                )
            finally:
                torch.set_num_threads(before)
        assert max(most) <= (4000 if form != "one strip" else picture.size)
    one, found = surveys
    assert torch.equal(one.thumbnail.rgb, found.thumbnail.rgb)
    whole = thumbnail.resize(picture / 65535, 24, 24, filter)
    assert np.abs(square(found.thumbnail.rgb) - whole).max() < TOLERANCE
    assert found.box == (3, 250, 5, 201) and found.thumbnail.closeup is not None
    assert torch.equal(one.thumbnail.closeup.rgb, found.thumbnail.closeup.rgb)
    box = thumbnail.resize(picture[3:250, 5:201] / 65535, 24, 24, filter)
    assert np.abs(square(found.thumbnail.closeup.rgb) - box).max() < TOLERANCE
    assert found.met is not None and found.met.shape == (7, 7)
    wanted = [
        [mask[y : y + 48, x : x + 32].any() for x in range(0, 210, 32)] for y in range(0, 300, 48)
    ]
    assert np.array_equal(found.met, wanted)


def test_masks_of_other_edges_are_sampled() -> None:
    """From the full mask, whatever the thumbnail's filter."""
    picture, mask = colours(200, 120, 8), soft_disc(200, 120, 8, (0.4, 0.6), 40)
    found = in_bands(picture, mask, 16, "area", mask_edges=(32, 8)).thumbnail.masks
    assert found is not None and set(found) == {32, 8}
    soft = torch.from_numpy(mask[None, None].astype(np.float32) / 255)
    for edge, sampled in found.items():
        theirs = F.interpolate(soft, (edge, edge), mode="bilinear", align_corners=False)
        assert (sampled - theirs).abs().max() < 2e-5


def test_a_reference_is_seen_alike() -> None:
    picture = colours(77, 50, 16)
    with mock.patch.object(thumbnail, "READ_PIXELS", 500):
        seen = thumbnail.make_reference(Picture(picture), 16, "triangle")
    assert np.abs(square(seen) - thumbnail.resize(picture / 65535, 16, 16, "triangle")).max() < (
        TOLERANCE
    )
