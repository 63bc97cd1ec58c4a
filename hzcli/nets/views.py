"""Several looks of the compact encoder at one thumbnail, and the sizes that it takes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Maps = tuple[Tensor, Tensor, Tensor]
Looks = list[tuple[Tensor, Tensor]]

STEP = 32  # sides of what an encoder sees are multiples of it

# Of a thumbnail that is looked at more closely, in shares of its sides:
WHOLE = 0.625  # what all of it is seen at
WINDOWS = (0.5, 0.35)  # the windows around the foreground ..
CLOSE = 0.5  # .. and what these are seen at
MARGIN = 1.3  # a window's side by the foreground's, at least

REACH = 3  # pixels of a thumbnail by which a mask is moved at most, so that it fits
SURE = 1.6  # how much stronger an edge it must find there than at its own ..
MORE = 1 / 255  # .. and by how much of white besides


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
        model: its configuration has `thumbnail` and `closer`; see `closer`.
        rgb: (B, 3, h, w), [0, 1]. mask: (B, 1, h, w), [0, 1].

    Returns:
        The thumbnail and its mask as they were looked at, the maps of these, and the code.
    """
    rgb, mask, near = closer(model, rgb, mask)
    return rgb, mask, *look(model.encoder, rgb, mask, near)


def fitted(rgb: Tensor, mask: Tensor) -> Tensor:
    """Masks grown or shrunk by the few pixels that take them to the composites' strongest edges.

    An encoder finds most of what is wrong with a composite by comparing both sides of its edge.
    Of a mask that is a pixel too large both sides are background, and nothing seems wrong. Masks
    that fit, nearly all, are left alone: their own edge is the strongest near it.

    Args:
        rgb: (B, 3, h, w), [0, 1]. mask: (B, 1, h, w), [0, 1].
    """
    shape = mask[:, 0] > 0.5
    shapes = [shape]  # from REACH pixels smaller to as many larger
    for _ in range(REACH):
        shapes = [~_grown(~shapes[0]), *shapes, _grown(shapes[-1])]
    contrast = edges(rgb, torch.stack(shapes, 1))
    contrast[:, REACH] = SURE * contrast[:, REACH] + MORE
    moved = contrast.argmax(1) - REACH
    if not moved.any():
        return mask
    return torch.stack([_moved(one, int(by)) for one, by in zip(mask, moved, strict=True)])


def _grown(shape: Tensor) -> Tensor:
    """Truths (.., h, w) and their eight neighbours."""
    for axis in (-1, -2):
        size = shape.shape[axis] - 1
        wider = shape.clone()
        wider.narrow(axis, 1, size).logical_or_(shape.narrow(axis, 0, size))
        wider.narrow(axis, 0, size).logical_or_(shape.narrow(axis, 1, size))
        shape = wider
    return shape


def _moved(mask: Tensor, by: int) -> Tensor:
    """A soft mask (1, h, w) grown by so many pixels, below 0 shrunk."""
    if by < 0:
        return -_moved(-mask, -by)
    return F.max_pool2d(mask, 2 * by + 1, 1, by)


def edges(rgb: Tensor, shapes: Tensor) -> Tensor:
    """How strong pictures' edges are along outlines: the mean distance of colours between
    neighbours, beside or below each other, of which one lies inside.

    Args:
        rgb: (B, 3, h, w). shapes: (B, N, h, w), truths; each holds the one before it with all of
            that one's neighbours.

    Returns:
        (B, N); 0 for shapes with less than a quarter of the longest outline among a picture's.
    """
    b, n = shapes.shape[:2]
    ring = shapes.sum(1, dtype=torch.uint8)  # in how many shapes a pixel lies
    colours = rgb.movedim(1, 3)
    sums, counts = (rgb.new_zeros(b * n) for _ in range(2))
    for axis in (1, 2):
        size = ring.shape[axis] - 1
        one, other = ring.narrow(axis, 0, size), ring.narrow(axis, 1, size)
        crossed = (one != other).nonzero(as_tuple=True)
        here, there = (colours.narrow(axis, start, size)[crossed] for start in (0, 1))
        # The outline between pixels that lie in r shapes and in r - 1 is that of shape n - r.
        which = n * (1 + crossed[0]) - torch.maximum(one, other)[crossed]
        sums.index_add_(0, which, (here - there).square().sum(1).sqrt())
        counts.index_add_(0, which, torch.ones_like(which, dtype=counts.dtype))
    sums, counts = sums.view(b, n), counts.view(b, n)
    known = counts > counts.amax(1, keepdim=True) / 4
    return torch.where(known, sums / counts.clamp_min(1), 0.0)


def _resized(rgb: Tensor, mask: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """At so much of its sides, or the nearest that the encoder takes."""
    size = tuple(max(STEP, round(share * edge / STEP) * STEP) for edge in rgb.shape[2:])
    return _at(size, rgb), _at(size, mask)


def _at(size: tuple[int, ...], picture: Tensor) -> Tensor:
    if size == tuple(picture.shape[2:]):
        return picture
    return F.interpolate(picture, size, mode="area")


def closer(model: Any, rgb: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Looks]:
    """A thumbnail as its encoder takes it, and closer looks at the foreground.

    Args:
        model: trained, its configuration has `thumbnail` and `closer`: how many of WINDOWS. While
            it is trained, or shown something smaller than it asks for, there are none.
        rgb: (B, 3, h, w), [0, 1]. mask: (B, 1, h, w), [0, 1].

    Returns:
        The whole and its mask, which is made to fit; the same of each window, every other one
        mirrored: what little things there are is seen at several sizes and from both sides.
    """
    config = model.config
    if model.training or not config.closer or min(rgb.shape[2:]) < config.thumbnail:
        return *_resized(rgb, mask), []
    mask = fitted(rgb, mask)
    looks = []
    for n, share in enumerate(WINDOWS[: config.closer]):
        each = [_window(rgb[i : i + 1], mask[i : i + 1], share) for i in range(len(rgb))]
        near, inside = (torch.cat(parts) for parts in zip(*each, strict=True))
        looks.append((near.flip(3), inside.flip(3)) if n % 2 else (near, inside))
    return *_resized(rgb, mask, WHOLE), looks


def _window(rgb: Tensor, mask: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """One picture's (1, ..) window around its foreground, at the size that windows are seen at."""
    at, (top, bottom, left, right) = [], box_of(mask[0, 0])
    for edge, low, high in zip(mask.shape[2:], (top, left), (bottom, right), strict=True):
        side = min(edge, max(round(share * edge), round(MARGIN * (high - low))))
        start = min(max(0, (low + high - side) // 2), edge - side)
        at.append(slice(start, start + side))
    size = tuple(max(STEP, round(CLOSE * edge / STEP) * STEP) for edge in mask.shape[2:])
    return _at(size, rgb[:, :, at[0], at[1]]), _at(size, mask[:, :, at[0], at[1]])


def look(
    encoder: nn.Module, rgb: Tensor, mask: Tensor, near: Looks | None = None
) -> tuple[Maps, Tensor]:
    """The encoder's maps of a thumbnail, and its code, averaged over closer looks.

    Args:
        encoder: a compact one.
        rgb: (B, 3, h, w), [0, 1], sides multiples of 32. mask: (B, 1, h, w), [0, 1].
        near: see `closer`; all of one size.
    """
    maps, code = encoder(rgb, mask)
    if not near:
        return maps, code
    pictures, masks = (torch.cat(parts) for parts in zip(*near, strict=True))
    codes = [code, *encoder(pictures, masks)[1].split(len(code))]
    return maps, torch.stack(codes).mean(0)
