"""Two curves a place, one after the other, from 16-bit codes to 16-bit codes, on a CPU.

Shapes: K, L pieces of the first and the second curve.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hzcli.core.codes import WHITE
from hzcli.core.grid_codes import GridCodes
from hzcli.core.window import Window

COLUMNS = 2048  # that a thread takes at a time


class CodedCurveMaps(GridCodes):
    """For large pictures, where there is a native kernel ("curve maps").

    Args:
        first: (3, gh, K + 1, gw), from [0, 1] to [0, 1]: values at even knots, on a grid that is
            read bilinearly. second: (3, gh, L + 1, gw), from [0, 1] to colours. Both finite.
        aligned: whether the outermost cells lie on the outermost pixels.
        strength: share of the new colour in a pixel that the mask holds whole.
    """

    def __init__(self, first: Tensor, second: Tensor, aligned: bool, strength: float = 1.0) -> None:
        pieces, after = first.shape[2] - 1, second.shape[2] - 1
        parts = []
        for curves, scale in ((first.double() * after, 0.0), (second.double() * WHITE, 0.5)):
            start = curves[:, :, :1] + scale  # cutting off is rounding then
            slopes = curves.diff(dim=2)
            parts += [start, slopes[:, :, :1], slopes.diff(dim=2)]
        cells = torch.cat(parts, 2).float().movedim(1, 0).flatten(1, 2)  # (gh, 3 (K + L + 2), gw)
        super().__init__(
            "curve maps", cells, "bilinear", aligned, strength, COLUMNS,
            pieces=pieces, pieces_after=after, unit=pieces / WHITE,
        )  # fmt: skip

    def _part(self, rows: np.ndarray, mask: np.ndarray, window: Window) -> None:
        raise RuntimeError("there is no native kernel for maps of curves")
