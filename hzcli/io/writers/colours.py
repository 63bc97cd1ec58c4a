"""Which profile is embedded, and what becomes of colours where a container has no place for it.

    tiff png jpeg   the profile of the rows, byte for byte
    webp jxl        the same; there is no grey, so a grey picture becomes RGB, and sRGB where
                    its profile speaks of grey
    exr             none: linear light with Rec. 709 primaries, by Little CMS and not clipped

A grey picture whose profile speaks of RGB is stored as RGB, where the profile keeps its meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hzcli.io.meta import Meta

Convert = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class StoredColours:
    """What is embedded and stored; `convert` takes rows there, None where they are there."""

    meta: Meta
    channels: Literal["rgb", "grey"]
    convert: Convert | None = None
    notes: tuple[str, ...] = ()


def stored_colours(
    meta: Meta, channels: Literal["rgb", "grey"], form: str, presumed: bytes | None = None
) -> StoredColours:
    """Profile and channels that agree with each other and with the container.

    Args:
        meta: of the rows. channels: of the picture. form: the container.
        presumed: the profile that the rows are in where `meta` has none; it is embedded where
            the source said in another way that it is not sRGB.
    """
    icc = meta.icc
    if icc is None and (form == "exr" or meta.colour not in (None, "srgb")):
        icc = presumed
    space = icc[16:20] if icc is not None and len(icc) >= 128 else None
    if channels == "grey" and space == b"RGB ":
        channels = "rgb"
    if icc is not None and space != (b"GRAY" if channels == "grey" else b"RGB "):
        note = "the profile was left out: it does not fit the channels that are stored"
        return StoredColours(replace(meta, icc=None), channels, notes=(note,))
    if form == "exr":
        convert = None if icc is None or _linear_already(icc) else _to(icc, "linear")
        return StoredColours(replace(meta, icc=None), channels, convert)
    if form in ("webp", "jxl") and channels == "grey":
        if icc is None:
            return StoredColours(meta, "rgb")
        from hzcli.io import profiles

        note = "there is no grey in this format: the picture became sRGB"
        srgb = replace(meta, icc=profiles.profile("srgb"))
        return StoredColours(srgb, "rgb", _to(icc, "srgb"), (note,))
    return StoredColours(replace(meta, icc=icc), channels)


def _to(icc: bytes, name: str) -> Convert:
    """Rows (h, W, 3) from a profile to a built-in one of RGB; grey ones have equal channels."""
    from hzcli.io import profiles

    grey = icc[16:20] == b"GRAY"

    def convert(rows: np.ndarray) -> np.ndarray:
        return profiles.transform(rows[..., :1] if grey else rows, icc, profiles.profile(name))

    return convert


def _linear_already(icc: bytes) -> bool:
    """Whether a profile of RGB is linear Rec. 709: asked of some colours."""
    if icc[16:20] != b"RGB ":
        return False
    axis = np.linspace(0, 1, 5, dtype=np.float32)
    colours = np.stack(np.meshgrid(axis, axis, axis), -1).reshape(1, -1, 3)
    return bool(np.abs(_to(icc, "linear")(colours) - colours).max() < 1e-4)
