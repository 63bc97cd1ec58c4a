"""Colour spaces in which a host may apply a look, in closed form and float64.

A table is made for sRGB-encoded colours. A host that works in another space hands it that
space's numbers, and takes its answer for such; the same look is there

    L_S(x) = encode_S(M decode_sRGB(L(encode_sRGB(M^-1 decode_S(x)))))

with M from linear sRGB to the linear space. Colours that sRGB does not hold come out beyond
[0, 1]; curves are mirrored at 0 for them, and the look is continued as `extended` says.

Sources: IEC 61966-2-1 (sRGB), Adobe RGB (1998) 2005-05, ISO 22028-2 (ROMM, called ProPhoto),
SMPTE RP 431-2 primaries with sRGB's white and curve (Display P3), Bradford's adaptation (Lam 1985).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Colours = Callable[[np.ndarray], np.ndarray]

D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
ADOBE_GAMMA = 563 / 256
ROMM_TOE = 16 ** (1.8 / (1 - 1.8))  # where its power meets its straight beginning, 1/512


@dataclass(frozen=True)
class Space:
    """Primaries and white as chromaticities (x, y), and the curve between light and numbers."""

    name: str
    title: str
    primaries: tuple[tuple[float, float], ...]
    white: tuple[float, float]
    encode: Colours
    decode: Colours

    def to_xyz(self) -> np.ndarray:
        """(3, 3): linear colours to XYZ under D65, white having Y = 1."""
        columns = np.array([_xyz(*xy) for xy in self.primaries]).T
        own = columns * np.linalg.solve(columns, _xyz(*self.white))
        return _adapted(self.white, D65) @ own


def _xyz(x: float, y: float) -> np.ndarray:
    return np.array([x / y, 1, (1 - x - y) / y])


def _adapted(source: tuple[float, float], target: tuple[float, float]) -> np.ndarray:
    """(3, 3): XYZ under one white to what looks like it under another."""
    cones = (BRADFORD @ _xyz(*target)) / (BRADFORD @ _xyz(*source))
    return np.linalg.solve(BRADFORD, cones[:, None] * BRADFORD)


def _mirrored(curve: Colours) -> Colours:
    return lambda x: np.copysign(curve(np.abs(x)), x)


def _srgb_encode(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _srgb_decode(code: np.ndarray) -> np.ndarray:
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def _romm_encode(light: np.ndarray) -> np.ndarray:
    return np.where(light < ROMM_TOE, 16 * light, light ** (1 / 1.8))


def _romm_decode(code: np.ndarray) -> np.ndarray:
    return np.where(code < 16 * ROMM_TOE, code / 16, code**1.8)


def _adobe_encode(light: np.ndarray) -> np.ndarray:
    return light ** (1 / ADOBE_GAMMA)


def _adobe_decode(code: np.ndarray) -> np.ndarray:
    return code**ADOBE_GAMMA


_REC709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
_ROMM = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_SRGB_CURVE = (_mirrored(_srgb_encode), _mirrored(_srgb_decode))

SRGB = Space("srgb", "sRGB", _REC709, D65, *_SRGB_CURVE)
SPACES = {
    space.name: space
    for space in (
        SRGB,
        Space(
            "adobergb",
            "Adobe RGB (1998)",
            _ADOBE,
            D65,
            _mirrored(_adobe_encode),
            _mirrored(_adobe_decode),
        ),
        Space(
            "prophoto",
            "ProPhoto RGB",
            _ROMM,
            D50,
            _mirrored(_romm_encode),
            _mirrored(_romm_decode),
        ),
        Space("p3", "Display P3", _P3, D65, *_SRGB_CURVE),
    )
}


def convert(colours: np.ndarray, source: Space, target: Space) -> np.ndarray:
    """Encoded colours (..., 3) of one space as another's, float64, not clamped."""
    if source is target:
        return np.asarray(colours, np.float64)
    matrix = np.linalg.solve(target.to_xyz(), source.to_xyz())
    return target.encode(source.decode(np.asarray(colours, np.float64)) @ matrix.T)


def extended(look: Colours) -> Colours:
    """A look that is known on [0, 1], beyond it: the nearest known colour's change goes along."""

    def beyond(colours: np.ndarray) -> np.ndarray:
        held = np.clip(colours, 0, 1)
        return look(held) + (colours - held)

    return beyond


def nodes(size: int) -> np.ndarray:
    """The table that changes nothing: (n, n, n, 3) float64, indexed [r][g][b]."""
    axis = np.linspace(0, 1, size)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)


def tabulated(look: Colours, size: int, space: Space = SRGB) -> np.ndarray:
    """A look for sRGB-encoded colours, as a table for a space's.

    Args:
        look: sRGB-encoded colours (..., 3), [0, 1], to such; it may leave [0, 1].

    Returns:
        (n, n, n, 3) float64, indexed [r][g][b], not clamped.
    """
    here = nodes(size)
    if space is SRGB:
        return look(here)
    there = extended(look)(convert(here, space, SRGB))
    return convert(there, SRGB, space)
