"""A look applied: OpenColorIO's way, numpy's way, and the definition in float64."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hzcli.core import native
from hzcli.core.tetra import (
    INTERPOLATIONS,
    UNIT,
    CodedLook,
    in_domain,
    interpolate,
    interpolate_1d,
)
from hzcli.core.window import Size, Window
from hzcli.engine.looks.apply_look import apply_look, prepare, recolour
from hzcli.errors import MaskError
from hzcli.io.cube import Look
from hzcli.io.looks import weakened

HEIGHT, WIDTH = 70, 301
WAYS = ("numpy", "ocio")


def rough(n: int = 9) -> np.ndarray:
    """Random values, some of them below 0 and above 1: no error can hide."""
    return (np.random.default_rng(n).random((n, n, n, 3)) * 1.2 - 0.1).astype(np.float32)


CURVES = (np.linspace(0, 1, 9)[:, None] ** [0.5, 1.5, 2]).astype(np.float32)
LOOKS = {
    "table": Look("", rough()),
    "even table": Look("", rough(8)),
    "domain": Look("", rough(), None, ((-0.1, 0, 0), (1, 1.2, 1))),
    "inner domain": Look("", rough(), None, ((0.1, 0, 0), (1, 0.9, 1))),
    "shaper": Look("", rough(), CURVES),
    "curves": Look("", None, CURVES),
}


def picture() -> np.ndarray:
    """All codes that matter: random ones, the ends, and neutrals."""
    codes = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    codes[0, :50], codes[1, :50], codes[2, :256] = 0, 65535, (np.arange(256) * 257)[:, None]
    return codes


def mask(dtype: type) -> np.ndarray:
    """A soft disc, a hard one, and a lone soft pixel in a corner."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    value = np.clip((30 - np.hypot(y - 35, (x - 100) / 2)) / 4, 0, 1)
    value = np.maximum(value, np.hypot(y - 35, x - 275) < 20)
    value[-1, -1] = 0.4
    return np.round(value * np.iinfo(dtype).max).astype(dtype)


def defined(look: Look, codes: np.ndarray, interpolation: str, strength: float) -> np.ndarray:
    """The look's answer by definition, in codes, not rounded."""
    colours = codes / 65535.0
    new = in_domain(colours, look.domain)
    if look.shaper is not None:
        new = interpolate_1d(look.shaper, new)
    if look.table is not None:
        new = interpolate(look.table, new, interpolation)
    if weakened(look, strength) is None:
        return 65535 * (colours + strength * (np.clip(new, 0, 1) - colours))
    return 65535 * np.clip(colours + strength * (new - colours), 0, 1)


@pytest.mark.parametrize("strength", [1.0, 0.6])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("through", WAYS)
def test_every_pixel_is_what_the_definition_says(
    through: str, name: str, interpolation: str, strength: float
) -> None:
    """Rounded once: half a code, and what float32 adds on a table this rough."""
    if through == "ocio":
        pytest.importorskip("PyOpenColorIO")
    prepared = prepare(LOOKS[name], interpolation=interpolation, strength=strength, through=through)
    source = picture()
    wanted = defined(LOOKS[name], source, interpolation, strength)
    for dtype in (None, np.uint8, np.uint16):
        soft = None if dtype is None else mask(dtype)
        for large in (False, True):
            rows = source.copy()

            recolour(rows, soft, prepared, large=large)

            share = 1 if soft is None else (soft / np.iinfo(dtype).max)[..., None]
            assert np.abs(rows - (source + share * (wanted - source))).max() < 0.6
            if soft is not None:
                assert (rows[soft == 0] == source[soft == 0]).all()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("n", [2, 33, 90, 91, 130])
def test_tables_of_any_size(n: int, interpolation: str) -> None:
    """Small steps, those that fill their bits, and more nodes than OpenColorIO takes."""
    look = Look("", rough(n))
    codes = picture()[:8]
    for through in WAYS:
        if through == "ocio":
            pytest.importorskip("PyOpenColorIO")
        rows = codes.copy()
        recolour(rows, None, prepare(look, interpolation=interpolation, through=through))
        # OpenColorIO has places in float32, coarser the more nodes there are.
        close = 0.55 if through == "numpy" or n > 129 else 0.51 + 0.01 * n
        assert np.abs(rows - defined(look, codes, interpolation, 1)).max() < close


def test_the_definition_is_that_of_colour_science() -> None:
    """The oracle's oracle, both interpolations."""
    colour = pytest.importorskip("colour")
    table, colours = rough(5), np.random.default_rng(0).random((200, 3))
    theirs = {
        "tetrahedral": colour.algebra.table_interpolation_tetrahedral,
        "trilinear": colour.algebra.table_interpolation_trilinear,
    }
    for interpolation, function in theirs.items():
        expected = function(colours, table.astype(float))
        assert np.abs(interpolate(table, colours, interpolation) - expected).max() < 1e-12


