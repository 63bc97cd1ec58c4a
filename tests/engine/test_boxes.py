"""Sums of codes over boxes of pixels, against a float64 closed form."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hzcli.core.window import Size
from hzcli.engine.boxes import box_sums, runs
from hzcli.engine.reduction import LEAST, Square


def box_means(values: np.ndarray, boxes: int) -> np.ndarray:
    """Means along axis 0 over equal boxes: differences of the integral, which is straight within
    a pixel."""
    integral = np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
    border = np.linspace(0, len(values), boxes + 1)
    at = np.minimum(border.astype(int), len(values) - 1)
    there = integral[at] + (border - at)[(..., *[None] * (values.ndim - 1))] * values[at]
    return np.diff(there, axis=0) * (boxes / len(values))


def cuts(length: int, inner: list[float]) -> list[tuple[int, int]]:
    borders = sorted({0, length, *(int(part * length) for part in inner)})
    return list(itertools.pairwise(borders))


@settings(deadline=None, max_examples=80)
@given(
    st.tuples(st.integers(1, 150), st.integers(1, 150)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([np.uint8, np.uint16]),
    st.sampled_from([1, 3]),
    st.lists(st.floats(0, 1), max_size=4),
    st.lists(st.floats(0, 1), max_size=4),
)
@example((7, 13), (7, 13), np.uint8, 3, [], [])
@example((100, 90), (7, 1), np.uint16, 3, [0.5], [0.01, 0.99])
def test_parts_of_a_picture_add_up_to_the_means(shape, boxes, kind, channels, down, across):
    down_boxes, across_boxes = (min(pair) for pair in zip(boxes, shape, strict=True))
    chance = np.random.default_rng(sum(shape))
    codes = chance.integers(0, np.iinfo(kind).max + 1, (*shape, channels)).astype(kind)
    sums = np.zeros((down_boxes, channels, across_boxes))
    for top, bottom in cuts(shape[0], down):
        rows = runs(shape[0], down_boxes, top, bottom)
        for left, right in cuts(shape[1], across):
            columns = runs(shape[1], across_boxes, left, right)
            part = box_sums(codes[top:bottom, left:right], rows, columns)
            at = np.s_[rows.first : rows.first + len(part)]
            sums[at, :, columns.first : columns.first + part.shape[2]] += part
    wanted = box_means(box_means(codes.astype(float), down_boxes).transpose(1, 0, 2), across_boxes)
    assert np.abs(sums - wanted.transpose(1, 2, 0)).max() < 1e-9 * np.iinfo(kind).max


@pytest.mark.parametrize(
    ("kind", "shape"), [(np.uint8, (300, 70)), (np.uint16, (66000, 1)), (np.uint16, (300, 300))]
)
def test_no_sum_is_too_large(kind, shape):
    """White stays white: of more pixels than 8, 16 and 32 bits hold the sum of."""
    full = np.iinfo(kind).max
    codes = np.full((*shape, 1), full, kind)
    sums = box_sums(codes, runs(shape[0], 1, 0, shape[0]), runs(shape[1], 1, 0, shape[1]))
    assert sums.item() == pytest.approx(full, rel=1e-12)


def test_shares_are_those_of_the_pixels():
    """Five pixels to two boxes: the third lies in both."""
    found = runs(5, 2, 0, 5)
    assert found.starts.tolist() == [0, 2, 3]
    assert np.allclose(found.share, [0.4, 0.2, 0.4]) and np.allclose(found.rest, [0.2])
    assert np.allclose(found.spread(np.array([[10.0], [1.0], [20.0]])), [[4.2], [8.2]])


@pytest.mark.parametrize("order", [1, -1])
def test_windows_in_any_order_give_the_same_thumbnail(order):
    """And it is float32's nearest to the exact one, of a picture large enough for whole sums."""
    size, edge = Size(203, 190), 31
    assert LEAST * edge <= min(size.height, size.width)
    codes = np.random.default_rng(3).integers(0, 65536, (size.height, size.width, 3), np.uint16)
    square = Square(size, edge, 3, "area")
    for top in range(0, size.height, 40)[::order]:
        for left in range(0, size.width, 64)[::order]:
            part = codes[top : top + 40, left : left + 64]
            square.take(square.part(part, 1 / 65535, top, None, left))
    wanted = box_means(box_means(codes / 65535, edge).transpose(1, 0, 2), edge).transpose(2, 1, 0)
    assert np.abs(square.tensor()[0].numpy() - wanted).max() < 2**-24
