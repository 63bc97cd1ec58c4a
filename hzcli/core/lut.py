"""Three-dimensional lookup tables."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.transform import Reach
from hzcli.core.window import Window


def identity_lut(size: int, *, device: torch.device | str = "cpu") -> Tensor:
    """The table that changes nothing: (3, n, n, n), indexed [channel][r][g][b]."""
    axis = torch.linspace(0, 1, size, device=device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))


def lookup(lut: Tensor, rgb: Tensor) -> Tensor:
    """Trilinear lookup, clamped to the table's border.

    Args:
        lut: (B, 3, n, n, n), indexed [batch][channel][r][g][b].
        rgb: (B, 3, h, w), [0, 1].

    Returns:
        (B, 3, h, w); not clamped.
    """
    # grid_sample wants the last axis of the table (b) as x, the first (r) as z.
    grid = (rgb.flip(1).movedim(1, -1) * 2 - 1).unsqueeze(1)
    out = F.grid_sample(lut, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return out.squeeze(2)


@dataclass(frozen=True)
class Lut3D:
    """A position-free recolouring by one table per picture, (B, 3, n, n, n)."""

    lut: Tensor

    @property
    def reach(self) -> Reach:
        return Reach(bytes_per_pixel=48)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        del mask, window
        return lookup(self.lut, rgb)
