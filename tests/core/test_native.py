"""Looks' native kernels against float64, OpenColorIO and numpy; when they are used."""

from __future__ import annotations

import subprocess
import sys
import types
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzcli.core import native
from hzcli.core.codes import CodedCurves, OcioTable
from hzcli.core.tetra import UNIT, CodedLook, interpolate, shaped_codes

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "hzcli.core.lookups_llvm"
KINDS = ("tetrahedral", "trilinear", "curves")
TABLES = KINDS[:2]
WHITE = 65535


@pytest.fixture(scope="module")
def kernel() -> None:
    """Where the kernels are needed."""
    pytest.importorskip("llvmlite")


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(native, "_made", {})
    yield


def colours(shape: tuple[int, int], seed: int) -> np.ndarray:
    """(h, w, 3) uint16: any codes, and many of the ends and of neutrals, where places tie."""
    chance = np.random.default_rng(seed)
    codes = chance.integers(0, WHITE + 1, (*shape, 3)).astype(np.uint16)
    kind = chance.integers(0, 6, shape)
    codes[kind == 0] = codes[kind == 0][:, :1]
    codes[kind == 1, 1] = codes[kind == 1, 2]
    codes[kind == 2] = np.where(codes[kind == 2] < 30000, 0, WHITE)
    return codes


