"""Between a picture's own colours and those that networks know: sRGB-encoded, not clipped.

    own numbers -> linear sRGB -> sRGB-encoded, for the network clipped -> change
    own numbers -> sRGB-encoded + change -> linear sRGB -> own numbers, or another profile's

The way there and back is taken in float64: in float32 a channel next to 0 of a saturated colour
would come back tens of 16-bit codes off. Profiles of curves and a matrix are computed here, by
what `probed` found; all others go through Little CMS, in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hzcli.engine.probed import SRGB, by_tables, shaper
from hzcli.errors import UsageError
from hzcli.io import profiles

# Colours converted at once: what stays in a core's cache.
CHUNK = 1 << 15


class _Space:
    """One profile's numbers to sRGB-encoded colours and back, (3, n)."""

    def __init__(self, icc: bytes, intent: str) -> None:
        self.icc, self._intent = icc, intent
        self.srgb = profiles.describe(icc).is_srgb
        self._shaper = None if self.srgb else shaper(icc, intent)
        # Whether `numbers(colours(x))` is x, to a small part of a 16-bit code.
        self.exact = self.srgb or (self._shaper is not None and self._shaper.exact)
        self.fast = self.srgb or self._shaper is not None

    def light(self, numbers: Tensor) -> Tensor:
        """Linear sRGB, not clipped."""
        if self.srgb:
            return SRGB.decode(numbers)
        if self._shaper is not None:
            return self._shaper.light(numbers)
        return by_tables(numbers, self.icc, profiles.profile("linear"), self._intent)

    def colours(self, numbers: Tensor) -> Tensor:
        """sRGB-encoded, not clipped."""
        return numbers.clone() if self.srgb else SRGB.encode(self.light(numbers))

    def numbers(self, colours: Tensor) -> Tensor:
        """The inverse."""
        if self.srgb:
            return colours
        light = SRGB.decode(colours)
        if self._shaper is not None:
            return self._shaper.numbers(light)
        return by_tables(light, profiles.profile("linear"), self.icc, self._intent)


class Colour:
    """How a picture's numbers become what a network sees, and what is delivered.

    Args:
        icc_in: the profile that the picture is in, RGB or, for pictures whose channels are
            equal, grey.
        icc_out: the profile to deliver in; None for the picture's own.
        intent: one of `profiles.INTENTS`; "relative" has black point compensation.

    Raises:
        PictureError: a profile is damaged or cannot be converted from.
        UsageError: the intent is not known.
    """

    def __init__(
        self, icc_in: bytes, icc_out: bytes | None = None, intent: str = "relative"
    ) -> None:
        if intent not in profiles.INTENTS:
            raise UsageError(
                f"there is no rendering intent called '{intent}'",
                f"There are {', '.join(profiles.INTENTS)}",
            )
        self.icc = icc_in if icc_out is None else icc_out
        self._intent = intent
        self._own = _Space(icc_in, intent)
        self._out = self._own
        if icc_out is not None and icc_out != icc_in:
            other = _Space(icc_out, intent)
            if not (self._own.srgb and other.srgb):
                self._out = other
        # Tried now, that a profile without a way back is an error before the work begins.
        self.from_working(np.full((1, 1, 3), 0.5, np.float32))

    @property
    def converts(self) -> bool:
        """Whether all pixels change their numbers: the output's profile is another."""
        return self._out is not self._own

    @property
    def identity(self) -> bool:
        """Whether there is nothing to do: sRGB comes in and goes out."""
        return self._own.srgb and not self.converts

    def require(self, channels: str) -> None:
        """Raise PictureError where the profiles are not for pictures with these channels."""
        profiles.require(self._own.icc, channels)
        profiles.require(self._out.icc, channels)

    def to_working(self, rgb: np.ndarray) -> np.ndarray:
        """The picture's numbers (h, w, 3) float32 as sRGB-encoded colours, not clipped."""
        return self._whole(rgb, self._own.colours)

    def from_working(self, rgb: np.ndarray) -> np.ndarray:
        """sRGB-encoded colours (h, w, 3) float32 as numbers of the output's profile."""
        return self._whole(rgb, self._out.numbers)

    def delivered(self, rgb: np.ndarray) -> np.ndarray:
        """The picture's numbers (h, w, 3) float32 as numbers of the output's profile."""
        return self._whole(rgb, self._base) if self.converts else rgb

    def shown(self, numbers: Tensor, out: Tensor) -> None:
        """What a network sees: clipped to [0, 1], and 0 where there is no number.

        Args:
            numbers: (3, n) float32. out: the same, for the result; may be `numbers` itself.
        """
        for at in range(0, numbers.shape[1], CHUNK):
            part = numbers[:, at : at + CHUNK]
            if self._own.srgb:
                found = part.clamp(0, 1)
            else:
                found = SRGB.encode(self._own.light(part.contiguous()).clamp_(0, 1))
            out[:, at : at + CHUNK] = found.nan_to_num_(0.0)

    def shown_rows(self, values: np.ndarray, codes: np.dtype | None = None) -> None:
        """The same for (h, w, 3) float32 in place, by rows of pixels.

        Of pictures in codes, profiles made of tables go through Little CMS's 16 bits here: what
        is seen is averaged, and that is seven times as fast as its float.
        """
        pixels = values.reshape(-1, 3)
        if not self._own.fast and codes is not None and self._own.icc[16:20] == b"RGB ":
            wide = np.rint(pixels * np.float32(65535)).astype(np.uint16)
            srgb = profiles.transform(wide, self._own.icc, profiles.profile("srgb"), self._intent)
            np.multiply(srgb, np.float32(1 / 65535), out=pixels)
            return
        for at in range(0, len(pixels), CHUNK):
            part = torch.from_numpy(np.ascontiguousarray(pixels[at : at + CHUNK].T))
            self.shown(part, part)
            pixels[at : at + CHUNK] = part.numpy().T

    def changed(self, numbers: Tensor, change: Tensor, out: Tensor) -> None:
        """The picture's numbers with a change of their sRGB-encoded colours, for delivery.

        Args:
            numbers, change: (3, n) float32. out: (3, n) float32, for the result.
        """
        for at in range(0, numbers.shape[1], CHUNK):
            own = numbers[:, at : at + CHUNK].double()
            before = self._own.colours(own)
            after = before + change[:, at : at + CHUNK]
            if self._own.exact and self._out.exact:
                out[:, at : at + CHUNK] = self._out.numbers(after)
            else:
                # What the way back loses, it loses twice: only the change is taken from it.
                base = self._base(own) if self.converts else own
                base = base + self._out.numbers(after)
                out[:, at : at + CHUNK] = base - self._out.numbers(before)

    def _base(self, own: Tensor) -> Tensor:
        if self._own.fast and self._out.fast:
            return self._out.numbers(self._own.colours(own))
        return by_tables(own, self._own.icc, self._out.icc, self._intent)

    @staticmethod
    def _whole(rgb: np.ndarray, convert: Callable[[Tensor], Tensor]) -> np.ndarray:
        pixels = rgb.reshape(-1, 3)
        out = np.empty(pixels.shape, np.float32)
        for at in range(0, len(pixels), CHUNK):
            part = torch.from_numpy(np.ascontiguousarray(pixels[at : at + CHUNK].T, np.float64))
            out[at : at + CHUNK] = convert(part).numpy().T
        return out.reshape(rgb.shape)
