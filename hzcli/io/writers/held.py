"""PNG, JPEG and WebP out: their encoders want the whole picture, so rows are held until then."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io.meta import Meta
from hzcli.io.writers import blocks
from hzcli.io.writers.rows import RowWriter, gather, raw_bytes

# Above this the samples lie in a file, from where the encoder's pages come and go.
HELD_BYTES = 256 << 20
# Level 1, runs only, each sample less its left neighbour: on photographs three times as fast as
# zlib's own strategy at that level, and smaller.
_PNG = {"level": 1, "strategy": 3, "filter": 0x10}
# WebP's quality 100 is taken for "without loss"; its levels then only trade time for size.
_WEBP_LOSSLESS = 100


class HeldWriter(RowWriter):
    """Rows kept, in memory or beyond a budget on disk, and encoded when all are there.

    Args:
        path, size: see `RowWriter`.
        meta: profile and resolution to carry.
        format: "png" | "jpeg" | "webp".
        quality: of JPEG and WebP, 1..100.
        held_bytes: what may be kept in memory.
    """

    embeds = frozenset({"exif", "xmp"})

    def __init__(
        self,
        path: Path,
        size: Size,
        meta: Meta,
        *,
        format: str,
        quality: int = 95,
        depth: int = 16,
        software: str | None = None,
        carried: blocks.Carried | None = None,
        held_bytes: int = HELD_BYTES,
        finish: Callable[[Path], None] | None = None,
        **common: Any,
    ) -> None:
        if depth not in ((8, 16) if format == "png" else (8,)):
            raise ValueError(f"{format} of {depth} bits")
        super().__init__(path, size, depth=depth, finish=finish, **common)
        self._format, self._quality, self._meta, self._software = format, quality, meta, software
        self._exif = carried.exif if carried else None
        self._xmp = carried.xmp if carried else None
        shape = (size.height, size.width, self._samples)
        self._file: Any = None
        self._held: np.ndarray | None
        try:
            if raw_bytes(size, self._samples, self._dtype) <= held_bytes:
                self._held = np.empty(shape, self._dtype)
            else:
                self._file = tempfile.TemporaryFile(prefix="hz-")  # noqa: SIM115
                self._held = np.memmap(self._file, self._dtype, "w+", shape=shape)
        except OSError as error:
            self.abort()
            raise PictureError(
                f"{self.path.name} cannot be kept until it is whole: {error.strerror or error}",
                f"{self._format.upper()} needs that room in {tempfile.gettempdir()}; TIFF does not",
            ) from error

    def _take(self, rows: np.ndarray, alpha: np.ndarray | None) -> None:
        assert self._held is not None, "written to after its end"
        gather(self._held[self._taken : self._taken + len(rows)], rows, alpha)

    def _complete(self) -> None:
        assert self._held is not None
        samples = self._held[..., 0] if self._samples == 1 else self._held
        {"png": self._png, "jpeg": self._jpeg, "webp": self._webp}[self._format](samples)

    def _release(self) -> None:
        self._held = None
        if self._file is not None:
            self._file.close()

    def _png(self, samples: np.ndarray) -> None:
        import imagecodecs

        chunks = blocks.png_chunks(self._meta, self._software, self._exif, self._xmp, self._grey)
        data = memoryview(imagecodecs.png_encode(samples, **_PNG))
        with open(self._temporary, "wb") as file:
            file.write(data[: blocks.PNG_HEAD])
            file.write(chunks)
            file.write(data[blocks.PNG_HEAD :])

    def _jpeg(self, samples: np.ndarray) -> None:
        exif, xmp = blocks.fits_jpeg(blocks.jpeg_exif(self._exif), self._xmp)
        if (exif is None and self._exif) or (xmp is None and self._xmp):
            self.notes.append("EXIF or XMP is longer than JPEG holds and was left out")
        self._pillow(samples, "JPEG", exif, xmp, subsampling=0, optimize=False)

    def _webp(self, samples: np.ndarray) -> None:
        lossless = self._quality == _WEBP_LOSSLESS
        # Lossless: "quality" is the effort, and 0 the fastest. Colours hidden by alpha are kept.
        options = {"lossless": lossless, "exact": True, "method": 1 if lossless else 4}
        self._pillow(samples, "WEBP", blocks.bare_exif(self._exif), self._xmp, **options)

    def _pillow(
        self,
        samples: np.ndarray,
        kind: str,
        exif: bytes | None,
        xmp: bytes | None,
        **options: Any,
    ) -> None:
        """Encode 8-bit samples, the only ones that Pillow takes whole."""
        from PIL import Image

        assert samples.dtype == np.uint8
        lossless = options.get("lossless", False)
        options["quality"] = 0 if lossless else self._quality
        for name, value in (
            ("icc_profile", self._meta.icc),
            ("exif", exif),
            ("xmp", xmp),
            ("dpi", blocks.dots_per_inch(self._meta)),
        ):
            if value:
                options[name] = value
        if "dpi" in options:
            # JFIF counts whole dots.
            options["dpi"] = tuple(round(value) for value in options["dpi"])
        with open(self._temporary, "wb") as file:
            Image.fromarray(samples).save(file, kind, **options)
