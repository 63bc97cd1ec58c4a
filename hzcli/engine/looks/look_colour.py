"""A look applied to a picture of another colour space: there and back for every pixel it changes.

A look's numbers are those of one space; a picture's may be of another. Its pixels go to the
look's space, through the look and back; with the look's own change taken from the way there, so
that a look that changes nothing leaves every code as it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hzcli.core.codes import WHITE, Coded
from hzcli.engine.colour import Colour
from hzcli.engine.looks.spaces import SRGB, Space, convert
from hzcli.io import profiles

BLOCK = 1 << 15  # colours converted at once


def colour_of(reader: Any, assume: str | None = None) -> tuple[Colour, str, tuple[str, ...]]:
    """How an open picture's numbers become sRGB, by its own profile or by the rules for those
    without.

    Args:
        assume: the profile of a picture that embeds none, as for `profiles.load`.

    Returns:
        That, the profile's name, and what a user should be told.
    """
    icc, _, warning = profiles.presume(reader.header, reader.meta, assume)
    return Colour(icc), profiles.describe(icc).name, () if warning is None else (warning,)


class ConvertedLook:
    """A look for one space's codes, made one for those of a picture; threads share it.

    Args:
        look: for codes of `space`, 16 bits. colour: the picture's profile, to sRGB and back.
        space: that the look is meant for.
    """

    native = None

    def __init__(self, look: Coded, colour: Colour, space: Space = SRGB) -> None:
        self._look, self._colour, self._space = look, colour, space

    def apply(self, codes: np.ndarray, out: np.ndarray) -> None:
        """Codes (h, w, 3) uint16 to codes in `out`, or in place."""
        rows = max(1, BLOCK // max(1, codes.shape[1]))
        for top in range(0, len(codes), rows):
            part = codes[top : top + rows]
            new = self.colours(np.ascontiguousarray(part).reshape(-1, 3)) + np.float32(0.5)
            out[top : top + rows] = np.clip(new, 0, WHITE).reshape(part.shape)

    def colours(self, codes: np.ndarray) -> np.ndarray:
        """Codes (N, 3) to numbers in codes (N, 3) float32."""
        own = codes.astype(np.float32) / np.float32(WHITE)
        srgb = self._colour.to_working(own[None])[0]
        there = convert(srgb, SRGB, self._space)
        # The look knows 0 to 1, in codes; beyond, the nearest known colour's change goes along.
        held = np.rint(np.clip(there, 0, 1) * WHITE).astype(np.uint16)
        new = np.clip(self._look.colours(held), 0, WHITE)
        change = (new - held) / np.float64(WHITE)
        if self._space is not SRGB:
            change = convert(there + change, self._space, SRGB) - convert(there, self._space, SRGB)
        out = np.empty((3, len(codes)), np.float32)
        self._colour.changed(
            torch.from_numpy(np.ascontiguousarray(own.T)),
            torch.from_numpy(np.ascontiguousarray(change.T)),
            torch.from_numpy(out),
        )
        return np.ascontiguousarray(out.T) * np.float32(WHITE)
