"""From code to code, against the Transforms' own numbers in float64."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from memory_pictures import colours, soft_disc

from hzcli.core import codes, native
from hzcli.core.affine import AffineMap
from hzcli.core.curves import Curves
from hzcli.core.lut import Lut3D, identity_lut
from hzcli.core.window import Size, Window
from hzcli.engine import coded
from hzcli.engine.recolour import Band, Recolour

CURVES = Curves(torch.linspace(0, 1, 9, dtype=torch.float64).pow(1.4).float().expand(1, 3, -1))
TABLE = Lut3D((identity_lut(9)[None] * 0.8 + 0.1).clamp(0, 1).flip(1))


@pytest.mark.parametrize("transform", [CURVES, TABLE], ids=["curves", "table"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("width", [300, 301])
@pytest.mark.parametrize("large", [False, True])
def test_codes_are_those_of_the_numbers(transform, depth, strength, width, large) -> None:
    """Where there is a native kernel, those of large pictures too."""
    if transform is TABLE:
        pytest.importorskip("PyOpenColorIO")
    picture, mask = colours(90, width, depth), soft_disc(90, width, 8, (0.5, 0.5), 40)
    mask[20:70, 90:260] = 255
    wide = picture.astype(np.uint16) * (257 if depth == 8 else 1)
    rows = wide.copy()
    how = coded.prepared(transform, strength)
    assert how is not None
    coded.recolour(rows, mask, how, codes=picture, large=large)
    source = torch.from_numpy(wide.transpose(2, 0, 1) / 65535)[None]
    exact = transform.__class__(next(iter(vars(transform).values())).double())
    result = exact.apply(source, source[:, :1], None)  # type: ignore[arg-type]
    soft = torch.from_numpy(mask / 255) * strength
    expected = (source + soft * (result.clamp(0, 1) - source))[0].numpy().transpose(1, 2, 0)
    assert np.abs(rows - expected * 65535).max() < 0.53
    assert np.array_equal(rows[mask == 0], wide[mask == 0])


def test_what_is_no_number_is_left_to_numbers() -> None:
    assert coded.prepared(AffineMap(torch.full((1, 12, 2, 2), float("nan"))), 1.0) is None
    assert coded.prepared(Lut3D(TABLE.lut * float("nan")), 1.0) is None
    assert coded.prepared(Curves(CURVES.knots * float("nan")), 1.0) is None


@pytest.mark.parametrize("shape", [(3, 1), (5, 2), (1, 3), (90, 300), (2, codes.BLOCK + 7)])
def test_a_table_changes_its_part_of_a_picture_alone(shape) -> None:
    """Pixels are moved with something of their neighbours', which must not show: of any width,
    those of more than one block too, in place and from elsewhere."""
    pytest.importorskip("PyOpenColorIO")
    height, width = shape
    picture = np.random.default_rng(0).integers(0, 65536, (height + 2, width + 2, 3), np.uint16)
    inner = np.s_[1:-1, 1:-1]
    # What becomes of red is blue, of green red, of blue green.
    turned = np.moveaxis(np.indices((2, 2, 2), np.float32), 0, -1)[..., [2, 0, 1]]
    for interpolation in ("tetrahedral", "trilinear"):
        table = codes.OcioTable(turned, interpolation)
        expected = picture.copy()
        expected[inner] = picture[inner][..., [2, 0, 1]]
        in_place, elsewhere = picture.copy(), picture.copy()
        elsewhere[inner] = 0
        table.apply(in_place[inner], in_place[inner])
        table.apply(picture[inner], elsewhere[inner])
        assert np.array_equal(in_place, expected)
        assert np.array_equal(elsewhere, expected)


@pytest.mark.parametrize("transform", [CURVES, TABLE], ids=["curves", "table"])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("large", [False, True])
def test_threads_change_no_byte(transform, depth, large) -> None:
    """Nor does it matter that each takes rows of its own, and fills them."""
    if transform is TABLE:
        pytest.importorskip("PyOpenColorIO")
    height = 3 * coded.SHARED + 5
    picture, mask = colours(height, 300, depth), soft_disc(height, 300, 8, (0.5, 0.5), 140)
    how = coded.prepared(transform, 0.7)
    assert how is not None
    alone = picture.astype(np.uint16) * (257 if depth == 8 else 1)
    together, filled = alone.copy(), np.full_like(alone, 4711)
    coded.recolour(alone, mask, how, large=large)
    with ThreadPoolExecutor(3) as pool:
        coded.recolour(together, mask, how, pool=pool, large=large)
        coded.recolour(filled, mask, how, codes=picture, pool=pool, large=large)
    assert np.array_equal(alone, together)
    assert np.array_equal(alone, filled)


@pytest.mark.parametrize("bad", [0, 3, 9])
def test_a_part_that_fails_is_told_when_no_thread_works_any_more(bad: int) -> None:
    """The rows belong to the caller again; every part is begun once at most."""
    begun, ended = [], []

    class Failing:
        native = None

        def apply(self, codes: np.ndarray, out: np.ndarray) -> None:
            part = int(codes[0, 0, 0])
            begun.append(part)
            time.sleep(0.01)
            ended.append(part)
            if part == bad:
                raise RuntimeError("no")

    rows = np.zeros((10 * coded.SHARED, 4, 3), np.uint16)
    rows[:] = (np.arange(len(rows)) // coded.SHARED)[:, None, None]
    with ThreadPoolExecutor(3) as pool:
        with pytest.raises(RuntimeError, match="no"):
            coded.recolour(rows, None, Failing(), pool=pool)
        count = len(ended)
        assert sorted(begun) == sorted(set(begun)) == sorted(ended)
        time.sleep(0.03)
        assert len(begun) == count


def recoloured(transform: Curves | Lut3D) -> np.ndarray:
    """By the engine, band by band: rows of a picture of 90 x 300."""
    picture, mask = colours(90, 300, 16), soft_disc(90, 300, 8, (0.5, 0.5), 40)
    size, rows = Size(90, 300), np.full_like(picture, 4711)
    work = Recolour(transform, 1.0, torch.device("cpu"), (1 / 65535, 1 / 255))
    for top in (0, 40):
        window = Window(top, top + (40 if top == 0 else 50), 0, 300, size)
        part = slice(window.top, window.bottom)
        work.band(Band(window, window, picture[part], mask[part], None), rows[part], 300)
    return rows


@pytest.mark.parametrize("transform", [CURVES, TABLE], ids=["curves", "table"])
@pytest.mark.parametrize("ocio", [True, False])
def test_large_pictures_are_the_kernels(transform, ocio, monkeypatch) -> None:
    """By their size alone; OpenColorIO is not needed then."""
    pytest.importorskip("llvmlite")
    if ocio:
        pytest.importorskip("PyOpenColorIO")
    else:
        monkeypatch.setitem(sys.modules, "PyOpenColorIO", None)
    plain, used, right = recoloured(transform), [], native.Native.recolour

    def seen(self: native.Native, *args: object) -> None:
        used.append(self)
        right(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(native.Native, "recolour", seen)
    for least, times in ((90 * 300 + 1, 0), (90 * 300, 2)):
        used.clear()
        monkeypatch.setattr(native, "LEAST", least)
        found = recoloured(transform)
        assert np.abs(found.astype(int) - plain).max() <= 1
        assert len(used) >= times and bool(used) == bool(times)
