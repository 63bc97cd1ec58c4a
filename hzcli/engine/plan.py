"""How much of a picture is held at once: from a memory budget to the height of a band."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hzcli.core.window import Size
from hzcli.errors import BudgetError

if TYPE_CHECKING:
    from hzcli.core.transform import Reach

# (top, bottom, left, right) of the pixels with mask > 0.
Box = tuple[int, int, int, int]

# Per pixel of a full-width band, 16 bits assumed: two bands read (this one and the next:
# 6 bytes of colour, 2 of mask, 6 of ground truth), two written (this one and the last: 6).
BAND_BYTES = 2 * (6 + 2 + 6) + 2 * 6
# Per pixel of a tile: source, result and change as float32 (3 x 12), mask and weight (2 x 4);
# where its colours are shown to the Transform otherwise than they are, a copy of them (12).
TILE_BYTES = 3 * 12 + 2 * 4
SHOWN_BYTES = 12
# Taken when memory is plentiful. Larger tiles only leave the cache, and since the budget can
# only shrink them, the same picture has the same tiles, hence the same bytes, wherever there
# is this much.
BAND_TARGET = 128 << 20
TILE_TARGET = 64 << 20
# What a conversion of colours holds besides, in float64 and for the chunk at work.
CONVERSION_BYTES = 16 << 20
# Share of the free memory that is taken unasked.
FREE_SHARE = 0.5
# Bands and tiles begin and end at multiples of this where there is room: models that work in
# blocks then meet fewer that are cut in two.
MULTIPLE = 64
CGROUP = Path("/sys/fs/cgroup")  # where Linux states a container's limits

# What a picture may take beside others before the number of pictures at once gives way to it: a
# band, a tile, and what is decoded whole of the picture and its mask.
PICTURE_BYTES = BAND_TARGET + TILE_TARGET + (256 << 20)
MOST_AT_ONCE = 8
_PICTURES: ContextVar[int] = ContextVar("pictures at once", default=1)


@dataclass(frozen=True)
class Plan:
    """Bands of `band_rows` rows, recoloured in tiles of `tile_columns` columns.

    peak_bytes: what the process is expected to take, all included. reason: one line for -v.
    """

    band_rows: int
    tile_columns: int
    peak_bytes: int
    reason: str


def plan(
    size: Size,
    box: Box | None,
    reach: Reach,
    budget_bytes: int | None = None,
    *,
    used_bytes: int | None = None,
    beside_bytes: int = 0,
    band_bytes: int = BAND_BYTES,
    tile_bytes: int = TILE_BYTES,
) -> Plan:
    """Choose the height of the bands and the width of the tiles.

    Args:
        size: the picture's.
        box: where the mask is; None if nothing is to be recoloured.
        reach: the Transform's.
        budget_bytes: what the whole process may take; None takes half of what is free.
        used_bytes: what the process holds already; None measures it.
        beside_bytes: what it will need for other things at the same time.
        band_bytes, tile_bytes: what a pixel of a band and one of a tile take; see `bytes_in_bands`.

    Returns:
        The largest bands, up to a fixed target, that keep within the budget.

    Raises:
        BudgetError: not even the smallest band fits.
    """
    used = resident_bytes() if used_bytes is None else used_bytes
    used += beside_bytes
    given = budget_bytes is not None
    budget = _budget(used, budget_bytes)
    smallest = 0
    for rows, columns in _choices(size, box, reach, band_bytes, tile_bytes):
        peak = used + _cost(size, reach, rows, columns, band_bytes, tile_bytes)
        if peak <= budget:
            allowed = f"{_human(budget)} {'allowed' if given else 'taken from what is free'}"
            tiles = f" in tiles of {columns} columns" if box else ""
            reason = f"bands of {rows} rows{tiles}, about {_human(peak)} of {allowed}"
            return Plan(rows, columns, peak, reason)
        smallest = peak
    raise BudgetError(
        f"a picture of {size.width} x {size.height} needs about {_human(smallest)} "
        f"({_human(used)} of it taken already), {_human(budget)} allowed",
        f"Allow more with --memory {-(-smallest // (1 << 20))}M"
        if given
        else "Close other programs, or use a smaller model",
    )


def bytes_in_bands(read_depth: int, written_depth: int, alpha: bool, converted: bool) -> int:
    """What a pixel of a full-width band takes, at the depths of source and delivery.

    At least what 16 bits take, so that 8 and 16 bits are cut alike.

    Args:
        alpha: whether alpha is handed on. converted: whether all pixels change their profile.
    """
    source, target = (4 if depth == 32 else 2 for depth in (read_depth, written_depth))
    read = 3 * source + 2 + 6
    written = 3 * target + (target if alpha else 0)
    return 2 * (read + (source if alpha else 0)) + 2 * written + (2 * 12 if converted else 0)


def room(budget_bytes: int | None, beside_bytes: int = 0) -> int:
    """Bytes of results that a Transform may keep in memory before the bands are planned: half
    of what is left to take. What it keeps is part of what the plan finds taken."""
    used = resident_bytes() + beside_bytes
    return max(0, (_budget(used, budget_bytes) - used) // 2)


def _budget(used: int, budget_bytes: int | None) -> int:
    if budget_bytes is None:
        budget_bytes = used + int(free_bytes() * FREE_SHARE)
    return budget_bytes if sharing() == 1 else used + (budget_bytes - used) // sharing()


@contextmanager
def shared(pictures: int) -> Iterator[None]:
    """Within the block, in this thread, plans take their part of what is left: that of one
    picture of so many that are worked on at once."""
    token = _PICTURES.set(pictures)
    try:
        yield
    finally:
        _PICTURES.reset(token)


def sharing() -> int:
    """How many pictures this thread's is one of."""
    return _PICTURES.get()


