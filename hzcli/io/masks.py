"""From a mask's file to the mask as it is used: which channel, what size, inverted, cut, soft.

In this order: the channel is taken, brought to the picture's size, inverted, cut at the
threshold, feathered. Values are float32 in [0, 1] all the way and rounded once, to 16 bits; a mask
that needs none of it keeps its own codes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hzcli.core.window import Size, Window, bands
from hzcli.errors import MaskError
from hzcli.io.mask_options import MaskOptions
from hzcli.io.scratch import TILE, Scratch
from hzcli.io.soften import Feathered, Resized

__all__ = ["MaskOptions", "Prepared", "open_prepared", "prepared", "select", "union", "widened"]

# Results that are kept in memory when the caller does not say.
_DEFAULT_BUDGET = 256 << 20
# Rows computed at once, in multiples of what Scratch wants; more where a feather looks far.
_ROWS, _MANY_ROWS, _FAR = 2 * TILE, 8 * TILE, 128
# Float masks are in [0, 1]; filters and encoders overshoot a little.
_HIGHEST = 1.5
# Sides that differ by more than this are another shape.
_SAME_SHAPE = 0.02
# Rec. 709 (ITU-R BT.709-6, item 3.2) in parts of 65536, on encoded values; equal channels stay.
_LUMA = (13933, 46871, 4732)


def open_prepared(
    path: Path,
    options: MaskOptions,
    size: Size | None = None,
    *,
    budget_bytes: int | None = None,
    max_pixels: int | None = None,
) -> Any:
    """Open a mask's file and prepare it: `select`, then `prepared`.

    Args:
        size: the picture's; None leaves the mask's own.
        budget_bytes: as for `prepared`. max_pixels: the largest file that is opened.

    Raises:
        MaskError: there is no such channel or layer, or the size does not fit.
        PictureError: unreadable.
    """
    reader = select(path, options, budget_bytes=budget_bytes, max_pixels=max_pixels)
    try:
        return prepared(reader, options, size or reader.size, budget_bytes=budget_bytes)
    except BaseException:
        reader.close()
        raise


def select(
    path: Path,
    options: MaskOptions,
    *,
    budget_bytes: int | None = None,
    max_pixels: int | None = None,
) -> Any:
    """Open the channel or layer that `options` name: `read` gives (h, w), not yet prepared.

    Raises:
        MaskError: there is none. PictureError: unreadable.
    """
    from hzcli.io import picture

    limits = {"budget_bytes": budget_bytes, "max_pixels": max_pixels}
    if options.layer is not None:
        return _open_layer(path, options.layer)
    if options.channel in ("auto", "alpha"):
        source = "alpha" if options.channel == "alpha" else options.source
        return picture.open_mask(path, source=source, **limits)
    if picture.peek(path).channels == "cmyk":
        raise MaskError(f"{path} is CMYK, expected a grey mask", "Save the mask as grey.")
    return _Channel(picture.open_picture(path, **limits), options.channel)


def _open_layer(path: Path, layer: str) -> Any:
    if path.suffix.lower() not in (".psd", ".psb"):
        raise MaskError(
            f"{path} has no layers to take the mask from",
            f"--mask-from psd:{layer} is for PSD and PSB files.",
        )
    from hzcli.io import picture
    from hzcli.io.formats import psd

    # At once, not at the first read: a dry run says it when there is no such layer.
    header = picture.peek(path)
    return _Array(path, psd.psd_layer_mask(path, layer), header)


def prepared(
    reader: Any, options: MaskOptions, size: Size, *, budget_bytes: int | None = None
) -> Any:
    """The mask as it is used.

    Args:
        reader: gives (h, w) uint8, uint16 or float32 in [0, 1]; closed with the result.
        size: the picture's.
        budget_bytes: what a resized or feathered mask may take in memory (256 MiB if None); a
            larger one goes to a nameless file in the temporary folder.

    Returns:
        `reader` itself where nothing is to be done; else a reader of (h, w) uint16 of `size`,
        with `notes`, what a user should know.

    Raises:
        MaskError: the mask is of another size and `options.resize` is None, or it is turned. At
            the first read: a float mask is not in [0, 1].
    """
    notes: list[str] = []
    if reader.size != size:
        notes += _fit(reader, options, size)
    elif not options.touches and reader.depth <= 16:
        return reader
    values: Any = _Values(reader)
    if reader.size != size:
        assert options.resize is not None, "refused by _fit"
        values = Resized(values, size, options.resize)
    if options.invert or options.threshold is not None:
        values = _Points(values, options.invert, options.threshold)
    if options.feather:
        values = Feathered(values, options.feather)
    costly = reader.size != size or options.feather > 0
    return Prepared(reader, values, size, tuple(notes), budget_bytes if costly else None, costly)


def _fit(reader: Any, options: MaskOptions, size: Size) -> list[str]:
    """What is to be said of a mask that is brought to `size`, or MaskError."""
    found = reader.size
    name = Path(reader.path).name
    said = f"the mask {name} is {_wh(found)} pixels, the picture {_wh(size)}"
    if (found.height, found.width) == (size.width, size.height):
        raise MaskError(
            said, "One of them is turned: save the mask with the picture's EXIF orientation."
        )
    if options.resize is None:
        raise MaskError(said, "Save the mask at the picture's size, or pass --resize-mask lanczos.")
    notes = [f"the mask {name} was resized from {_wh(found)} pixels"]
    if abs(found.width * size.height / (found.height * size.width) - 1) > _SAME_SHAPE:
        notes.append(f"the mask {name} has another shape than the picture and was stretched")
    return notes


def _wh(size: Size) -> str:
    return f"{size.width} x {size.height}"


def union(readers: Sequence[Any]) -> Any:
    """Several masks of one size as one: the highest of their values, (h, w) uint16.

    A single one is handed back as it is. Closing it closes them all.
    """
    return readers[0] if len(readers) == 1 else _Union(readers)


def widened(codes: np.ndarray) -> np.ndarray:
    """uint8 or uint16 codes as uint16: 0..255 becomes 0..65535 exactly."""
    return codes.astype(np.uint16) * np.uint16(257) if codes.dtype == np.uint8 else codes


class _Closing:
    """What a reader must have besides `read`."""

    def __init__(self, reader: Any) -> None:
        self.path, self.meta = reader.path, getattr(reader, "meta", None)
        self.header = getattr(reader, "header", None)
        self.size, self.depth = reader.size, reader.depth
        self._inner = reader

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Array:
    """A mask in memory."""

    def __init__(self, path: Path, codes: np.ndarray, header: Any) -> None:
        self.path, self.header, self.meta = path, header, None
        self.size, self.depth = Size(*codes.shape), 8 * codes.dtype.itemsize
        self._codes = codes

    def read(self, window: Window) -> np.ndarray:
        return self._codes[window.top : window.bottom, window.left : window.right]

    def close(self) -> None:
        self._codes = self._codes[:0]

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Channel(_Closing):
    """One channel of a picture, or its luma."""

    def __init__(self, reader: Any, channel: str) -> None:
        super().__init__(reader)
        self._at = {"r": 0, "g": 1, "b": 2}.get(channel)
        if self._at is None and self.depth == 8:
            self.depth = 16

    def read(self, window: Window) -> np.ndarray:
        rgb = self._inner.read(window)
        if self._at is not None:
            return rgb[..., self._at]
        if rgb.dtype == np.float32:
            return rgb @ np.array(_LUMA, np.float32) / np.float32(65536)
        sums = np.full(rgb.shape[:2], 32768, np.uint32)  # at most 2^32 - 32768
        for channel, part in enumerate(_LUMA):
            sums += widened(rgb[..., channel]).astype(np.uint32) * np.uint32(part)
        return (sums >> np.uint32(16)).astype(np.uint16)


class _Union(_Closing):
    def __init__(self, readers: Sequence[Any]) -> None:
        super().__init__(readers[0])
        self.depth = 16
        self._readers = list(readers)

    def read(self, window: Window) -> np.ndarray:
        most = widened(self._readers[0].read(window))
        for reader in self._readers[1:]:
            most = np.maximum(most, widened(reader.read(window)))
        return most

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


class _Values:
    """Codes as float32 in [0, 1]."""

    def __init__(self, reader: Any) -> None:
        self.size = reader.size
        self._reader = reader

    def read(self, window: Window) -> np.ndarray:
        codes = self._reader.read(window)
        if codes.dtype != np.float32:
            return codes * np.float32(1 / np.iinfo(codes.dtype).max)
        highest = float(codes.max(initial=0))
        if not highest <= _HIGHEST:
            what = (
                "values that are no numbers" if math.isnan(highest) else f"values up to {highest:g}"
            )
            raise MaskError(
                f"the mask {self._reader.path} holds {what}, expected 0 to 1",
                "Save it with 1 for the foreground, or as 8 or 16 bits.",
            )
        return codes.clip(0, 1)


class _Points:
    """Each pixel by itself: inverted, then cut."""

    def __init__(self, values: Any, invert: bool, threshold: float | None) -> None:
        self.size = values.size
        self._values, self._invert = values, invert
        # In 16-bit codes: 8 and 16 bits of one mask are cut alike, where floats differ by a hair.
        self._cut = None if threshold is None else threshold * 65535 - 1e-6

    def read(self, window: Window) -> np.ndarray:
        values = self._values.read(window)
        if self._invert:
            values = 1 - values
        if self._cut is not None:
            values = (np.rint(values * np.float32(65535)) >= self._cut).astype(np.float32)
        return values


class Prepared(_Closing):
    """A mask as 16-bit codes; what is costly to compute is computed once and kept.

    notes: what a user should know.
    """

    def __init__(
        self,
        reader: Any,
        values: Any,
        size: Size,
        notes: tuple[str, ...],
        budget_bytes: int | None,
        keep: bool,
    ) -> None:
        super().__init__(reader)
        self.size, self.depth, self.notes = size, 16, notes
        self._values, self._keep = values, keep
        self._budget = _DEFAULT_BUDGET if budget_bytes is None else budget_bytes
        self._lock = threading.Lock()
        self._kept: np.ndarray | Scratch | None = None

    def read(self, window: Window) -> np.ndarray:
        assert window.size == self.size, f"window of {window.size} read from {self.size}"
        if not self._keep:
            return self._codes(window)
        with self._lock:
            if self._kept is None:
                self._kept = self._all()
            if isinstance(self._kept, Scratch):
                box = window.top, window.bottom, window.left, window.right
                return self._kept.read(*box)[..., 0]
        return self._kept[window.top : window.bottom, window.left : window.right]

    def _codes(self, window: Window) -> np.ndarray:
        values = self._values.read(window)
        return (values * np.float32(65535) + np.float32(0.5)).astype(np.uint16)

    def _all(self) -> np.ndarray | Scratch:
        rows = _MANY_ROWS if getattr(self._values, "reach", 0) > _FAR else _ROWS
        if 2 * self.size.pixels <= self._budget:
            whole = np.empty((self.size.height, self.size.width), np.uint16)
            for band in bands(self.size, rows):
                whole[band.top : band.bottom] = self._codes(band)
            return whole
        scratch = Scratch(self.size, 1, np.dtype(np.uint16))
        try:
            for band in bands(self.size, rows):
                scratch.write(band.top, self._codes(band)[..., None])
        except BaseException:
            scratch.close()
            raise
        return scratch

    def close(self) -> None:
        if isinstance(self._kept, Scratch):
            self._kept.close()
        self._kept = None
        super().close()
