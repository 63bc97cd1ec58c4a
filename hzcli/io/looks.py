"""Looks in any format hz knows: by their names in, by the format asked for out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hzcli.errors import LookError
from hzcli.io import atomic
from hzcli.io.cube import UNIT, Look, read_cube, write_cube
from hzcli.io.hald import LEVEL, read_hald, write_hald
from hzcli.io.threedl import LARGEST, read_3dl, write_3dl

FORMATS = ("cube", "cube1d", "hald", "3dl", "npy")
SUFFIXES = {".cube": "cube", ".3dl": "3dl", ".npy": "npy"} | dict.fromkeys(
    (".png", ".tif", ".tiff"), "hald"
)


def format_of(path: Path) -> str:
    """The format that a file's name says.

    Raises:
        LookError: none that hz knows.
    """
    try:
        return SUFFIXES[Path(path).suffix.lower()]
    except KeyError:
        raise LookError(
            f"{path} is no kind of look that hz knows",
            "Looks are .cube, .3dl and .npy files, and Hald CLUTs (.png).",
        ) from None


def read(path: Path) -> Look:
    """Read a look; its name says how.

    Raises:
        LookError: of no format known, or unreadable.
    """
    readers = {"cube": read_cube, "3dl": read_3dl, "npy": _read_npy, "hald": read_hald}
    return readers[format_of(path)](Path(path))


def write(
    look: Look,
    target: Path | BinaryIO,
    format: str = "cube",
    *,
    comments: Sequence[str] = (),
) -> None:
    """Write a look, resampled to where the format has its nodes if need be.

    A Hald CLUT keeps the table's nodes where their number a side is a square (16, 25, 36 ..); else
    it has level 8 (64), or the next above.

    Args:
        target: a path (written whole or not at all, an existing file is replaced) or a stream.
        format: one of FORMATS. comments: for those that have any.

    Raises:
        LookError: the format cannot hold it. OSError: the file cannot be written.
    """
    if format == "cube1d":
        if look.table is not None:
            raise LookError(
                "the look mixes channels: no one-dimensional file can hold it",
                "Choose another format.",
            )
        write_cube(resampled(look, look.size), target, comments=comments)
    elif format == "cube":
        write_cube(resampled(look, look.size), target, comments=comments)
    elif format == "hald":
        look = as_table(look)
        level = next(n for n in range(2, 17) if n * n >= look.size)
        kept = level * level == look.size
        write_hald(look if kept else resampled(look, max(LEVEL, level) ** 2), target)
    elif format == "3dl":
        look = as_table(look)
        write_3dl(resampled(look, min(look.size, LARGEST)), target)
    elif format == "npy":
        look = resampled(look, look.size)
        array = look.shaper if look.table is None else as_table(look).table
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array, np.float32))
        if isinstance(target, (str, Path)):
            with atomic.beside(Path(target)) as temporary:
                temporary.write_bytes(buffer.getvalue())
        else:
            target.write(buffer.getvalue())
    else:
        raise ValueError(f"format must be one of {FORMATS}, not {format!r}")


def _read_npy(path: Path) -> Look:
    try:
        array: Any = np.load(path, allow_pickle=False)
    except OSError as error:
        if error.strerror is None:  # numpy's own
            raise LookError(f"{path} cannot be read as .npy: {error}", "Write it again.") from error
        raise LookError(f"{path} cannot be opened: {error.strerror}", "Check the path.") from error
    except (ValueError, EOFError, TypeError, MemoryError, SyntaxError) as error:
        raise LookError(f"{path} cannot be read as .npy: {error}", "Write it again.") from error
    shape = getattr(array, "shape", None)
    if shape is None or array.dtype.kind not in "fiu":
        raise LookError(f"{path} holds no array of numbers", "Write it again.")
    if len(shape) == 4 and shape[0] == 3 != shape[3]:  # channels first, as networks have them
        array, shape = np.moveaxis(array, 0, -1), (*shape[1:], 3)
    n = shape[0] if shape else 0
    if shape not in ((n, n, n, 3), (n, 3)) or n < 2 or n > (256 if len(shape) == 4 else 65536):
        raise LookError(
            f"{path} is an array {shape}, expected (n, n, n, 3), indexed [r][g][b], or (n, 3)",
            "Write it again.",
        )
    array = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(array).all():
        raise LookError(f"{path} holds values that are no numbers", "Write it again.")
    if len(shape) == 2:
        return Look(path.stem, None, array)
    return Look(path.stem, array)


# A look in other shapes


def resampled(look: Look, size: int) -> Look:
    """The same look over 0 to 1, the first of its tables at `size` nodes.

    Trilinear. Exact where the new nodes are among the old ones; where all the old are among the
    new, a trilinear reader will not see a difference.
    """
    if look.shaper is not None:
        shaper = look.shaper
        if look.domain != UNIT or (look.table is None and size != len(shaper)):
            count = size if look.table is None else len(shaper)
            shaper = np.stack(
                [_weights(len(shaper), count, look.domain, c) @ shaper[:, c] for c in range(3)], -1
            )
        return replace(look, shaper=shaper.astype(np.float32), domain=UNIT)
    assert look.table is not None
    n = len(look.table)
    if size == n and look.domain == UNIT:
        return look
    table = look.table.astype(np.float64)
    for axis in range(3):
        table = np.moveaxis(
            np.tensordot(_weights(n, size, look.domain, axis), table, ([1], [axis])), 0, axis
        )
    return replace(look, table=table.astype(np.float32), domain=UNIT)


def _weights(old: int, new: int, domain: Any, channel: int) -> np.ndarray:
    """(new, old): the shares of old nodes, over a channel's domain, in new ones over 0 to 1."""
    low, high = domain[0][channel], domain[1][channel]
    place = np.clip((np.linspace(0, 1, new) - low) / (high - low), 0, 1) * (old - 1)
    # Rounding must not smear a node that is one of the old.
    place = np.where(np.abs(place - np.rint(place)) < 1e-9, np.rint(place), place)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(old)))


