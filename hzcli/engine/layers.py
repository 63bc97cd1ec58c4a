"""Companions of a result for an editor: the mask, the change, and the foreground as a layer.

Codes c of 16 bits stand for c / 65535; all are of the result's colour space and encoding.

    mask    grey. The mask as it was used, 65535 = harmonised in full.
    delta   RGB. 16 bits: 32768 + (result - source) / 2, towards mid-grey: the result is
            source + 2 (delta - 32768), within one code; in an editor, the blend mode "linear
            light". Float: result - source, to be added.
    layer   RGB and unassociated alpha a. Placed over the untouched composite in mode "normal",
            in the picture's own encoding, it gives the result within one code:
            source (1 - a) + layer a.

With 8- and 16-bit results all are 16 bits; with float results delta and layer are float.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hzcli.core.window import Size
from hzcli.engine.naming import beside
from hzcli.errors import UsageError
from hzcli.io.meta import Meta

KINDS = ("mask", "delta", "layer")
_TOP = 65535
_MIDDLE = 32768
# Rows worked on at a time: the float arithmetic of a band then stays small.
_ROWS = 64
_DESCRIPTIONS = {
    "mask": "hz mask: 65535 is harmonised in full",
    "delta": "hz delta: result = composite + 2 (delta - 32768), as linear light does",
    "delta32": "hz delta: result = composite + delta",
    "layer": "hz layer: place it over the untouched composite, mode normal",
}


def check_kinds(text: str) -> tuple[str, ...]:
    """The kinds of companions that "mask,delta" names, in a fixed order.

    Raises:
        UsageError: one is not known.
    """
    asked = {word.strip() for word in text.split(",")}
    unknown = sorted(asked - set(KINDS))
    if unknown:
        raise UsageError(
            f'--also "{unknown[0]}" is not known',
            f"Give any of {', '.join(KINDS)}, with commas and no spaces between.",
        )
    return tuple(kind for kind in KINDS if kind in asked)


class AlsoWriter:
    """Writes the companions of one result, band by band, beside it.

    Use as a context manager, as a writer: left by an exception it leaves nothing.

    Args:
        target: the result; companions are `naming.beside` it.
        kinds: from `check_kinds`.
        size: of the picture.
        meta: profile and resolution of the result. channels: "rgb" | "grey", of the picture.
        depth: of the result's rows, as `RowWriter.depth`: 32 has float delta and layer.
        compression, bigtiff, tile: as of `TiffWriter`.
        overwrite: replace files that are there. Companions are replaced in any case, for they
            are finished before their result: without it, they are of a run that was cut off.

    Raises:
        PictureError: a file of another kind exists, or cannot be written.
    """

    def __init__(
        self,
        target: Path,
        kinds: Sequence[str],
        size: Size,
        meta: Meta,
        *,
        depth: int = 16,
        channels: Literal["rgb", "grey"] = "rgb",
        compression: str = "deflate",
        bigtiff: str = "auto",
        tile: int | None = None,
        overwrite: bool = False,
        software: str | None = None,
    ) -> None:
        from hzcli.io.tiff import TiffWriter
        from hzcli.io.writers.colours import stored_colours

        self._float = depth == 32
        self._dtype = np.dtype(np.float32 if self._float else np.uint16)
        deep = 32 if self._float else 16
        common: dict[str, Any] = {
            "compression": compression,
            "bigtiff": bigtiff,
            "tile": tile,
            "software": software,
        }
        stored = stored_colours(meta, channels, "tiff")
        channels = stored.channels
        plain = Meta(None, meta.resolution)
        # The profile belongs to colours: differences and masks have none.
        shapes: dict[str, tuple[Meta, dict[str, Any]]] = {
            "mask": (plain, {"depth": 16, "channels": "grey"}),
            "delta": (plain, {"depth": deep, "channels": channels}),
            "layer": (stored.meta, {"depth": deep, "channels": channels, "alpha": True}),
        }
        self._writers: dict[str, TiffWriter] = {}
        try:
            for kind in kinds:
                of, options = shapes[kind]
                text = _DESCRIPTIONS["delta32" if kind == "delta" and self._float else kind]
                path = beside(target, kind)
                replaces = overwrite or _is_companion(path, kind)
                self._writers[kind] = TiffWriter(
                    path, size, of, description=text, overwrite=replaces, **options, **common
                )
        except BaseException:
            self.abort()
            raise

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the companions are when this is closed."""
        return tuple(writer.path for writer in self._writers.values())

    def write(self, source: np.ndarray, mask: np.ndarray | None, result: np.ndarray) -> None:
        """Take the next rows.

        Args:
            source: (h, W, 3), what the result would be had nothing been recoloured: uint16, or
                float32 of float results.
            mask: (h, W) codes of uint8 or uint16, or float32 in [0, 1]; None where it is 0.
            result: (h, W, 3) of the source's type.

        Raises:
            PictureError: the disk refused.
        """
        if (source.dtype, source.shape) != (self._dtype, result.shape):
            raise ValueError(f"source and result must be equal in shape, and {self._dtype}")
        for start in range(0, len(result), _ROWS):
            end = start + _ROWS
            self._write(
                source[start:end], None if mask is None else mask[start:end], result[start:end]
            )

    def _write(self, source: np.ndarray, mask: np.ndarray | None, result: np.ndarray) -> None:
        soft = np.zeros(result.shape[:2], np.uint16) if mask is None else _codes(mask)
        if "mask" in self._writers:
            self._writers["mask"].write(soft)
        if "delta" in self._writers:
            self._writers["delta"].write(delta(source, result))
        if "layer" in self._writers:
            if self._float:
                alpha = soft.astype(np.float32) / np.float32(_TOP)
                if mask is not None and mask.dtype.kind == "f":
                    alpha = np.clip(mask, 0, 1).astype(np.float32)
                self._writers["layer"].write(*layer_float(source, alpha, result))
            else:
                self._writers["layer"].write(*layer(source, soft, result))

    def close(self) -> None:
        """Finish the files and give them their names."""
        with contextlib.ExitStack() as rest:
            # Whatever cannot be finished takes those with it that are not yet finished.
            rest.callback(self.abort)
            for writer in self._writers.values():
                writer.seal()
            for writer in self._writers.values():
                writer.close()

    def abort(self) -> None:
        """Remove what is not finished."""
        for writer in self._writers.values():
            writer.abort()

    def __enter__(self) -> AlsoWriter:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _is_companion(path: Path, kind: str) -> bool:
    """Whether a file is one that this wrote."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            return file.pages.first.description.startswith(f"hz {kind}: ")
    except (OSError, ValueError, tifffile.TiffFileError):
        return False


# What `stream.harmonise` calls with each band, in order: (source, mask or None, result).
Observer = Callable[[np.ndarray, "np.ndarray | None", np.ndarray], None]


def delta(source: np.ndarray, result: np.ndarray) -> np.ndarray:
    """The change, around mid-grey for codes and around 0 for floats.

    Args:
        source, result: (h, w, 3) uint16 or float32, both the same.

    Returns:
        (h, w, 3) of the same type.
    """
    if result.dtype.kind == "f":
        return result - source
    change = result.astype(np.int32)
    change -= source
    # Rounded down: "linear light" counts mid-grey as 32767.5, so it adds the half code back.
    change >>= 1
    change += _MIDDLE
    return change.astype(np.uint16)


def layer(
    source: np.ndarray, mask: np.ndarray, result: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colour and alpha that give `result` when placed over `source`.

    result = source (1 - a) + layer a has the answer layer = source + (result - source) / a.
    With a the mask that is what the model says there. Where a blend in another encoding asks for
    a colour that codes do not reach, a is raised until they do, to the half code that rounding
    allows: for a channel that grows, (top - source) a >= result - source - 1/2; for one that
    falls, source a >= source - result - 1/2.

    Args:
        source, result: (h, w, 3) uint16. mask: (h, w) uint16.

    Returns:
        (h, w, 3) uint16, 0 where alpha is 0; (h, w) uint16 alpha.
    """
    colour, alpha = np.zeros_like(result), mask.copy()
    box = _touched(source, mask, result)
    if box is None:
        return colour, alpha
    base, cover = source[box].astype(np.float32), alpha[box]
    change = result[box] - base
    room = np.where(change > 0, _TOP - base, base)
    reach = (np.abs(change) - np.float32(0.5)) * _TOP - room * cover[..., None]
    # float32 tells all but near misses; few pixels are left to look at closely.
    short = reach > -4 * np.float32(_TOP)
    pixels = short[..., 0] | short[..., 1] | short[..., 2]
    cover[pixels] = _raised(cover[pixels], change[pixels], room[pixels])
    # Where alpha is 0 so is the change: there the layer is empty.
    change *= (np.float32(_TOP) / np.maximum(cover, 1))[..., None]
    change += base
    np.rint(change, out=change)
    np.clip(change, 0, _TOP, out=change)
    np.copyto(colour[box], change, casting="unsafe", where=(cover > 0)[..., None])
    return colour, alpha


