"""OpenEXR and JPEG XL out, by OpenImageIO.

OpenEXR holds scene-linear light by convention, and colours multiplied by alpha (OpenEXR
technical introduction, "RGB images"): `colours` says how rows get there. JPEG XL keeps codes
and profile as they are, without loss; floats are refused, since libjxl fails at negative ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io import profiles
from hzcli.io.meta import Meta
from hzcli.io.writers.blocks import Carried
from hzcli.io.writers.rows import RowWriter, gather

# Rec. ITU-R BT.709: red, green, blue and white (D65), x and y of each.
_REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
_LARGEST_HALF = 65504.0
# Rows handed over at a time: the copy stays small, however high the bands are.
_ROWS = 64
# The fast lossless coder: nearly as small as those that take ten times as long.
_EFFORT = 1


def library(path: Path) -> Any:
    """OpenImageIO, or a PictureError that says how to get it."""
    try:
        import OpenImageIO
    except ImportError as error:
        raise PictureError(
            f"{path.name} needs OpenImageIO, which is not installed",
            'Install it with pip install "hz[vfx]", or write --format tiff.',
        ) from error
    return OpenImageIO


class _ScanlineWriter(RowWriter):
    """Rows handed to an OpenImageIO output as they come."""

    def __init__(
        self,
        path: Path,
        size: Size,
        *,
        container: str,
        attributes: dict[str, Any],
        half: bool,
        **common: Any,
    ) -> None:
        oiio = library(Path(path))
        super().__init__(path, size, **common)
        kind = {8: oiio.UINT8, 16: oiio.UINT16, 32: oiio.HALF if half else oiio.FLOAT}[self.depth]
        spec = oiio.ImageSpec(size.width, size.height, self._samples, kind)
        colours = ["Y"] if self._grey else ["R", "G", "B"]
        spec.channelnames = (*colours, "A") if self.wants_alpha else tuple(colours)
        if self.wants_alpha:
            spec.alpha_channel = self._samples - 1
        for name, value in attributes.items():
            if isinstance(value, bytes):
                spec.attribute(name, f"uint8[{len(value)}]", np.frombuffer(value, np.uint8))
            elif isinstance(value, tuple):
                spec.attribute(name, f"float[{len(value)}]", value)
            else:
                spec.attribute(name, value)
        self._output = oiio.ImageOutput.create(container)
        if self._output is None or not self._output.open(os.fspath(self._temporary), spec):
            reason = self._output.geterror() if self._output else oiio.geterror()
            self.abort()
            raise self._unwritable(OSError(reason))

    def _take(self, rows: np.ndarray, alpha: np.ndarray | None) -> None:
        for start in range(0, len(rows), _ROWS):
            part = rows[start : start + _ROWS]
            cover = None if alpha is None else alpha[start : start + _ROWS]
            top = self._taken + start
            if not self._output.write_scanlines(top, top + len(part), 0, self._stored(part, cover)):
                raise self._unwritable(OSError(self._output.geterror()))

    def _stored(self, rows: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
        out = np.empty((*rows.shape[:2], self._samples), self._dtype)
        gather(out, rows, alpha)
        return out

    def _complete(self) -> None:
        if not self._output.close():
            raise OSError(self._output.geterror())

    def _release(self) -> None:
        # Closing a second time does nothing.
        if getattr(self, "_output", None) is not None:
            self._output.close()


class ExrWriter(_ScanlineWriter):
    """Rows as OpenEXR scanlines, half or float, ZIP in blocks of 16 rows.

    Args:
        path, size: see `RowWriter`; `depth` is 32.
        meta: the resolution. The rows are linear light with Rec. 709 primaries.
        half: store 16-bit floats.
        software: the attribute of that name.
    """

    def __init__(
        self,
        path: Path,
        size: Size,
        meta: Meta,
        *,
        half: bool = True,
        software: str | None = None,
        carried: Carried | None = None,
        finish: Callable[[Path], None] | None = None,
        **common: Any,
    ) -> None:
        self._half = half
        attributes: dict[str, Any] = {
            "compression": "zip",
            "oiio:ColorSpace": "lin_rec709_scene",
            "chromaticities": _REC709,
            "DateTime": "",  # else today's: the same picture must give the same bytes tomorrow
        }
        if software:
            attributes["Software"] = software
        if meta.resolution is not None and meta.resolution[2] != "none":
            attributes["XResolution"], attributes["YResolution"] = meta.resolution[:2]
            attributes["ResolutionUnit"] = "in" if meta.resolution[2] == "inch" else "cm"
        super().__init__(
            path,
            size,
            container="openexr",
            attributes=attributes,
            half=half,
            finish=finish,
            **common,
        )

    def _stored(self, rows: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
        out = super()._stored(rows, alpha)
        if alpha is not None:
            out[..., :-1] *= alpha[..., None]
        if self._half:
            np.clip(out, -_LARGEST_HALF, _LARGEST_HALF, out=out)
        return out


class JxlWriter(_ScanlineWriter):
    """Rows as lossless JPEG XL of 8 or 16 bits, RGB; libjxl holds the whole picture.

    Args:
        path, size: see `RowWriter`.
        meta: the profile of the rows; JPEG XL always states one, sRGB where none is known.
    """

    def __init__(
        self,
        path: Path,
        size: Size,
        meta: Meta,
        *,
        depth: int = 16,
        software: str | None = None,
        carried: Carried | None = None,
        **common: Any,
    ) -> None:
        attributes: dict[str, Any] = {
            "compression": "jpegxl:100",
            "jpegxl:effort": _EFFORT,
            "oiio:UnassociatedAlpha": 1,
            "ICCProfile": meta.icc or profiles.profile("srgb"),
        }
        super().__init__(
            path,
            size,
            container="jpegxl",
            attributes=attributes,
            half=False,
            depth=depth,
            **common,
        )
