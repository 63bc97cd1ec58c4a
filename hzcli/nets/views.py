"""Several looks of the compact encoder at one thumbnail, and the sizes that it takes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Maps = tuple[Tensor, Tensor, Tensor]
STEP = 32  # pixels between the sizes of views; sides are multiples of it


def multiple_of_32(rgb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """A thumbnail (B, 3, h, w) and its mask at the nearest sides that the encoder takes."""
    size = tuple(max(STEP, round(edge / STEP) * STEP) for edge in rgb.shape[2:])
    if size == tuple(rgb.shape[2:]):
        return rgb, mask
    return F.interpolate(rgb, size, mode="area"), F.interpolate(mask, size, mode="area")


def look(encoder: nn.Module, rgb: Tensor, mask: Tensor, views: int) -> tuple[Maps, Tensor]:
    """The encoder's maps of a thumbnail, and its code, averaged over views.

    Args:
        rgb: (B, 3, h, w), [0, 1], sides multiples of 32. mask: (B, 1, h, w), [0, 1].
        views: how many sizes, 32 pixels apart, each mirrored as well; 0: this one look. The
            maps are means over the first size's two.
    """
    maps, code = encoder(rgb, mask)
    if not views:
        return maps, code
    mirrored, other = encoder(rgb.flip(3), mask.flip(3))
    coarse, middle, fine = ((a + b.flip(3)) / 2 for a, b in zip(maps, mirrored, strict=True))
    b, codes = len(code), [code, other]
    for n in range(1, views):
        size = [max(STEP, edge - STEP * n) for edge in rgb.shape[2:]]
        small, m = (F.interpolate(t, size, mode="area") for t in (rgb, mask))
        both = encoder(torch.cat([small, small.flip(3)]), torch.cat([m, m.flip(3)]))[1]
        codes += [both[:b], both[b:]]
    return (coarse, middle, fine), torch.stack(codes).mean(0)