def _raised(cover: np.ndarray, change: np.ndarray, room: np.ndarray) -> np.ndarray:
    """Alpha (n,) uint16, raised where a change (n, 3) needs more of its room (n, 3)."""
    wanted = np.abs(change).astype(np.float64) - 0.5
    needed = np.divide(wanted, room, out=np.zeros_like(wanted), where=wanted > 0)
    # The millionth of a code is what float64 adds to an alpha that was enough.
    least = np.ceil(needed.max(axis=-1, initial=0) * _TOP - 1e-6)
    return np.maximum(cover, least).astype(np.uint16)


def _touched(
    source: np.ndarray, mask: np.ndarray, result: np.ndarray
) -> tuple[slice, slice] | None:
    """Rows and columns outside which the mask is 0 and nothing changed."""
    other = source != result
    seen = (mask > 0) | other[..., 0] | other[..., 1] | other[..., 2]
    rows, columns = (np.flatnonzero(seen.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def layer_float(
    source: np.ndarray, mask: np.ndarray, result: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same for floats, where every colour is in reach: alpha is the mask.

    Args:
        source, result: (h, w, 3) float32. mask: (h, w) float32 in [0, 1].

    Returns:
        (h, w, 3) float32, 0 where alpha is 0; (h, w) float32 alpha, 1 where the mask is 0 and
        the result differs nevertheless.
    """
    alpha = np.where((mask == 0) & (result != source).any(axis=-1), np.float32(1), mask)
    touched = alpha > 0
    colour = np.zeros_like(result)
    base = source[touched].astype(np.float64)
    change = result[touched].astype(np.float64) - base
    colour[touched] = base + change / alpha[touched].astype(np.float64)[..., None]
    return colour, alpha


def _codes(mask: np.ndarray) -> np.ndarray:
    """A mask as 16-bit codes."""
    if mask.dtype == np.uint8:
        return mask.astype(np.uint16) * np.uint16(257)
    if mask.dtype.kind == "f":
        return np.rint(np.clip(mask, 0, 1) * _TOP).astype(np.uint16)
    return np.ascontiguousarray(mask, np.uint16)
