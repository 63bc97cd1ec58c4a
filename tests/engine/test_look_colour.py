"""A look for sRGB on pictures of other spaces: the closed form is the oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hzcli.engine.colour import Colour
from hzcli.engine.looks import spaces
from hzcli.engine.looks.apply_look import Prepared, prepare, recolour
from hzcli.engine.looks.look_colour import ConvertedLook
from hzcli.engine.looks.spaces import SPACES, SRGB
from hzcli.io.cube import Look
from hzcli.io.profiles import profile

NAMES = ("adobergb", "p3", "prophoto")


def bent(colours: np.ndarray) -> np.ndarray:
    return colours**1.2 * 0.9 + 0.03


def made(name: str, table: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, result and mask of a picture in a space."""
    codes = np.random.default_rng(0).integers(0, 65536, (50, 70, 3)).astype(np.uint16)
    mask = np.zeros((50, 70), np.uint8)
    mask[5:40, 5:50], mask[40:45, 5:50] = 255, 100
    prepared: Prepared = prepare(Look("", table.astype(np.float32)))
    look = ConvertedLook(prepared.recolouring, Colour(profile(name)))
    rows = codes.copy()
    recolour(rows, mask, replace(prepared, recolouring=look))
    return codes, rows, mask


@pytest.mark.parametrize("name", NAMES)
def test_the_look_is_that_of_srgb(name: str) -> None:
    """Into sRGB, through the look, and back: within a level, a table's interpolation included."""
    codes, rows, mask = made(name, bent(spaces.nodes(33)))

    there = spaces.convert(codes / 65535, SPACES[name], SRGB)
    back = spaces.convert(spaces.extended(bent)(there), SRGB, SPACES[name])

    away = np.abs(rows - 65535 * np.clip(back, 0, 1))[mask == 255] / 257
    assert away.mean() < 0.05
    assert away.max() < 3
    assert (rows[mask == 0] == codes[mask == 0]).all()
    # The same table on the picture's own numbers would be seen.
    assert np.abs(bent(codes / 65535) * 255 - rows / 257)[mask == 255].mean() > 0.2


@pytest.mark.parametrize("name", NAMES)
def test_a_look_that_changes_nothing_changes_no_code(name: str) -> None:
    codes, rows, _ = made(name, spaces.nodes(17))

    assert (rows == codes).all()
