"""Hald CLUTs: a look as a picture (Eskil Steenberg), in 16 bits.

Level L is a square of L^3 pixels a side that holds a table of n = L^2 nodes a side, row by row,
red fastest, then green, then blue. Being a picture, it has no values below 0 or above 1.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np

from hzcli.core.window import Window
from hzcli.errors import LookError, PictureError
from hzcli.io import atomic
from hzcli.io.cube import UNIT, Look
from hzcli.io.picture import open_picture

LEVEL = 8  # 64 nodes a side, 512 pixels: what collections of looks have
LARGEST_LEVEL = 16


def read_hald(path: Path) -> Look:
    """Read a Hald CLUT from any picture that hz reads, of 8 or 16 bits.

    Raises:
        LookError: unreadable, or no Hald CLUT.
    """
    try:
        with open_picture(path) as reader:
            size, depth = reader.size, reader.depth
            level = round(size.width ** (1 / 3))
            fits = level**3 == size.width == size.height and 2 <= level <= LARGEST_LEVEL
            if not fits:
                raise LookError(
                    f"{path} is {size.width} x {size.height} pixels, expected a Hald CLUT",
                    "One of level 8 is 512 x 512, one of level 12 is 1728 x 1728.",
                )
            codes = reader.read(Window.whole(size))
    except PictureError as error:
        raise LookError(error.message, error.hint) from error
    n = level * level
    table = codes.reshape(n, n, n, 3).transpose(2, 1, 0, 3) / np.float32((1 << depth) - 1)
    return Look(Path(path).stem, np.ascontiguousarray(table, np.float32))


def write_hald(look: Look, target: Path | BinaryIO) -> None:
    """Write a table as a 16-bit PNG; values below 0 and above 1 are held there.

    Raises:
        LookError: the table has a shaper or a domain, or its size is not the square of a level.
        OSError: the file cannot be written.
    """
    level = math.isqrt(look.size)
    square = level * level == look.size and 2 <= level <= LARGEST_LEVEL
    if look.table is None or look.shaper is not None or look.domain != UNIT or not square:
        raise LookError(
            f"a Hald CLUT is a bare table of 4, 9, .. 256 nodes a side, this look has {look.size}",
            f"Resample it, for example to {LEVEL * LEVEL}.",
        )
    values = look.table.transpose(2, 1, 0, 3).reshape(level**3, level**3, 3)
    codes = np.rint(np.clip(values.astype(np.float64), 0, 1) * 65535).astype(np.uint16)
    data = bytes(imagecodecs.png_encode(codes))
    if isinstance(target, (str, Path)):
        with atomic.beside(Path(target)) as temporary:
            temporary.write_bytes(data)
    else:
        assert not isinstance(target, io.TextIOBase), "a picture is no text"
        target.write(data)
