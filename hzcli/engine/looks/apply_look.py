"""Applies a look to one picture, band by band: in the whole of it, or inside a soft mask.

A native kernel does the arithmetic of large pictures, OpenColorIO that of others
(`pip install "hz[lut]"`), numpy where they are not installed. No torch: a look needs no network.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from hzcli.core.codes import LARGEST_TABLE, Coded, CodedCurves, OcioTable, ocio_version, widen
from hzcli.core.mask import bounding_box
from hzcli.core.tetra import CodedLook, Interpolation, shaped_codes
from hzcli.core.window import Size, Window, bands
from hzcli.engine import coded
from hzcli.engine.outcome import Outcome
from hzcli.engine.overlap import Clock, ahead, behind
from hzcli.engine.plan import cores, plan
from hzcli.errors import MaskError
from hzcli.io.cube import Look
from hzcli.io.looks import weakened

Through = Literal["auto", "ocio", "numpy"]

BINS = 4096  # of the histogram of change: 16 to an 8-bit level
COUNTED_ROWS = 16  # of which one tells how much changed ..
COUNTED_PIXELS = 1 << 22  # .. in larger pictures
MOST_WORKERS = 8


class Reader(Protocol):
    size: Size
    depth: int

    def read(self, window: Window) -> np.ndarray: ...


class Writer(Protocol):
    """Where it has it: `wants_alpha`; then `write` is given that too, (h, W) uint16."""

    def write(self, rows: np.ndarray) -> None: ...


@dataclass(frozen=True)
class Prepared:
    """A look, ready to be applied to any number of pictures.

    weight: share of it in the result, that of its own strength that is not in its tables yet.
    name: what does the arithmetic of pictures that are not large, for reports. kind: and how.
    """

    recolouring: Coded
    weight: float
    name: str
    kind: str


def prepare(
    look: Look,
    *,
    interpolation: Interpolation = "tetrahedral",
    strength: float = 1.0,
    through: Through = "auto",
) -> Prepared:
    """Make a look ready.

    Args:
        strength: 0 changes nothing, 1 changes as much as the look says.
        through: "auto" takes OpenColorIO where it is installed and can hold the table.

    Raises:
        ImportError: OpenColorIO was asked for and is not installed.
    """
    baked = weakened(look, strength)
    weight = strength if baked is None else 1.0
    look = baked or look
    # Without a table every code has its answer ready: nothing is faster, or more exact.
    shaped = shaped_codes(look.shaper, look.domain)
    if look.table is None:
        assert shaped is not None
        return Prepared(CodedCurves(shaped.T), weight, "exact curves", "exact curves")
    if through != "numpy" and len(look.table) <= LARGEST_TABLE:
        try:
            table = OcioTable(look.table, interpolation, shaped)
            name = f"OpenColorIO {ocio_version()}, {interpolation}"
            return Prepared(table, weight, name, interpolation)
        except ImportError:
            if through == "ocio":
                raise
    plain = CodedLook(look.table, look.shaper, look.domain, interpolation)
    return Prepared(plain, weight, f"numpy, {interpolation}", interpolation)


def recolour(
    rows: np.ndarray,
    mask: np.ndarray | None,
    prepared: Prepared,
    pool: Executor | None = None,
    change: np.ndarray | None = None,
    step: int = 1,
    large: bool = False,
) -> None:
    """Apply a look to rows of a picture, in place.

    Args:
        rows: (h, W, 3) uint16, the source, and afterwards the result.
        mask: (h, W) uint8 or uint16, full scale inside; None: everywhere.
        pool: threads to share the work.
        change: counts of |result - source| where the mask is above 0, one bin to 16 codes,
            (BINS + 1,); of one row in `step`.
        large: whether the picture is, see `coded.is_large`.
    """
    before = rows[::step].copy() if change is not None else rows
    coded.recolour(rows, mask, prepared.recolouring, prepared.weight, pool=pool, large=large)
    if change is not None:
        size = np.abs(rows[::step].astype(np.int32) - before)
        if mask is not None:
            size = size[mask[::step] != 0]
        change += np.bincount((size + 8 >> 4).ravel(), minlength=BINS + 1)


# One picture


@dataclass(frozen=True)
class _Reach:
    """What the plan asks of a Transform."""

    halo: int = 0
    align: int = 1
    bytes_per_pixel: int = 64


@dataclass(frozen=True)
class _Band:
    """Rows as they were read; with a mask, the box outside of which it is 0."""

    codes: np.ndarray
    alpha: np.ndarray | None
    mask: np.ndarray | None = None
    box: tuple[int, int, int, int] | None = None

    def inside(self, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
        """What of rows may change, and its mask (None: everywhere)."""
        if self.mask is None:
            return rows, None
        if self.box is None:
            return None, None
        top, bottom, left, right = self.box
        at = slice(top, bottom), slice(left, right)
        return rows[at], self.mask[at]


def apply_look(
    reader: Reader,
    mask_reader: Reader | None,
    prepared: Prepared,
    writer: Writer,
    *,
    budget_bytes: int | None = None,
) -> Outcome:
    """Apply a look to one picture and hand its rows to `writer`, which the caller closes.

    Args:
        reader: the picture, (h, w, 3) uint8 or uint16. mask_reader: (h, w), of the same size;
            None: the look applies everywhere.
        budget_bytes: what the process may take; None plans by what is free.

    Returns:
        What was done and measured; `change_p99` to a sixteenth of a level.

    Raises:
        MaskError: the mask is empty. PictureError: a file cannot be read or written.
        BudgetError: the budget is too small.
    """
    size, clock, covered = reader.size, Clock(), 0.0
    change = np.zeros(BINS + 1, np.int64)
    workers, large = min(MOST_WORKERS, cores()), coded.is_large(size)
    with clock("total"):
        chosen = plan(size, None, _Reach(), budget_bytes)  # type: ignore[arg-type]
        step = COUNTED_ROWS if size.pixels > COUNTED_PIXELS else 1
        with_alpha = getattr(writer, "wants_alpha", False)

        def read(window: Window) -> _Band:
            with clock("read"):
                alpha = reader.read_alpha(window) if with_alpha else None  # type: ignore[attr-defined]
                codes = reader.read(window)
                if mask_reader is None:
                    return _Band(codes, alpha)
                mask = mask_reader.read(window)
                return _Band(codes, alpha, mask, bounding_box(mask))

        def write(rows: tuple[np.ndarray, ...]) -> None:
            with clock("write"):
                writer.write(*rows)

        # Two bands of output: one is filled while the other is written.
        shape = (min(chosen.band_rows, size.height), size.width, 3)
        spare = [np.empty(shape, np.uint16) for _ in range(2)]
        with (
            ThreadPoolExecutor(workers, "hz-look") as pool,
            behind(write) as send,
            ahead(read, bands(size, chosen.band_rows)) as read_bands,
        ):
            for index, band in enumerate(read_bands):
                rows = spare[index % 2][: len(band.codes)]
                with clock("apply"):
                    widen(band.codes, rows)
                    inside, mask = band.inside(rows)
                    if prepared.weight > 0 and inside is not None:
                        recolour(inside, mask, prepared, pool, change, step, large)
                    if mask is not None:
                        covered += float(mask.sum(dtype=np.uint64)) / np.iinfo(mask.dtype).max
                if band.alpha is None:
                    send((rows,))
                else:
                    wide = np.empty(band.alpha.shape, np.uint16)
                    widen(band.alpha, wide)
                    send((rows, wide))
    if mask_reader is not None and covered == 0:
        raise MaskError(
            "the mask is empty: it is 0 everywhere",
            "Paint where the look is to apply white, or apply it everywhere.",
        )
    mean, p99 = _figures(change)
    native = large and prepared.weight > 0 and prepared.recolouring.native is not None
    through = f"native kernel, {prepared.kind}" if native else prepared.name
    return Outcome(
        input=str(getattr(reader, "path", "")),
        width=size.width,
        height=size.height,
        depth_in=reader.depth,
        mode="look",
        device="cpu",
        seconds=clock.seconds,
        foreground=1.0 if mask_reader is None else covered / size.pixels,
        change_mean=mean,
        change_p99=p99,
        plan=f"{chosen.reason}; {through}",
    )


def _figures(change: np.ndarray) -> tuple[float, float]:
    """Mean and 99th percentile in 8-bit levels."""
    total = int(change.sum())
    if not total:
        return 0.0, 0.0
    rank = int(np.searchsorted(np.cumsum(change), 0.99 * total))
    level = 16 / 257
    return float(change @ np.arange(BINS + 1)) / total * level, rank * level