def at_once(budget_bytes: int | None = None) -> int:
    """How many pictures are worked on at once when nobody says: as many as there are cores, up to
    `MOST_AT_ONCE`, and as there is memory for."""
    used = resident_bytes()
    fitting = (_budget(used, budget_bytes) - used) // PICTURE_BYTES
    return max(1, min(cores(), MOST_AT_ONCE, fitting))


def cores() -> int:
    """Cores that this process may run on; no more than a container has time for (Linux)."""
    if hasattr(os, "sched_getaffinity"):
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return max(1, min(found, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or "max"
        return found


def _choices(
    size: Size, box: Box | None, reach: Reach, band_bytes: int, tile_bytes: int
) -> Iterator[tuple[int, int]]:
    """(rows, columns), from the one wanted down to the smallest, the same for every budget."""
    left, right = box[2:] if box else (0, size.width)
    span = right - left // MULTIPLE * MULTIPLE
    pixels = TILE_TARGET // (tile_bytes + reach.bytes_per_pixel)
    # Tiles near to square repeat the least halo; a narrow box allows higher ones.
    rows = max(math.isqrt(pixels), pixels // span, 8 * reach.halo)
    rows = min(rows, BAND_TARGET // (band_bytes * size.width), size.height)
    rows = _multiple(_multiple(rows, MULTIPLE), reach.align)
    columns = min(_multiple(pixels // (rows + 2 * reach.halo), MULTIPLE), span)
    while True:
        yield rows, columns
        if rows <= reach.align and columns <= max(64, 2 * reach.halo):
            return
        # Halve what makes the larger part, so that tiles stay near to square.
        if columns > max(64, 2 * reach.halo, rows):
            columns = max(64, columns // 2)
        elif rows > reach.align:
            rows = max(reach.align, rows // 2 // reach.align * reach.align)
        else:
            columns = max(64, columns // 2)


def _cost(
    size: Size, reach: Reach, rows: int, columns: int, band_bytes: int, tile_bytes: int
) -> int:
    margin = 2 * (reach.halo + reach.align - 1)
    height = min(rows + margin, size.height)
    width = min(columns + margin, size.width)
    tile = height * width * (tile_bytes + reach.bytes_per_pixel)
    return height * size.width * band_bytes + tile


def cuts(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """[start, stop) in parts of `step`, but the first, which ends at a round number.

    >>> list(cuts(70, 300, 128))
    [(70, 192), (192, 300)]
    """
    if start >= stop:
        return
    for at in range(start - start % min(MULTIPLE, step), stop, step):
        yield max(at, start), min(at + step, stop)


def _multiple(value: int, of: int) -> int:
    return max(of, value // of * of)


def resident_bytes() -> int:
    """What this process holds in memory now; where that cannot be asked, its peak."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 300 << 20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def free_bytes() -> int:
    """Memory that can be taken without swapping, within a container's limit."""
    free = _system_free()
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            taken = int((CGROUP / "memory.current").read_text())
            free = min(free, max(0, int(limit) - taken))
    except (OSError, ValueError):
        pass
    return free


def _system_free() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        # macOS has no count of free pages: a quarter of all is a guess on the safe side.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (OSError, ValueError, AttributeError):
        return 2 << 30


def _human(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