def test_pillow_gives_the_same_8_bits() -> None:
    """Color3DLUT is trilinear, in 8 bits with rounding of its own: one level."""
    from PIL import Image, ImageFilter

    table = rough(9)
    codes = (picture() // 257).astype(np.uint8)
    flat = table.transpose(2, 1, 0, 3).ravel().tolist()
    theirs = Image.fromarray(codes).filter(ImageFilter.Color3DLUT(9, flat))
    rows = codes.astype(np.uint16) * 257
    recolour(rows, None, prepare(Look("", table), interpolation="trilinear", through="numpy"))

    assert np.abs(np.asarray(theirs) - rows / 257).max() < 1.1


def test_the_identity_changes_no_code() -> None:
    """At every code of every size; curves, tables and both ways."""
    every = np.repeat(np.arange(65536, dtype=np.uint16).reshape(64, 1024, 1), 3, -1)
    for n in (2, 17, 33, 65):
        axis = np.linspace(0, 1, n)
        nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).astype(np.float32)
        for interpolation in INTERPOLATIONS:
            out = np.zeros_like(every)
            CodedLook(nodes, None, UNIT, interpolation).apply(every, out)
            assert (out == every).all()


@pytest.mark.parametrize("through", WAYS)
def test_strength_0_is_the_source(through: str) -> None:
    if through == "ocio":
        pytest.importorskip("PyOpenColorIO")
    for look in LOOKS.values():
        rows = picture()
        recolour(rows, mask(np.uint8), prepare(look, strength=0, through=through))
        assert (rows == picture()).all()


def test_threads_change_nothing() -> None:
    """The same bytes, however many work on them."""
    prepared = prepare(LOOKS["table"], through="numpy")
    alone, together = picture(), picture()
    counts = np.zeros((2, 4097), np.int64)

    recolour(alone, mask(np.uint8), prepared, None, counts[0])
    with ThreadPoolExecutor(4) as pool:
        recolour(together, mask(np.uint8), prepared, pool, counts[1])

    assert (alone == together).all() and (counts[0] == counts[1]).all()


class Memory:
    """A picture or a mask in memory, and a writer of rows."""

    def __init__(self, codes: np.ndarray) -> None:
        self.codes, self.size = codes, Size(*codes.shape[:2])
        self.depth = codes.itemsize * 8
        self.rows: list[np.ndarray] = []

    def read(self, window: Window) -> np.ndarray:
        return self.codes[window.top : window.bottom, window.left : window.right]

    def write(self, rows: np.ndarray) -> None:
        self.rows.append(rows.copy())

    @property
    def written(self) -> np.ndarray:
        return np.concatenate(self.rows)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bands_are_the_whole_picture(dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the height of the bands; the figures say what was done."""
    source = (picture() >> (8 if dtype == np.uint8 else 0)).astype(dtype)
    prepared = prepare(LOOKS["table"])
    wide = source.astype(np.uint16) * (257 if dtype == np.uint8 else 1)
    whole = wide.copy()
    recolour(whole, mask(np.uint8), prepared)

    for rows in (None, 7, 64):
        if rows is not None:
            import hzcli.engine.looks.apply_look as module
            from hzcli.engine.plan import Plan

            plan = Plan(rows, WIDTH, 0, "bands")
            monkeypatch.setattr(module, "plan", lambda *a, plan=plan, **k: plan)
        reader = Memory(source)
        outcome = apply_look(reader, Memory(mask(np.uint8)), prepared, reader)
        assert (reader.written == whole).all()

    inside = mask(np.uint8) > 0
    change = np.abs(whole.astype(int) - wide)[inside] / 257
    assert outcome.foreground == pytest.approx(mask(np.uint8).mean() / 255)
    assert outcome.change_mean == pytest.approx(change.mean(), rel=1e-3)
    assert outcome.change_p99 == pytest.approx(np.quantile(change, 0.99), abs=0.1)


def test_large_pictures_are_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """By their size alone, whatever their bands; reports say so."""
    pytest.importorskip("llvmlite")
    prepared = prepare(LOOKS["shaper"], through="numpy")
    for least, said in ((HEIGHT * WIDTH, "native kernel, tetra"), (HEIGHT * WIDTH + 1, "numpy")):
        monkeypatch.setattr(native, "LEAST", least)
        reader, whole = Memory(picture()), picture()
        recolour(whole, mask(np.uint8), prepared, large=least == HEIGHT * WIDTH)

        outcome = apply_look(reader, Memory(mask(np.uint8)), prepared, reader)

        assert (reader.written == whole).all()
        assert said in outcome.plan


def test_everywhere_needs_no_mask() -> None:
    reader = Memory(picture())

    outcome = apply_look(reader, None, prepare(LOOKS["curves"]), reader)

    expected = defined(LOOKS["curves"], picture(), "tetrahedral", 1)
    assert np.abs(reader.written - expected).max() < 0.51
    assert outcome.foreground == 1 and "exact curves" in outcome.plan


def test_an_empty_mask_is_an_error() -> None:
    reader = Memory(picture())

    with pytest.raises(MaskError, match="empty"):
        apply_look(
            reader, Memory(np.zeros((HEIGHT, WIDTH), np.uint8)), prepare(LOOKS["table"]), reader
        )


def test_without_opencolorio_numpy_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyOpenColorIO", None)

    assert prepare(LOOKS["table"]).name == "numpy, tetrahedral"
    with pytest.raises(ImportError):
        prepare(LOOKS["table"], through="ocio")


def test_no_torch_is_loaded() -> None:
    """Importing it takes longer than applying a look."""
    code = (
        "import sys, hzcli.commands.apply_lut, hzcli.engine.looks.apply_look, hzcli.io.tiff, "
        "hzcli.io.picture, hzcli.io.looks, hzcli.commands.mix; sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]

    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
