"""The reduction to a thumbnail, against OpenCV and a float64 closed form."""

from __future__ import annotations

from unittest import mock

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_pictures import Picture, colours, soft_disc

from hzcli.core.mask import bounding_box
from hzcli.engine import thumbnail

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
def test_shrinking_is_the_exact_area_mean(source, target):
    if source < target:
        source, target = target, source
    line = np.random.default_rng(source).random(source)
    ours = thumbnail.weights(source, target) @ line
    assert np.abs(ours - box_mean(line, target)).max() < TOLERANCE


@pytest.mark.parametrize(("source", "target"), [(1, 7), (3, 16), (15, 16), (16, 64)])
def test_growing_is_bilinear_as_in_opencv(source, target):
    array = colours(source, source, 8).astype(np.float32) / 255
    ours = thumbnail.resize(array, target, target)
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
