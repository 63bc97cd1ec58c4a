"""From samples as a file stores them to colours and transparency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Layout:
    """What the channels of stored samples mean.

    Args:
        channels: as in Header: rgb | rgba | grey | greya | palette | cmyk | bilevel.
        alpha_at: the channel that may be a mask: transparency, or else a further channel.
        transparent: that channel is transparency, which belongs to the picture.
        associated: colours were multiplied by it.
        matted: colours were blended with white by it (what Photoshop flattens).
        palette: (n, 3) colours of the codes in channel 0, or None where they are expanded already.
        icc: profile of the inks, for CMYK.
    """

    channels: str
    alpha_at: int | None = None
    transparent: bool = False
    associated: bool = False
    matted: bool = False
    palette: np.ndarray | None = None
    icc: bytes | None = None

    @property
    def colours(self) -> int:
        """How many of the stored channels are colours."""
        return {"grey": 1, "greya": 1, "bilevel": 1, "cmyk": 4}.get(
            self.channels, 3 if self.palette is None else 1
        )


def colours(stored: np.ndarray, layout: Layout) -> np.ndarray:
    """RGB of stored samples.

    Args:
        stored: (h, w, samples) uint8, uint16 or float32.
        layout: what they mean.

    Returns:
        (h, w, 3) in the same depth, transparency taken out of the colours; a view where nothing
        had to be done. CMYK becomes sRGB.
    """
    if layout.palette is not None:
        return layout.palette[np.minimum(stored[..., 0], len(layout.palette) - 1)]
    if layout.channels == "cmyk":
        from hzcli.io.profiles import cmyk_to_srgb

        inks = np.ascontiguousarray(_straight(stored, layout)[..., :4])
        if inks.dtype.kind == "u":
            return cmyk_to_srgb(inks, layout.icc)
        # Ink is an amount between none and all; 16 bits of it are more than any press has.
        codes = np.rint(np.clip(inks, 0, 1) * 65535).astype(np.uint16)
        return (cmyk_to_srgb(codes, layout.icc) / np.float64(65535)).astype(np.float32)
    found = _straight(stored, layout)[..., : layout.colours]
    return found.repeat(3, axis=2) if layout.colours == 1 else found


def alpha(stored: np.ndarray, layout: Layout) -> np.ndarray:
    """(h, w) of the channel that `layout` names as alpha, a view."""
    assert layout.alpha_at is not None
    return stored[..., layout.alpha_at]


def _straight(stored: np.ndarray, layout: Layout) -> np.ndarray:
    """Colours as they were before transparency was worked into them, alpha still behind.

    Associated: stored = colour x alpha. Matted: stored = colour x alpha + white x (1 - alpha).
    Where alpha is 0 nothing is known of the colour, and the stored one stays.
    """
    if not (layout.associated or layout.matted):
        return stored
    assert layout.alpha_at is not None
    whole = stored.dtype.kind == "u"
    full = np.float32(np.iinfo(stored.dtype).max) if whole else np.float32(1)
    share = stored[..., layout.alpha_at : layout.alpha_at + 1].astype(np.float32) / full
    known = share > 0
    if known.all() and (share == 1).all():
        return stored
    found = stored[..., : layout.colours].astype(np.float32)
    white = full if layout.matted else np.float32(0)
    with np.errstate(over="ignore"):
        straight = (found - white) / np.where(known, share, 1) + white
    if whole:
        straight = np.clip(np.rint(straight), 0, full)
    out = stored.copy()
    # Opaque pixels are left as they are, to the bit.
    partly = known & (share != 1)
    out[..., : layout.colours] = np.where(partly, straight, found).astype(stored.dtype)
    return out


_WIDE: dict[int, np.ndarray] = {}


def widened(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of 9 to 15 bits spread over 16, of 1 to 7 bits over 8: v x full / (2^bits - 1).

    Args:
        codes: uint8 or uint16; codes beyond `bits` are full scale.
        bits: 1..16.

    Returns:
        uint16 above 8 bits, else uint8; the same array for 8 and 16.
    """
    if bits in (8, 16):
        return codes
    if bits not in _WIDE:
        dtype, full = (np.uint16, 65535) if bits > 8 else (np.uint8, 255)
        top = 2**bits - 1
        _WIDE[bits] = ((np.arange(2**bits, dtype=np.uint64) * full + top // 2) // top).astype(dtype)
    return _WIDE[bits].take(codes, mode="clip")
