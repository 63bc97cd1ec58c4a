"""What a network sees of a picture with several foregrounds: one of them, and the background.

The other foregrounds are painted over with the background's colours, which reach into them
smoothly. A model never knows: it is asked through `AgainstTheRest`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.sampling import upsample
from hzcli.core.transform import Reach, Source, Thumbnail, Transform
from hzcli.core.window import Size, Window
from hzcli.engine import thumbnail
from hzcli.io.masks import union

# A pixel is painted over as a whole where another foreground covers so much of it, and less the
# less is covered. Little: what is painted looks like the background anyway, and what is left of a
# foreground would bleed into it.
_COVERED = 0.02


@dataclass(frozen=True)
class Part:
    """One of several foregrounds: its bounding box, and its number of pixels with mask > 0."""

    box: Window
    inside: int


class AgainstTheRest:
    """A predictor that is asked about one foreground and does not see the others.

    Args:
        predictor: the model; its attributes are this one's.
        part: the foreground that it is asked about. others: the masks of the others, of the
            picture's size.
    """

    def __init__(self, predictor: Any, part: Part, others: Sequence[Any]) -> None:
        self._predictor, self._part = predictor, part
        self._others = union(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._predictor, name)

    def predict(self, thumb: Thumbnail) -> Transform:
        """The model's Transform for the thumbnail without the others."""
        return self._answer(self._predictor.predict, thumb)

    def predict_lut(self, thumb: Thumbnail) -> Transform:
        """The model's table for the thumbnail without the others."""
        return self._answer(self._predictor.predict_lut, thumb)

    def _answer(self, ask: Any, thumb: Thumbnail) -> Transform:
        size = self._others.size
        shown, background = self._without(thumb, Window.whole(size))
        if thumb.closeup is not None:
            shown = replace(shown, closeup=self._without(thumb.closeup, self._part.box)[0])
        transform = ask(shown)
        if background is not None and hasattr(transform, "bind"):
            return _Unbound(transform, self._others, background)
        return transform

    def _without(self, thumb: Thumbnail, window: Window) -> tuple[Thumbnail, Tensor | None]:
        """The thumbnail of a window painted over, and the colours of its background."""
        edge = thumb.rgb.shape[-1]
        kind = getattr(self._predictor, "thumbnail_filter", "area")
        others = thumbnail.make_reference(_Cut(self._others, window), edge, kind)[:, :1]
        others = _near(others.to(thumb.rgb))
        clean = (1 - others) * (1 - _near(thumb.mask))
        if clean.sum() < 1:  # not a pixel of background: the others must do
            return thumb, None
        background = extended(thumb.rgb, clean)
        return replace(thumb, rgb=_painted(thumb.rgb, thumb.mask, others, background)), background


def _near(mask: Tensor) -> Tensor:
    """1 where a mask is, and one pixel around it: masks are often a little tight."""
    return F.max_pool2d((mask / _COVERED).clamp(0, 1), 3, 1, 1)


def _painted(rgb: Tensor, mask: Tensor, others: Tensor, background: Tensor) -> Tensor:
    """`background` where the others are and the foreground is not."""
    return rgb + others * (1 - mask) * (background - rgb)


def extended(rgb: Tensor, share: Tensor) -> Tensor:
    """Colours everywhere, from those that count: by means over ever larger squares.

    Pull-push: Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4.

    Args:
        rgb: (B, C, h, w). share: (B, 1, h, w), [0, 1], how much a colour counts; not 0 everywhere.

    Returns:
        (B, C, h, w): `rgb` where its share is 1, and smooth in between.
    """
    height, width = rgb.shape[-2:]
    if height == width == 1:
        return rgb
    halved = functools.partial(F.avg_pool2d, kernel_size=2, ceil_mode=True, count_include_pad=False)
    mean = halved(share)
    colours = halved(rgb * share) / mean.clamp(min=1e-12)
    beyond = extended(colours, (4 * mean).clamp(max=1))
    beyond = F.interpolate(beyond, (height, width), mode="bilinear", align_corners=False)
    return beyond + share * (rgb - beyond)


class _Cut:
    """A window of a mask as a grey picture."""

    def __init__(self, mask: Any, window: Window) -> None:
        self.size, self.depth = Size(window.height, window.width), mask.depth
        self.path = mask.path
        self._mask, self._window = mask, window

    def read(self, window: Window) -> np.ndarray:
        top, left = self._window.top, self._window.left
        codes = self._mask.read(
            Window(
                window.top + top,
                window.bottom + top,
                window.left + left,
                window.right + left,
                self._window.size,
            )
        )
        return np.broadcast_to(codes[..., None], (*codes.shape, 3))


@dataclass(frozen=True)
class _Unbound:
    """A Transform that will look at the picture itself, and must not see the others there."""

    transform: Any
    others: Any
    background: Tensor

    @property
    def reach(self) -> Reach:
        return self.transform.reach

    def bind(self, source: Source) -> Transform:
        return self.transform.bind(_Painted(source, self.others, self.background))

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        return self.transform.apply(rgb, mask, window)


class _Painted:
    """A picture's own pixels with the others painted over, window by window."""

    def __init__(self, source: Any, others: Any, background: Tensor) -> None:
        self.size, self.box = source.size, source.box
        self._source, self._others, self._background = source, others, background

    def read(self, window: Window) -> tuple[Tensor, Tensor]:
        rgb, mask = self._source.read(window)
        codes = self._others.read(window)
        if not codes.any():
            return rgb, mask
        scale = np.float32(1 / ((1 << self._others.depth) - 1))
        others = torch.from_numpy(codes * scale)[None, None].to(rgb)
        background = upsample(self._background.to(rgb), window, align_corners=False)
        return _painted(rgb, mask, (others / _COVERED).clamp(max=1), background), mask

    def scratch(self, *shape: int) -> Tensor:
        return self._source.scratch(*shape)
