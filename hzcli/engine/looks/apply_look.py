"""Applies a look to one picture, band by band: in the whole of it, or inside a soft mask.

OpenColorIO does the arithmetic where it is installed (`pip install "hz[lut]"`), numpy where it
is not. No torch: a look needs no network.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from hzcli.core.tetra import WHITE, CodedLook, Interpolation, shaped_codes
from hzcli.core.window import Size, Window, bands
from hzcli.engine.looks.look_band import BINS, recolour
from hzcli.engine.outcome import Outcome
from hzcli.engine.overlap import Clock, ahead, behind
from hzcli.engine.plan import plan
from hzcli.errors import MaskError
from hzcli.io.cube import Look
from hzcli.io.looks import weakened

Through = Literal["auto", "ocio", "numpy"]

LARGEST_OCIO = 129  # nodes a side
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


class Recolouring(Protocol):
    """A look made ready for 16-bit codes; threads share it. `CodedLook` is one."""

    def apply(self, codes: np.ndarray, out: np.ndarray) -> None:
        """Codes (h, w, 3) uint16, rows of which may lie apart, to codes in `out`, or in place."""
        ...

    def colours(self, codes: np.ndarray) -> np.ndarray:
        """Codes (N, 3) to numbers in codes (N, 3) float32."""
        ...


@dataclass(frozen=True)
class Prepared:
    """A look, ready to be applied to any number of pictures.

    weight: share of it in the result, that of its own strength that is not in its tables yet.
    name: what does the arithmetic, for reports.
    """

    recolouring: Recolouring
    weight: float
    name: str


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
    ocio = None if through == "numpy" else _ocio(needed=through == "ocio")
    # Without a table every code has its answer ready: nothing is faster, or more exact.
    if ocio is not None and look.table is not None and len(look.table) <= LARGEST_OCIO:
        name = f"OpenColorIO {ocio.GetVersion()}, {interpolation}"
        return Prepared(_OcioLook(ocio, look, interpolation), weight, name)
    coded = CodedLook(look.table, look.shaper, look.domain, interpolation)
    name = "numpy, exact curves" if look.table is None else f"numpy, {interpolation}"
    return Prepared(coded, weight, name)


def _ocio(*, needed: bool) -> Any:
    try:
        import PyOpenColorIO
    except ImportError:
        if needed:
            raise
        return None
    return PyOpenColorIO


class _OcioLook:
    """A look in OpenColorIO's hands, one processor from codes to codes and one to numbers."""

    def __init__(self, ocio: Any, look: Look, interpolation: Interpolation) -> None:
        assert look.table is not None
        self._ocio = ocio
        transform = ocio.GroupTransform()
        shaped = shaped_codes(look.shaper, look.domain)
        if shaped is not None:
            curves = ocio.Lut1DTransform(len(shaped), False)
            curves.setData(np.clip(shaped, 0, 1).astype(np.float32).ravel())
            transform.appendTransform(curves)
        table = ocio.Lut3DTransform(len(look.table))
        kinds = {"tetrahedral": ocio.INTERP_TETRAHEDRAL, "trilinear": ocio.INTERP_LINEAR}
        table.setInterpolation(kinds[interpolation])
        table.setData(np.ascontiguousarray(look.table, np.float32).ravel())
        transform.appendTransform(table)
        processor = ocio.Config.CreateRaw().getProcessor(transform)
        to = {"codes": ocio.BIT_DEPTH_UINT16, "numbers": ocio.BIT_DEPTH_F32}
        self._cpu = {
            name: processor.getOptimizedCPUProcessor(
                ocio.BIT_DEPTH_UINT16, depth, ocio.OPTIMIZATION_DEFAULT
            )
            for name, depth in to.items()
        }

    def _image(self, pixels: np.ndarray, height: int, width: int, row_bytes: int) -> Any:
        depth = self._ocio.BIT_DEPTH_UINT16 if pixels.itemsize == 2 else self._ocio.BIT_DEPTH_F32
        order, size = self._ocio.CHANNEL_ORDERING_RGB, pixels.itemsize
        return self._ocio.PackedImageDesc(
            pixels, width, height, order, depth, size, 3 * size, row_bytes
        )

    def apply(self, codes: np.ndarray, out: np.ndarray) -> None:
        for array in (codes, out):
            assert array.strides[1:] == (6, 2), "pixels of a row lie side by side"
        height, width = codes.shape[:2]
        target = self._image(out, height, width, out.strides[0])
        if codes is out:  # to wrap an array costs as much as some hundred pixels
            self._cpu["codes"].apply(target)
        else:
            source = self._image(codes, height, width, codes.strides[0])
            self._cpu["codes"].apply(source, target)

    def colours(self, codes: np.ndarray) -> np.ndarray:
        codes = np.ascontiguousarray(codes)
        out = np.empty(codes.shape, np.float32)
        if len(codes):
            count = len(codes)
            source = self._image(codes, 1, count, codes.nbytes)
            self._cpu["numbers"].apply(source, self._image(out, 1, count, out.nbytes))
        out *= WHITE
        return out


# One picture


@dataclass(frozen=True)
class _Reach:
    """What the plan asks of a Transform."""

    halo: int = 0
    align: int = 1
    bytes_per_pixel: int = 64


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
    workers = min(MOST_WORKERS, _cores())
    with clock("total"):
        chosen = plan(size, None, _Reach(), budget_bytes)  # type: ignore[arg-type]
        step = COUNTED_ROWS if size.pixels > COUNTED_PIXELS else 1
        with_alpha = getattr(writer, "wants_alpha", False)

        def read(window: Window) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
            with clock("read"):
                alpha = reader.read_alpha(window) if with_alpha else None  # type: ignore[attr-defined]
                mask = mask_reader.read(window) if mask_reader else None
                return reader.read(window), mask, alpha

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
            for index, (codes, mask, alpha) in enumerate(read_bands):
                rows = spare[index % 2][: len(codes)]
                with clock("apply"):
                    _widen(codes, rows)
                    if prepared.weight > 0:
                        recolour(rows, mask, prepared, pool, change, step)
                    if mask is not None:
                        covered += float(mask.sum(dtype=np.uint64)) / np.iinfo(mask.dtype).max
                if alpha is None:
                    send((rows,))
                else:
                    wide = np.empty(alpha.shape, np.uint16)
                    _widen(alpha, wide)
                    send((rows, wide))
    if mask_reader is not None and covered == 0:
        raise MaskError(
            "the mask is empty: it is 0 everywhere",
            "Paint where the look is to apply white, or apply it everywhere.",
        )
    mean, p99 = _figures(change)
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
        plan=f"{chosen.reason}; {prepared.name}",
    )


def _widen(codes: np.ndarray, out: np.ndarray) -> None:
    """Codes of 8 or 16 bits as those of 16."""
    if codes.dtype == np.uint8:
        np.multiply(codes, np.uint16(257), out=out, dtype=np.uint16)
    else:
        np.copyto(out, codes)


def _figures(change: np.ndarray) -> tuple[float, float]:
    """Mean and 99th percentile in 8-bit levels."""
    total = int(change.sum())
    if not total:
        return 0.0, 0.0
    rank = int(np.searchsorted(np.cumsum(change), 0.99 * total))
    level = 16 / 257
    return float(change @ np.arange(BINS + 1)) / total * level, rank * level


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
