"""Companions of a result: each gives the result back by the formula that it states."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from memory_pictures import Output, Picture, colours, soft_disc

from hzcli.core.window import Size
from hzcli.engine.layers import KINDS, AlsoWriter, check_kinds, delta, layer, layer_float
from hzcli.errors import PictureError, UsageError
from hzcli.io import profiles
from hzcli.io.meta import Meta

EDGES = np.array([0, 1, 2, 32767, 32768, 65533, 65534, 65535], np.uint16)


def pixels(seed: int, *channels: int) -> np.ndarray:
    """Many codes: a third anywhere, a third at the ends and the middle, a third of few levels."""
    rng = np.random.default_rng(seed)
    shape = (100, 600, *channels)
    choices = [rng.integers(0, 65535, shape, np.uint16, endpoint=True), rng.choice(EDGES, shape)]
    choices.append(rng.integers(0, 9, shape, np.uint16) * np.uint16(257))
    which = rng.integers(0, 3, shape[:2])
    return np.select(
        [(which == k).reshape(*shape[:2], *[1] * len(channels)) for k in range(3)], choices
    )


def over(source: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """What an editor makes of an unassociated layer in mode normal, rounded to codes."""
    a = alpha.astype(np.float64)[..., None] / 65535
    return np.floor(source * (1 - a) + colour * a + 0.5)


def test_the_layer_over_the_composite_is_the_result_whatever_they_are():
    """Within one code, though the result may be no blend at all: alpha is raised where needed."""
    source, mask, result = pixels(0, 3), pixels(1), pixels(2, 3)
    colour, alpha = layer(source, mask, result)
    assert np.abs(over(source, colour, alpha) - result).max() <= 1
    assert (alpha >= mask).all()


def test_of_a_blend_the_alpha_is_the_mask_and_the_layer_what_was_blended_in():
    source, mask, answer = pixels(3, 3), pixels(4), pixels(5, 3)
    a = mask[..., None] / 65535
    result = np.floor(source + (answer.astype(float) - source) * a + 0.5).astype(np.uint16)

    colour, alpha = layer(source, mask, result)

    assert np.array_equal(alpha, mask)
    solid = mask == 65535
    assert np.array_equal(colour[solid], answer[solid])
    # The colour is as exact as a rounded result under soft alpha can tell.
    error = np.abs(colour.astype(float) - answer)[mask > 0]
    assert np.all(error <= 0.5 + 0.5 / a[mask > 0] + 0.02)
    assert np.abs(over(source, colour, alpha) - result).max() <= 1


def test_where_nothing_happened_the_layer_is_empty():
    source = np.full((2, 2, 3), 700, np.uint16)
    colour, alpha = layer(source, np.zeros((2, 2), np.uint16), source.copy())
    assert not colour.any() and not alpha.any()


def test_source_and_delta_are_the_result():
    source, result = pixels(6, 3), pixels(7, 3)
    change = delta(source, result)
    found = source.astype(int) + 2 * (change.astype(int) - 32768)
    assert np.abs(found - result).max() <= 1
    assert np.all(change[source == result] == 32768)
    # "Linear light" of an editor that counts from 0 to 1: base + 2 blend - 1.
    light = source / 65535 + 2 * (change / 65535) - 1
    assert np.abs(light * 65535 - result).max() <= 1 + 1e-6


def test_float_layers_are_exact_beyond_the_range():
    rng = np.random.default_rng(0)
    source = rng.normal(0.5, 3, (40, 50, 3)).astype(np.float32)
    mask = rng.uniform(0, 1, (40, 50)).astype(np.float32)
    mask[:10] = 0
    result = (source + mask[..., None] * rng.normal(0, 1, source.shape)).astype(np.float32)
    result[0, 0] += 1

    colour, alpha = layer_float(source, mask, result)

    found = source * (1 - alpha[..., None]) + colour * alpha[..., None]
    assert np.abs(found - result).max() < 1e-5
    assert alpha[0, 0] == 1 and not alpha[1:10].any() and not colour[1:10].any()
    assert np.abs(source + delta(source, result) - result).max() < 1e-5


def _write(target, source, mask, result, bands=(5, 60, 1), **options):
    size = Size(*mask.shape)
    kinds = options.pop("kinds", KINDS)
    meta = options.pop("meta", Meta())
    with AlsoWriter(target, kinds, size, meta, **options) as also:
        cuts = np.cumsum(bands)
        for rows in zip(*(np.split(a, cuts) for a in (source, mask, result)), strict=True):
            also.write(*rows)
    return also


def test_files_hold_what_they_should_and_an_editor_can_use_them(tmp_path):
    source, answer = colours(150, 70, 16), colours(150, 70, 16, seed=1)
    mask = soft_disc(150, 70, 8, (0.5, 0.4), 20)
    a = mask[..., None] / 255
    result = np.round(source * (1 - a) + answer * a).astype(np.uint16)
    icc = profiles.profile("p3")

    also = _write(tmp_path / "x.png", source, mask, result, meta=Meta(icc))

    assert [path.name for path in also.paths] == ["x_mask.tif", "x_delta.tif", "x_layer.tif"]
    assert sorted(tmp_path.iterdir()) == sorted(also.paths)
    found = [tifffile.imread(path) for path in also.paths]
    assert np.array_equal(found[0], mask.astype(np.uint16) * 257)
    assert np.abs(source + 2.0 * (found[1] - 32768.0) - result).max() <= 1
    assert np.abs(over(source, found[2][..., :3], found[2][..., 3]) - result).max() <= 1
    with tifffile.TiffFile(also.paths[2]) as opened:
        tags = opened.pages[0].tags
        assert tags[338].value == (2,)
        assert tags[34675].value == icc
        assert "normal" in tags[270].value
    with tifffile.TiffFile(also.paths[0]) as opened:
        assert 34675 not in opened.pages[0].tags


def test_a_real_result_comes_back_from_its_layer(tmp_path):
    """The blend of the engine itself: an 8-bit picture, a strong change, half strength."""
    from hzcli.core.transform import Reach
    from hzcli.core.window import Window
    from hzcli.engine.recolour import Band, Recolour, widen

    class Swap:
        reach = Reach()

        def apply(self, rgb, mask, window):
            return 1.3 - 1.2 * rgb.flip(1)

    codes, mask = colours(90, 80, 8), soft_disc(90, 80, 8, (0.5, 0.5), 25)
    whole = Window.whole(Size(90, 80))
    source, rows = (np.empty((90, 80, 3), np.uint16) for _ in range(2))
    for strength in (1.0, 0.5):
        widen(codes, source)
        Recolour(Swap(), strength, torch.device("cpu"), (1 / 255, 1 / 255)).band(
            Band(whole, whole, codes, mask, None), rows, 64
        )
        colour, alpha = layer(source, mask.astype(np.uint16) * 257, rows)
        assert (rows != source).mean() > 0.1
        assert np.abs(over(source, colour, alpha) - rows).max() <= 1


def test_grey_pictures_have_grey_companions(tmp_path):
    grey = np.repeat(colours(20, 20, 16)[..., :1], 3, axis=2)
    icc = profiles.profile("grey-gamma-2.2")
    mask = np.full((20, 20), 255, np.uint8)
    also = _write(
        tmp_path / "x.tif", grey, mask, grey[::-1].copy(), (9,), channels="grey", meta=Meta(icc)
    )
    assert tifffile.imread(also.paths[1]).shape == (20, 20)
    found = tifffile.imread(also.paths[2])
    assert np.array_equal(found[..., 0], grey[::-1, :, 0]) and found.shape == (20, 20, 2)


def test_float_results_have_float_companions(tmp_path):
    rng = np.random.default_rng(0)
    source = rng.normal(0.5, 3, (40, 30, 3)).astype(np.float32)
    mask = rng.integers(0, 255, (40, 30), np.uint8)
    result = source + np.float32(0.25) * (mask[..., None] > 0)
    also = _write(tmp_path / "x.exr", source, mask, result, (9,), depth=32)
    found = [tifffile.imread(path) for path in also.paths]
    assert [array.dtype for array in found] == [np.uint16, np.float32, np.float32]
    assert np.array_equal(source + found[1], result)
    alpha = found[2][..., 3:]
    assert np.abs(source * (1 - alpha) + found[2][..., :3] * alpha - result).max() < 1e-4


def test_rows_without_a_mask_are_untouched_rows(tmp_path):
    source = colours(30, 20, 16)
    with AlsoWriter(tmp_path / "x.tif", KINDS, Size(30, 20), Meta()) as also:
        also.write(source, None, source)
    assert [tifffile.imread(path).max() for path in also.paths] == [0, 32768, 0]
    assert tifffile.imread(also.paths[1]).min() == 32768


@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt])
def test_trouble_leaves_nothing(tmp_path, trouble):
    source = colours(30, 20, 16)
    with (
        pytest.raises(trouble),
        AlsoWriter(tmp_path / "x.tif", KINDS, Size(60, 20), Meta()) as also,
    ):
        also.write(source, None, source)
        raise trouble
    assert list(tmp_path.iterdir()) == []


def test_a_companion_that_exists_is_kept_and_nothing_else_begun(tmp_path):
    (tmp_path / "x_layer.tif").write_text("mine")
    with pytest.raises(PictureError, match="exists already"):
        AlsoWriter(tmp_path / "x.tif", KINDS, Size(60, 20), Meta())
    assert [path.name for path in tmp_path.iterdir()] == ["x_layer.tif"]


def test_kinds_come_in_one_order_and_unknown_ones_are_refused():
    assert check_kinds("layer, mask") == ("mask", "layer")
    for wrong in ("masks", "mask,,delta", ""):
        with pytest.raises(UsageError):
            check_kinds(wrong)


def test_the_layer_is_a_picture_that_the_engine_reads(tmp_path):
    """Sizes and rows as the engine hands them over: pictures in memory stand in for files."""
    source = colours(40, 30, 8)
    reader, output = Picture(source), Output()
    rows = source.astype(np.uint16) * np.uint16(257)
    output.write(rows)
    with AlsoWriter(tmp_path / "x.tif", ("layer",), reader.size, Meta()) as also:
        also.write(rows, np.full((40, 30), 255, np.uint8), output.array)
    assert np.array_equal(tifffile.imread(also.paths[0])[..., :3], rows)
