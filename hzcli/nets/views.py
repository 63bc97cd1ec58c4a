"""Several looks of the compact encoder at one thumbnail, and the sizes that it takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Maps = tuple[Tensor, Tensor, Tensor]
Looks = list[tuple[Tensor, Tensor]]

STEP = 32  # pixels between the sizes of views; sides are multiples of it

# Of a thumbnail that is looked at more closely, in shares of its sides:
WHOLE = 0.625  # what all of it is seen at
WINDOWS = (0.75, 0.5, 0.35)  # the windows around the foreground ..
CLOSE = 0.5  # .. and what these are seen at
MARGIN = 1.3  # a window's side by the foreground's, at least


def box_of(mask: Tensor) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of what is above 0 of an (h, w) mask; all of an empty one."""
    touched = (mask > 0).nonzero()
    if not len(touched):
        return 0, mask.shape[0], 0, mask.shape[1]
    (top, left), (bottom, right) = touched.amin(0).tolist(), touched.amax(0).tolist()
    return top, bottom + 1, left, right + 1


def seen(model: Any, rgb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Maps, Tensor]:
    """What a model with a compact encoder knows of a thumbnail, by the looks that it asks for.

    Args:
        model: its configuration has `thumbnail`, `views` and `closer`; see `look` and `closer`.
            While it is trained it looks once.
        rgb: (B, 3, h, w), [0, 1]. mask: (B, 1, h, w), [0, 1].

    Returns:
        The thumbnail and its mask as they were looked at, the maps of these, and the code.
    """
    rgb, mask, near = closer(model, rgb, mask)
    views = 0 if model.training else model.config.views
    return rgb, mask, *look(model.encoder, rgb, mask, views, near)


def _resized(rgb: Tensor, mask: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """At so much of its sides, or the nearest that the encoder takes."""
    size = tuple(max(STEP, round(share * edge / STEP) * STEP) for edge in rgb.shape[2:])
    if size == tuple(rgb.shape[2:]):
        return rgb, mask
    return F.interpolate(rgb, size, mode="area"), F.interpolate(mask, size, mode="area")


def closer(model: Any, rgb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Looks]:
    """A thumbnail as its encoder takes it, and closer looks at the foreground.

    Args:
        model: trained, its configuration has `thumbnail` and `closer`: how many of WINDOWS. While
            it is trained, or shown something smaller than it asks for, there are none.
        rgb: (B, 3, h, w), [0, 1]. mask: (B, 1, h, w), [0, 1].

    Returns:
        The whole and its mask; the same of each window, every other one mirrored, the first among
        them: what little things there are is seen at several sizes and from both sides.
    """
    config = model.config
    if model.training or not config.closer or min(rgb.shape[2:]) < config.thumbnail:
        return *_resized(rgb, mask), []
    looks = []
    for n, share in enumerate(WINDOWS[: config.closer]):
        each = [_window(rgb[i : i + 1], mask[i : i + 1], share) for i in range(len(rgb))]
        near, inside = (torch.cat(parts) for parts in zip(*each, strict=True))
        looks.append((near, inside) if n % 2 else (near.flip(3), inside.flip(3)))
    return *_resized(rgb, mask, WHOLE), looks


def _window(rgb: Tensor, mask: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """One picture's (1, ..) window around its foreground, at the size that windows are seen at."""
    at, (top, bottom, left, right) = [], box_of(mask[0, 0])
    for edge, low, high in zip(mask.shape[2:], (top, left), (bottom, right), strict=True):
        side = min(edge, max(round(share * edge), round(MARGIN * (high - low))))
        start = min(max(0, (low + high - side) // 2), edge - side)
        at.append(slice(start, start + side))
    size = [max(STEP, round(CLOSE * edge / STEP) * STEP) for edge in mask.shape[2:]]
    near, inside = (F.interpolate(t[:, :, at[0], at[1]], size, mode="area") for t in (rgb, mask))
    return near, inside


def look(
    encoder: nn.Module, rgb: Tensor, mask: Tensor, views: int, near: Looks | None = None
) -> tuple[Maps, Tensor]:
    """The encoder's maps of a thumbnail, and its code, averaged over views and closer looks.

    Args:
        rgb: (B, 3, h, w), [0, 1], sides multiples of 32. mask: (B, 1, h, w), [0, 1].
        views: how many sizes, 32 pixels apart, each mirrored as well; 0: this one look. The
            maps are means over the first size's two.
        near: see `closer`.
    """
    maps, code = encoder(rgb, mask)
    b, codes = len(code), [code]
    if views:
        mirrored, other = encoder(rgb.flip(3), mask.flip(3))
        coarse, middle, fine = ((a + b.flip(3)) / 2 for a, b in zip(maps, mirrored, strict=True))
        maps = coarse, middle, fine
        codes.append(other)
    for n in range(1, views):
        size = [max(STEP, edge - STEP * n) for edge in rgb.shape[2:]]
        small, m = (F.interpolate(t, size, mode="area") for t in (rgb, mask))
        both = encoder(torch.cat([small, small.flip(3)]), torch.cat([m, m.flip(3)]))[1]
        codes += [both[:b], both[b:]]
    if near:
        pictures, masks = (torch.cat(parts) for parts in zip(*near, strict=True))
        codes += encoder(pictures, masks)[1].split(b)
    return maps, code if len(codes) == 1 else torch.stack(codes).mean(0)