def as_table(look: Look, size: int = 65) -> Look:
    """The look as one table over 0 to 1, and nothing else.

    Args:
        size: nodes a side where the look has a shaper, at least as many as its table's: what
            bends between them is lost.
    """
    if look.shaper is None:
        return resampled(look, look.size)
    even = resampled(look, look.size)
    assert even.shaper is not None
    size = min(256, max(size, 0 if look.table is None else len(look.table)))
    knots, entries = np.linspace(0, 1, size), np.linspace(0, 1, len(even.shaper))
    # Each channel's own curve, at the nodes of the new table.
    places = [np.interp(knots, entries, even.shaper[:, c].astype(np.float64)) for c in range(3)]
    if look.table is None:
        table = np.stack(np.meshgrid(*places, indexing="ij"), -1)
    else:
        n, table = len(look.table), look.table.astype(np.float64)
        for axis in range(3):
            at = np.clip(places[axis], 0, 1)[:, None] * (n - 1)
            weights = np.maximum(0, 1 - np.abs(at - np.arange(n)))
            table = np.moveaxis(np.tensordot(weights, table, ([1], [axis])), 0, axis)
    return Look(look.title, table.astype(np.float32))


def weakened(look: Look, strength: float) -> Look | None:
    """The look blended with the identity: 0 is the identity, 1 the look.

    Returns:
        None where no table says the same: where a shaper comes before it, or the domain ends
        inside 0 to 1, and what is beyond would be held at its ends.
    """
    if strength == 1:
        return look
    low, high = (np.asarray(end, np.float64) for end in look.domain)
    if (low > 0).any() or (high < 1).any() or (look.table is not None and look.shaper is not None):
        return None
    axes = [np.linspace(a, b, look.size) for a, b in zip(low, high, strict=True)]
    if look.table is None:
        assert look.shaper is not None
        same = np.stack(axes, -1)
        return replace(look, shaper=(same + strength * (look.shaper - same)).astype(np.float32))
    same = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    return replace(look, table=(same + strength * (look.table - same)).astype(np.float32))


def mixed(a: Look, b: Look, at: float) -> Look:
    """(1 - at) a + at b, node by node, at the nodes of the larger (HINet, eq. 4).

    Two looks of one dimension stay so; others become bare tables.

    Args:
        at: 0 gives `a`, 1 gives `b`.
    """
    if a.table is None and b.table is None:
        x, y = a, b
    else:
        # A shaper is a table of its own; one dimension has no place among three.
        x, y = as_table(a), as_table(b)
    size = max(x.size, y.size)
    x, y = resampled(x, size), resampled(y, size)
    title = f"{a.title or 'a'} to {b.title or 'b'} at {at:g}"
    if x.table is None or y.table is None:
        assert x.shaper is not None and y.shaper is not None
        return replace(x, title=title, shaper=_between(x.shaper, y.shaper, at))
    return replace(x, title=title, table=_between(x.table, y.table, at))


def _between(a: np.ndarray, b: np.ndarray, at: float) -> np.ndarray:
    if at in (0, 1):
        return b if at else a
    one = a.astype(np.float64)
    return (one + (b - one) * at).astype(np.float32)  # eq. (4)
