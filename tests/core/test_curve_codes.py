"""Maps of curves from code to code: against NumPy's interpolation in float64, and in parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ruled_codes import SIZE, mask, picture, random, same_in_parts
from torch.nn import functional as F

from hzcli.core import curve_codes, grid_codes, native
from hzcli.core.curve_codes import CodedCurveMaps
from hzcli.core.window import Size, Window
from hzcli.engine import coded
from hzcli.models.aict.intervals import interval_map

pytest.importorskip("llvmlite")


def curves(pieces: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """First ones that rise from 0 to 1, second ones that leave [0, 1]; a grid of 7 by 9."""
    widths = torch.from_numpy(random(3, 7, pieces, 9, seed=1) + 0.1)
    knots = F.pad(widths.cumsum(2) / widths.sum(2, keepdim=True), (0, 0, 1, 0))
    return knots, torch.from_numpy(random(3, 7, pieces, 9, seed=2) * 1.6 - 0.3)


def expected(codes: np.ndarray, held: np.ndarray, strength: float, aligned: bool) -> np.ndarray:
    """A pixel at a time."""
    wide = []
    for grid in curves():
        flat = grid.permute(0, 2, 1, 3).flatten(0, 1)[None]
        shape = (SIZE.height, SIZE.width)
        large = F.interpolate(flat, shape, mode="bilinear", align_corners=aligned)[0]
        wide.append(large.unflatten(0, (3, -1)).numpy())
    new = np.empty(codes.shape)
    for y, x, c in np.ndindex(codes.shape):
        value = codes[y, x, c] / 65535
        for grid in wide:
            value = np.interp(value, np.linspace(0, 1, grid.shape[1]), grid[c, :, y, x])
        new[y, x, c] = np.clip(value, 0, 1)
    soft = (held / np.iinfo(held.dtype).max * strength)[..., None]
    return 65535 * (codes / 65535 + soft * (new - codes / 65535))


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_codes_are_those_of_the_numbers(aligned: bool, kind: type, strength: float) -> None:
    codes, held = picture(), mask(kind)
    rows = codes.copy()
    maps = CodedCurveMaps(*curves(), aligned, strength)
    maps.recolour(rows, held, Window.whole(SIZE), large=True)
    assert np.abs(rows - expected(codes, held, strength, aligned)).max() < 0.55
    assert np.array_equal(rows[held == 0], codes[held == 0])


@pytest.mark.parametrize(("rows", "columns", "strip"), [(60, 50, 16), (7, 203, 64), (33, 64, 128)])
def test_parts_strips_and_threads_change_no_byte(
    rows: int, columns: int, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut() -> None:
        monkeypatch.setattr(grid_codes, "PART", rows)
        monkeypatch.setattr(curve_codes, "COLUMNS", columns)
        monkeypatch.setattr(native, "STRIP", strip)

    same_in_parts(lambda: CodedCurveMaps(*curves(), False), cut, True)


def test_rows_and_columns_of_a_square_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    size = Size(128, 128)
    codes = picture()[:64, :64].repeat(2, 0).repeat(2, 1)
    held, found = np.full((128, 128), 255, np.uint8), []
    for part in (64, 128):
        monkeypatch.setattr(grid_codes, "PART", part)
        monkeypatch.setattr(curve_codes, "COLUMNS", part)
        found.append(codes.copy())
        maps = CodedCurveMaps(*curves(), False)
        maps.recolour(found[-1], held, Window.whole(size), large=True)
    turned = CodedCurveMaps(*(c.transpose(1, 3) for c in curves()), False)
    other = codes.transpose(1, 0, 2).copy()
    turned.recolour(other, held, Window.whole(size), large=True)
    assert np.array_equal(*found)
    assert np.abs(other.transpose(1, 0, 2).astype(int) - found[0]).max() <= 1


@pytest.mark.parametrize("aligned", [False, True])
def test_what_aict_predicts_comes_out_as_torch_has_it(aligned: bool) -> None:
    """Of large pictures, and of them alone; what is no number stays with torch, too."""
    widths = torch.from_numpy(random(1, 3, 8, 7, 9, seed=3) + 0.1)
    levels = torch.from_numpy(random(1, 24, 7, 9, seed=4) * 1.4 - 0.2)
    transform = interval_map(widths / widths.sum(2, keepdim=True), levels, align_corners=aligned)
    size = Size(1100, 1000)
    prepared = coded.prepared(transform, 1.0, size)
    assert isinstance(prepared, CodedCurveMaps)
    assert coded.prepared(transform, 1.0, Size(900, 1000)) is None
    window = Window(1000, 1040, 900, 1000, size)
    codes = picture()[:40, :100].copy()
    source = torch.from_numpy(codes.astype(np.float64) / 65535).permute(2, 0, 1)[None]
    wanted = transform.apply(source, source[:, :1], window)[0].permute(1, 2, 0).clamp(0, 1)
    prepared.recolour(codes, np.full((40, 100), 255, np.uint8), window, large=True)
    assert np.abs(codes - 65535 * wanted.numpy()).max() < 0.55
    transform.levels[0, 0, 0, 0, 0] = torch.nan
    assert coded.prepared(transform, 1.0, size) is None
