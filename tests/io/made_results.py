"""Results made by rule in every container, and what other libraries read of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from ruled_pictures import rough

from hzcli.core.window import Size
from hzcli.io.meta import Header, Meta
from hzcli.io.writers import OutputOptions, Resolved, open_writer, resolve

NOTHING = Meta()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF/></x:xmpmeta>'


@dataclass(frozen=True)
class Blocks:
    """What metadata.py hands over, made by rule."""

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    photoshop: bytes | None = None
    extratags: tuple | None = None


def resolved(form: str, depth: str | None = None, **options) -> Resolved:
    kind = "jpg" if form == "jpeg" else form
    header = Header(Path(f"a.{kind}"), Size(5, 5), 16, "rgb", 1, "tiff")
    return resolve(OutputOptions(form, depth, **options), header)


def write(path, rows, alpha=None, *, form="tiff", depth=None, bands=(7, 1, 30), **rest):
    options = {name: rest.pop(name) for name in list(rest) if name in OutputOptions.__annotations__}
    meta = rest.pop("meta", NOTHING)
    kind = resolved(form, depth, **options)
    with open_writer(
        path, Size(*rows.shape[:2]), kind, meta=meta, alpha=alpha is not None, **rest
    ) as writer:
        cuts = np.cumsum(bands)
        covers = np.split(alpha, cuts) if alpha is not None else [None] * (len(cuts) + 1)
        for part, cover in zip(np.split(rows, cuts), covers, strict=True):
            writer.write(part, cover)
    return writer


def coming(depth: str, height=60, width=37, channels=3, seed=0) -> np.ndarray:
    """Rows as the engine hands them over: codes of 16 bits, or floats beyond 0..1 too."""
    if depth == "32f":
        values = np.random.default_rng(seed).normal(0.5, 1.0, (height, width, channels))
        return values.astype(np.float32)
    return rough(height, width, channels, np.uint16, seed)


def stored(rows: np.ndarray, depth: str) -> np.ndarray:
    """The samples that a file of `depth` is to hold: the nearest 8-bit code, in floats."""
    return np.floor(rows / 257 + 0.5).astype(np.uint8) if depth == "8" else rows


def read_back(path: Path, form: str) -> np.ndarray:
    if form == "tiff":
        return tifffile.imread(path)
    if form == "exr":
        oiio = pytest.importorskip("OpenImageIO")
        return oiio.ImageInput.open(str(path)).read_image(oiio.FLOAT)
    decode = {"png": imagecodecs.png_decode, "webp": imagecodecs.webp_decode}
    decode["jxl"] = imagecodecs.jpegxl_decode
    decode["jpeg"] = imagecodecs.jpeg8_decode
    return decode[form](path.read_bytes())