def held(shape: tuple[int, int], dtype: type, seed: int) -> np.ndarray:
    """(h, w): runs of nothing, of everything, and of shares between."""
    chance = np.random.default_rng(seed + 1)
    full = np.iinfo(dtype).max
    runs = np.repeat(chance.integers(0, 3, (shape[0], 1 + shape[1] // 40)), 40, axis=1)
    runs = runs[:, : shape[1]]
    return np.where(runs == 2, chance.integers(0, full + 1, shape), runs * full).astype(dtype)


def rough(n: int) -> np.ndarray:
    """Random values, some of them below 0 and above 1: no error can hide."""
    return (np.random.default_rng(n).random((n, n, n, 3)) * 1.2 - 0.1).astype(np.float32)


def blended(source: np.ndarray, new: np.ndarray, mask: np.ndarray | None, weight: float):
    """By definition, in codes, not rounded."""
    share = 1.0 if mask is None else (mask / np.iinfo(mask.dtype).max)[..., None]
    return source + weight * share * (new.clip(0, WHITE) - source)


@st.composite
def windows(draw: st.DrawFn) -> tuple[np.ndarray, tuple[slice, slice], np.ndarray | None]:
    """A picture, part of it, and a mask of the same."""
    shape = draw(st.integers(1, 9)), draw(st.sampled_from([1, 2, 15, 16, 17, 63, 64, 65, 200, 301]))
    seed = draw(st.integers(0, 999))
    top, left = (draw(st.integers(0, n)) for n in shape)
    bottom, right = (draw(st.integers(a, n)) for a, n in zip((top, left), shape, strict=True))
    dtype = draw(st.sampled_from([None, np.uint8, np.uint16]))
    mask = None if dtype is None else held(shape, dtype, seed)
    return colours(shape, seed), (slice(top, bottom), slice(left, right)), mask


WEIGHTS = st.sampled_from([1.0, 0.6, 0.0])


@given(
    case=windows(), n=st.sampled_from([2, 3, 9, 17]), kind=st.sampled_from(TABLES), weight=WEIGHTS
)
@settings(max_examples=150, deadline=None)
def test_a_table_is_what_the_definition_says(kernel, case, n, kind, weight) -> None:
    """In float64, rounded once; and nothing beyond the part is touched."""
    picture, part, mask = case
    nodes, got = rough(n), picture.copy()
    own = None if mask is None else mask[part]
    native.table(nodes, kind).recolour(got[part], own, weight)
    new = WHITE * interpolate(nodes, picture[part] / WHITE, kind)
    expected = picture.astype(float)
    expected[part] = blended(picture[part], new, own, weight)
    assert np.abs(got - expected).max() < 0.52
    if own is not None:
        assert np.array_equal(got[part][own == 0], picture[part][own == 0])


@given(case=windows(), weight=WEIGHTS)
@settings(max_examples=60, deadline=None)
def test_curves_are_what_the_definition_says(kernel, case, weight) -> None:
    picture, part, mask = case
    values = np.random.default_rng(5).random((3, WHITE + 1)) * 1.2 - 0.1
    got, own = picture.copy(), None if mask is None else mask[part]
    CodedCurves(values).native.recolour(got[part], own, weight)
    new = WHITE * np.stack([values[c][picture[part][..., c]] for c in range(3)], -1)
    expected = picture.astype(float)
    expected[part] = blended(picture[part], new, own, weight)
    assert np.abs(got - expected).max() < 0.52
    if own is not None:
        assert np.array_equal(got[part][own == 0], picture[part][own == 0])


@given(case=windows(), weight=WEIGHTS, apart=st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_colours_ready_made_are_what_the_definition_says(kernel, case, weight, apart) -> None:
    """In planes that may be part of larger ones, of which the last number may be the last there
    is."""
    picture, part, mask = case
    rows, columns = picture[part].shape[:2]
    size = 3 * (rows + apart) * (columns + apart)
    larger = (np.random.default_rng(6).random(size) * 1.4 - 0.2).astype(np.float32)
    planes = larger.reshape(3, rows + apart, columns + apart)[:, apart:, apart:]
    got, own = picture.copy(), None if mask is None else mask[part]
    native.planes(planes).recolour(got[part], own, weight)
    expected = picture.astype(float)
    new = WHITE * planes.transpose(1, 2, 0).astype(float)
    expected[part] = blended(picture[part], new, own, weight)
    assert np.abs(got - expected).max() < 0.52
    if own is not None:
        assert np.array_equal(got[part][own == 0], picture[part][own == 0])


@pytest.mark.parametrize(
    "planes",
    [
        np.zeros((3, 4, 5)),
        np.zeros((2, 4, 5), np.float32),
        np.zeros((4, 5, 3), np.float32).transpose(2, 0, 1),
    ],
)
def test_other_planes_are_refused(kernel, planes) -> None:
    with pytest.raises(ValueError, match="not planes"):
        native.planes(planes)


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("n", [2, 9, 33, 65, 90, 130])
def test_behind_a_shaper(kernel, kind, n) -> None:
    """Of tables of few and of many nodes; against numpy, which has places of its own."""
    shaper = (np.linspace(0, 1, 9)[:, None] ** [0.5, 1.5, 2]).astype(np.float32)
    domain = ((-0.1, 0, 0.2), (1, 1.2, 1))
    look = CodedLook(rough(n), shaper, domain, kind)
    source, mask = colours((40, 301), n), held((40, 301), np.uint8, n)
    got = source.copy()
    look.native.recolour(got, mask)
    shaped = shaped_codes(shaper, domain)
    places = np.stack([shaped[:, c][source[..., c]] for c in range(3)], -1)
    expected = blended(source, WHITE * interpolate(rough(n), places, kind), mask, 1)
    assert np.abs(got - expected).max() < 0.52
    theirs = source.copy()
    look.apply(theirs, theirs)
    assert np.abs(got[mask == 255].astype(int) - theirs[mask == 255]).max() <= 1


@pytest.mark.parametrize("kind", TABLES)
def test_opencolorio_says_the_same(kernel, kind) -> None:
    pytest.importorskip("PyOpenColorIO")
    look = OcioTable(rough(17), kind)
    source = colours((50, 333), 1)
    ours, theirs = source.copy(), source.copy()
    look.native.recolour(ours, None)
    look.apply(theirs, theirs)
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("n", [2, 17, 33, 65, 129])
def test_the_identity_changes_no_code(kernel, kind, n) -> None:
    axis = np.linspace(0, 1, n)
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).astype(np.float32)
    every = np.repeat(np.arange(WHITE + 1, dtype=np.uint16).reshape(64, 1024, 1), 3, -1)
    every[:, :, 1], every[:, :, 2] = every[::-1, :, 1], every[:, ::-1, 2].copy()
    got = every.copy()
    native.table(nodes, kind).recolour(got, None)
    assert np.array_equal(got, every)


@given(
    value=st.sampled_from([np.nan, np.inf, -np.inf, 1e30, -1e30]),
    where=st.sampled_from(["nodes", "shaper", "curves"]),
    kind=st.sampled_from(TABLES),
)
@settings(deadline=None)
def test_what_is_no_number_is_no_address(kernel, value, where, kind) -> None:
    """Whatever a table holds, colours that do not meet it are as without it."""
    source = colours((7, 301), 2)
    nodes, shaped = rough(5), np.repeat(np.linspace(0, 1, WHITE + 1)[:, None], 3, 1)
    clean, got = source.copy(), source.copy()
    if where == "curves":
        values = np.repeat(np.linspace(0, 1, WHITE + 1)[None], 3, 0)
        CodedCurves(values).native.recolour(clean, None)
        values[:, :7000] = value
        with np.errstate(invalid="ignore", over="ignore"):
            CodedCurves(values).native.recolour(got, None)
        apart = source >= 7000
    else:
        native.table(nodes, kind, shaped).recolour(clean, None)
        if where == "nodes":
            nodes[:2] = value  # of a red below half a cell beyond the second node
        else:
            shaped[: WHITE // 2, 0] = value
        native.table(nodes, kind, shaped).recolour(got, None)
        apart = source[..., :1] > WHITE // 2
        apart = np.repeat(apart, 3, -1)
    assert np.array_equal(got[apart], clean[apart])


@pytest.mark.parametrize("kind", KINDS)
def test_a_pixel_has_the_same_bytes_wherever_it_stands(kernel, kind) -> None:
    """In any part, beside any mask; by any number of threads."""
    values = np.random.default_rng(5).random((3, WHITE + 1)) * 1.2 - 0.1
    look = CodedCurves(values).native if kind == "curves" else native.table(rough(9), kind)
    source, mask = colours((64, 301), 3), held((64, 301), np.uint16, 3)
    whole, alone = source.copy(), source.copy()
    look.recolour(whole, mask, 0.7)
    for y, x in ((0, 0), (0, 117), (31, 0), (31, 117)):
        part = np.s_[y : (31 if y == 0 else 64), x : (117 if x == 0 else 301)]
        look.recolour(alone[part], mask[part], 0.7)
    assert np.array_equal(alone, whole)
    full, none = source.copy(), source.copy()
    look.recolour(full, mask)
    look.recolour(none, None)
    assert np.array_equal(full[mask == WHITE], none[mask == WHITE])
    together = source.copy()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda y: look.recolour(together[y : y + 5], None), range(0, 64, 5)))
    assert np.array_equal(together, none)


GUARDED = """
import ctypes, mmap, numpy as np
from hzcli.core import native, run_sums
run_sums.BEFORE = 0
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
kept = []
def last(array, first):
    # The array's copy at the end of a page (or at the start of one) beside which nothing is.
    size = -(-array.nbytes // PAGE) * PAGE
    whole = np.frombuffer(mmap.mmap(-1, size + 2 * PAGE), np.uint8)
    kept.append(whole)
    for at in (0, size + PAGE):
        assert libc.mprotect(ctypes.c_void_p(whole.ctypes.data + at), PAGE, 0) == 0
    start = PAGE if first else PAGE + size - array.nbytes
    view = whole[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view
chance = np.random.default_rng(0)
nodes = chance.random((5, 5, 5, 3))
values = (chance.random((3, 65536)) * 65535).astype(np.float32)
looks = [native.table(nodes, k, s) for k in ("tetrahedral", "trilinear")
         for s in (None, np.ones((65536, 3)))]
looks.append(native.curves(values, values.astype(np.uint16)))
for width in (1, 15, 16, 17, 63, 64, 65, 127, 128, 130):
    for dtype in (None, np.uint8, np.uint16):
        for first in (False, True):
            for share in (0, 0.5, 1):
                rows = last(chance.integers(0, 65536, (3, width, 3)).astype(np.uint16), first)
                mask = None
                if dtype is not None:
                    full = np.iinfo(dtype).max
                    mask = last(((chance.random((3, width)) < share) * full).astype(dtype), first)
                for look in looks:
                    look.recolour(rows, mask, 1.0)
                planes = last(chance.random((3, 3, width)).astype(np.float32), first)
                native.planes(planes).recolour(rows, mask, 1.0)
                codes = rows if dtype is None else rows.astype(dtype)
                run_sums.run_sums(last(codes, first), np.array([0, 2, 3]), np.array([0, width]))
assert run_sums._made[0]
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for guarded pages")
def test_nothing_beside_rows_and_masks_is_read_or_written(kernel) -> None:
    """They lie where the memory ends; a kernel that went further would end the process."""
    done = subprocess.run([sys.executable, "-c", GUARDED], check=False, cwd=ROOT)
    assert done.returncode == 0


def test_views_of_larger_arrays_are_read_as_they_are(kernel) -> None:
    look, source = native.table(rough(5), "tetrahedral"), colours((20, 90), 4)
    mask = held((20, 180), np.uint8, 4)
    expected, got = source.copy(), source.copy()
    look.recolour(expected, mask[:, ::2].copy())
    look.recolour(got, mask[:, ::2])
    assert np.array_equal(got, expected)
    upside, down = source.copy(), source.copy()
    look.recolour(upside[::-1], None)
    look.recolour(down, None)
    assert np.array_equal(upside, down)


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((4, 5, 3), np.uint8),
        np.zeros((4, 5, 4), np.uint16),
        np.zeros((4, 5, 4), np.uint16)[..., :3],
        np.zeros((4, 10, 3), np.uint16)[:, ::2],
        np.zeros((4, 5, 3), np.dtype(">u2")),
        np.broadcast_to(np.zeros(3, np.uint16), (4, 5, 3)),
    ],
)
def test_other_arrays_are_refused(kernel, rows) -> None:
    with pytest.raises(ValueError, match="not rows of pixels"):
        native.table(rough(3), "trilinear").recolour(rows, None)


@pytest.mark.parametrize("mask", [np.zeros((4, 6), np.uint8), np.zeros((4, 5), np.float32)])
def test_other_masks_are_refused(kernel, mask) -> None:
    with pytest.raises(ValueError, match="no mask"):
        native.table(rough(3), "trilinear").recolour(np.zeros((4, 5, 3), np.uint16), mask)


def test_tables_of_too_few_or_too_many_nodes_are_others(kernel) -> None:
    assert native.table(rough(1), "trilinear") is None
    assert native.table(np.zeros((257, 1, 1, 3)), "trilinear") is None


def test_without_llvmlite_there_is_none_and_nothing_is_said(undecided, monkeypatch) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "llvmlite"]:
        monkeypatch.delitem(sys.modules, name)
    for name in (KERNEL, "hzcli.core.llvm", "hzcli.core.llvm_values"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CodedLook(rough(3), None, UNIT).native is None
        assert CodedCurves(np.zeros((3, WHITE + 1))).native is None


def failing(monkeypatch: pytest.MonkeyPatch, made: object) -> None:
    """Put other kernels in the real ones' place."""
    module = types.ModuleType(KERNEL)
    module.made = made  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, KERNEL, module)
    monkeypatch.setattr(sys.modules["hzcli.core"], "lookups_llvm", module, raising=False)


def test_a_kernel_that_cannot_be_made_is_warned_of_once(kernel, undecided, monkeypatch) -> None:
    def made(kind: str) -> None:
        raise RuntimeError("no such processor\nand more")

    failing(monkeypatch, made)
    with pytest.warns(RuntimeWarning, match="without their native kernel.*: no such processor$"):
        assert native.table(rough(3), "trilinear") is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert native.table(rough(4), "trilinear") is None


@pytest.mark.parametrize("kind", [*KINDS, "planes"])
@pytest.mark.parametrize(("off", "believed"), [(0.3, True), (1, False), (-1, False)])
def test_a_kernel_that_is_wrong_is_not_used(
    kernel, undecided, monkeypatch, kind, off, believed
) -> None:
    """The bound is a code of 16 bits."""
    right = native.Native.recolour

    def wrong(self: native.Native, rows: np.ndarray, *others: object) -> None:
        right(self, rows, *others)
        if abs(off) == 1:
            rows[1, 20] = rows[1, 20].astype(int) + 2 * off

    monkeypatch.setattr(native.Native, "recolour", wrong)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = native.kernel(kind)
    assert (found is not None) == believed
    assert ["codes of 16 bits" in str(w.message) for w in said] == [True] * (not believed)


def test_nothing_is_imported_before_a_large_picture() -> None:
    code = (
        "import sys, hzcli.engine.looks.apply_look as a, hzcli.engine.recolour, numpy as np\n"
        "from hzcli.io.cube import Look\n"
        "look = a.prepare(Look('', np.zeros((2, 2, 2, 3), np.float32)), through='numpy')\n"
        "a.recolour(np.zeros((9, 9, 3), np.uint16), None, look)\n"
        "sys.exit(any(n.split('.')[0] == 'llvmlite' for n in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
