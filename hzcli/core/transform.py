"""What a model predicts: a recolouring that can be applied to any window of a picture.

A `Transform` is a frozen dataclass of tensors with a leading batch dimension. It knows
nothing of files, devices, bit depth or the network that made it. The engine alone adds
halo, band height, conversion, soft-mask blend and pass-through.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from hzcli.core.window import Size, Window


@dataclass(frozen=True)
class Reach:
    """How far a Transform looks, and what it costs.

    halo: pixels around a window that its result depends on.
    align: windows given to `apply` must start at multiples of this (global coordinates).
    bytes_per_pixel: working memory per pixel of a window, beyond the window itself.
    """

    halo: int = 0
    align: int = 1
    bytes_per_pixel: int = 64


@dataclass(frozen=True)
class Thumbnail:
    """What a Predictor sees of a picture.

    rgb: (B, 3, h, w), sRGB-encoded, [0, 1]. mask: (B, 1, h, w), soft, [0, 1].
    full: size of the picture that it was made from.
    closeup: the same of the mask's bounding box alone, for networks that look closer.
    reference: (B, 3, h, w), another picture to harmonise towards, instead of the background.
    masks: the full mask sampled bilinearly to squares of other edges, (B, 1, e, e) by edge, for
    networks that ask for them.
    """

    rgb: Tensor
    mask: Tensor
    full: Size
    closeup: Thumbnail | None = None
    reference: Tensor | None = None
    masks: dict[int, Tensor] | None = None


class Source(Protocol):
    """A picture's own pixels, for Transforms that must look at all of it before they apply."""

    size: Size
    box: Window

    def read(self, window: Window) -> tuple[Tensor, Tensor]:
        """Colours (1, 3, h, w), sRGB-encoded, [0, 1], and mask (1, 1, h, w) of a window."""
        ...

    def scratch(self, *shape: int) -> Tensor:
        """A float32 tensor to keep results in; in a temporary file where it is large."""
        ...


class Transform(Protocol):
    """A recolouring of a whole picture, evaluated window by window."""

    @property
    def reach(self) -> Reach: ...

    # Optional: def bind(self, source: Source) -> Transform. Where it exists, the engine calls
    # it once before `apply`, and applies what it returns.

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        """Recolour the pixels of one window.

        Args:
            rgb: (B, 3, h, w), sRGB-encoded, nominally [0, 1]: the pixels of `window`.
            mask: (B, 1, h, w), [0, 1]. Pixels with mask 0 may be left as they are.
            window: which part of the picture this is.

        Returns:
            (B, 3, h, w), sRGB-encoded, not clamped. Rows and columns nearer than
            `reach.halo` to an inner edge of the window are not valid.
        """
        ...


T = TypeVar("T")


def lerp(a: T, b: T, t: float) -> T:
    """Blend two Transforms of one kind tensor by tensor: `a` at t=0, `b` at t=1.

    Exact for tables, curves and maps. Between two sets of MLP weights it is *not* a blend
    of colours.
    """
    if t == 0:
        return a
    if t == 1:
        return b
    mixed = {}
    for field in dataclasses.fields(a):  # type: ignore[arg-type]
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, Tensor):
            mixed[field.name] = torch.lerp(x, y, t)
    return dataclasses.replace(a, **mixed)  # type: ignore[type-var]
