"""The published network on a whole picture, at its own size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.transform import Reach, Source
from hzcli.core.window import Size, Window
from hzcli.models.hdnet.whole import WholePicture, not_filled

if TYPE_CHECKING:
    from hzcli.models.hdnet.as_published import PublishedHDNet

LEAK = 0.2
STRIDE = 8  # of the bottleneck: sides are multiples of it
SMALLEST = 16  # side of a picture: instance normalisation needs more than one place
ROWS_READ = 256


def at_size(mask: Tensor, height: int, width: int, rule: str) -> Tensor:
    """The mask at the size of a level."""
    if mask.shape[2:] == (height, width):
        return mask
    if rule == "area":
        return F.adaptive_avg_pool2d(mask, (height, width))
    return F.interpolate(mask, (height, width), mode="nearest")


def _reflected(start: int, stop: int, length: int) -> Tensor:
    """Indices of places beyond the end of a line, mirrored about its last pixel and its first."""
    period = max(2 * (length - 1), 1)
    index = torch.arange(start, stop) % period
    return torch.minimum(index, period - index) if length > 1 else torch.zeros_like(index)


@dataclass(frozen=True)
class Native:
    """The network on the whole picture, at its own size.

    colours: (1, 3, h, w) of `box`, once the picture has been shown to `bind`.
    """

    net: PublishedHDNet
    colours: Tensor | None = None
    box: Window | None = None

    @property
    def reach(self) -> Reach:
        return Reach(bytes_per_pixel=24)

    @torch.no_grad()
    def bind(self, source: Source) -> Native:
        """Run the network, mirroring the picture at its right and bottom to multiples of 8.

        Takes about 15 bytes a pixel for each channel of the configuration's width.
        """
        net, size = self.net, source.size
        height, width = (max(SMALLEST, -(-n // STRIDE) * STRIDE) for n in (size.height, size.width))
        like = net.model_layer0.weight
        inputs = not_filled(like, net.config.inputs, height, width)
        mask = torch.empty((1, 1, height, width), dtype=like.dtype, device=like.device)
        for top in range(0, size.height, ROWS_READ):
            rows = slice(top, min(top + ROWS_READ, size.height))
            rgb, soft = source.read(Window(rows.start, rows.stop, 0, size.width, size))
            mask[..., rows, : size.width] = soft.to(mask)
            inputs[:, :, rows, : size.width] = net.inputs(rgb.to(mask) * 2 - 1, soft.to(mask))
        below, beside = (
            _reflected(n, end, n).to(like.device)
            for n, end in ((size.height, height), (size.width, width))
        )
        for x in (inputs, mask):
            x[..., size.width :] = x[..., beside]
            x[:, :, size.height :] = x[:, :, below]
        box = source.box
        if not box.height or not box.width:
            return Native(net, mask.new_empty(1, 3, 0, 0), box)
        result = source.scratch(1, 3, box.height, box.width)
        whole = Window(box.top, box.bottom, box.left, box.right, Size(height, width))
        rule = net.config.masks
        masks = {n: at_size(mask, height // n, width // n, rule) for n in (1, 2, 4, 8)}
        WholePicture(net, inputs, masks, whole, LEAK).run(result)
        return Native(net, result, box)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        """Colours from the result of `bind`; see `Transform.apply`.

        Raises:
            ValueError: the picture has not been shown to `bind`.
        """
        del mask
        if self.colours is None or self.box is None:
            raise ValueError("this Transform must be bound to a picture before it is applied")
        box, out = self.box, rgb.clone()
        inner = Window(
            max(window.top, box.top),
            min(window.bottom, box.bottom),
            max(window.left, box.left),
            min(window.right, box.right),
            window.size,
        )
        if inner.height > 0 and inner.width > 0:
            part = self.colours[(..., *inner.inside(box))]
            out[(..., *inner.inside(window))] = part.to(out)
        return out
