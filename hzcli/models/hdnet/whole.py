"""HDNet's forward pass over a whole picture that holds no more than it must, without gradients.

It works in rows, on tensors in channels_last memory, where rows lie together and a slice of rows
is no copy. What may be left out without changing the result: RAIN and the pooling need sums over
the whole picture, but both are known before the last layers run. RAIN is affine a region, and so
folds into the dynamic kernel behind it, and the mean of its result follows from the sums. So level
0 is made twice, in rows, and never held; a level's dynamic convolution lives in rows between its
neighbours; and behind the sums of layer 13 only the mask and one pixel around it is computed.

Letters: B batch, C channels, D of a concatenation, r region: 0 foreground, 1 background.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.window import Window
from hzcli.nets.rain import (
    Rain,
    RegionAffine,
    affine_of,
    in_blocks,
    instance_norm_,
    rain_,
    rows_of,
    wide,
)

MIXED = 64  # side of the pieces that both regions' kernels run on, where the mask's edge is


class _Mix:
    """RAIN, concatenation, MGD and ReLU of a decoder level, for any part of it.

    Args:
        mean: (1, D, 1, 1), of the concatenation. affine: RAIN of its second half.
    """

    def __init__(self, layer: Any, mean: Tensor, affine: RegionAffine) -> None:
        self.kernels = [w[0, :, :, None, None] for w in layer.kernels(mean)]
        self.affine = affine
        half = affine.scale.shape[1]
        self.folded = []
        for r, w in enumerate(self.kernels):  # W (a u + b) = (W a) u + W b
            tail = w[:, -half:]
            scale, offset = affine.scale[0, :, r], affine.offset[0, :, r]
            weight = torch.cat([w[:, :-half], tail * scale[None, :, None, None]], 1)
            self.folded.append((weight, tail[:, :, 0, 0] @ offset))

    def __call__(self, kept: Tensor, u: Tensor, mask: Tensor) -> Tensor:
        """From the skip (1, D / 2, h, w), RAIN's input, and the mask: (1, D, h, w)."""
        low, high = mask.aminmax()
        if low == high and float(low) in (0.0, 1.0):
            weight, bias = self.folded[0 if low == 1 else 1]
            return F.conv2d(torch.cat([kept, u], 1), weight, bias).relu_()
        height, width = mask.shape[2:]
        if height > MIXED or width > MIXED:  # smaller pieces are more often of one region
            out = not_filled(kept, 2 * kept.shape[1], height, width)
            for top in range(0, height, MIXED):
                for left in range(0, width, MIXED):
                    part = (..., slice(top, top + MIXED), slice(left, left + MIXED))
                    out[part] = self(kept[part], u[part], mask[part])
            return out
        y = self.affine.apply(u.flatten(2), mask.flatten(2)).unflatten(2, (height, width))
        x = torch.cat([kept, y], 1).contiguous(memory_format=torch.channels_last)
        w_f, w_b = self.kernels
        return F.conv2d(x, w_b).lerp_(F.conv2d(x, w_f), mask).relu_()


def not_filled(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    """(1, channels, height, width), not filled; rows lie together."""
    shape = (1, channels, height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _join(kept: Tensor, u: Tensor) -> Tensor:
    """ReLU of the concatenation, without a copy in between."""
    out = not_filled(kept, kept.shape[1] + u.shape[1], *u.shape[2:])
    torch.clamp(kept, min=0, out=out[:, : kept.shape[1]])
    torch.clamp(u, min=0, out=out[:, kept.shape[1] :])
    return out


def _total(x: Tensor) -> Tensor:
    """Sum over the picture, (1, C)."""
    return sum((wide(x[:, :, rows].sum((2, 3))) for rows in rows_of(x)), 0.0)  # type: ignore[return-value]


def patch(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Rows [top, bottom) and columns [left, right) of (B, C, H, W); beyond the picture, 0."""
    height, width = x.shape[2:]
    inside = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    beyond = (max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0))
    return F.pad(inside, beyond) if any(beyond) else inside


class WholePicture:
    """One forward pass over a picture, for the colours of `box` alone; about 16 bytes a pixel and
    channel of the network's width at its peak.

    Args:
        net: with the layers and the parameter names of HDNet.
        inputs: (1, 3 or 4, H, W), [-1, 1], from `not_filled`; sides multiples of 8.
        masks: (1, 1, H / n, W / n) at n = 1, 2, 4, 8.
        leak: slope of the encoder's LeakyReLU.
    """

    def __init__(
        self, net: Any, inputs: Tensor, masks: dict[int, Tensor], box: Window, leak: float
    ) -> None:
        self.net, self.inputs, self.masks, self.mask = net, inputs, masks, masks[1]
        self.box, self.leak = box, leak

    def weight(self, name: str) -> Tensor:
        return self.net.get_parameter(f"model_layer{name}.weight")

    def level0(self, top: int, bottom: int, left: int, right: int) -> Tensor:
        """x0, activated, of a part of the picture."""
        around = patch(self.inputs, top - 1, bottom + 1, left - 1, right + 1)
        return F.leaky_relu_(F.conv2d(around, self.weight("0")), self.leak)

    def down(self) -> tuple[list[Tensor], Tensor]:
        """Skips x1 to x6, and the sum of x0."""
        height, width = self.mask.shape[2:]
        c, weight = len(self.weight("0")), self.weight("1.1")
        x1 = not_filled(self.inputs, 2 * c, height // 2, width // 2)
        total = wide(torch.zeros(1, c, device=x1.device))
        for rows in rows_of(x1):
            top, bottom = 2 * rows.start, 2 * rows.stop
            first, last = max(top - 1, 0), min(bottom + 1, height)
            x0 = self.level0(first, last, 0, width)
            total += x0[:, :, top - first : bottom - first].sum((2, 3))
            x0 = F.pad(x0, (0, 0, first - top + 1, bottom + 1 - last))
            x1[:, :, rows] = F.conv2d(x0, weight, stride=2, padding=(0, 1))
        skips = [instance_norm_(x1, self.leak)]
        for n in range(2, 7):
            stride = 2 if n in (3, 5) else 1
            x = F.conv2d(skips[-1], self.weight(f"{n}.1"), stride=stride, padding=1)
            skips.append(instance_norm_(x, self.leak))
        return skips, total

    def bottom(self, x6: Tensor) -> Tensor:
        """From x6 to what layer 8 joins it with."""
        x = F.conv2d(x6, self.weight("71.1"), padding=1)
        x = self.net.LD(x, self.masks[8]).relu_()
        x = F.conv_transpose2d(x, self.weight("72.1"), padding=1)
        return rain_(x, self.masks[8], self.net.model_layer72norm)

    def mix(self, n: int, total: Tensor, blocks: Iterable[tuple[Tensor, Tensor]]) -> _Mix:
        """The dynamic convolution behind layer n, whose results come in blocks with masks.

        total: sum of the skip over the picture, (1, C).
        """
        norm, layer = (self.net.get_submodule(f"model_layer{n}{part}") for part in ("norm", "att"))
        assert isinstance(norm, Rain)
        affine, beyond = affine_of(blocks, norm)
        pixels = self.masks[1 if n == 13 else 2].numel()
        mean = torch.cat([total.float(), beyond], 1) / pixels
        return _Mix(layer, mean[:, :, None, None], affine)

    def mixed_rows(self, mix: _Mix, kept: Tensor, u: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows at half size, each block with a row more above and below, beyond the picture 0."""
        mask, height = self.masks[2], u.shape[2]
        for rows in rows_of(kept, 2):
            first, last = max(rows.start - 1, 0), min(rows.stop + 1, height)
            x = mix(kept[:, :, first:last], u[:, :, first:last], mask[:, :, first:last])
            yield rows, F.pad(x, (0, 0, first - rows.start + 1, rows.stop + 1 - last))

    def layer12(self, mix: _Mix, x2: Tensor, u: Tensor) -> Tensor:
        weight = self.weight("12.1")
        out = not_filled(u, weight.shape[1], *u.shape[2:])
        for rows, x in self.mixed_rows(mix, x2, u):
            out[:, :, rows] = F.conv_transpose2d(x, weight, padding=(2, 1))
        return out

    def layer13(
        self, mix: _Mix, x1: Tensor, u: Tensor, keep: Tensor, place: Window
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Blocks of rows at full size with their masks; what lies in `place` goes to `keep`."""
        weight = self.weight("13.1")
        for rows, x in self.mixed_rows(mix, x1, u):
            top, bottom = 2 * rows.start, 2 * rows.stop
            y = F.conv_transpose2d(x, weight, stride=2, padding=(3, 1))
            first, last = max(top, place.top), min(bottom, place.bottom)
            if first < last:
                part = y[:, :, first - top : last - top, place.left : place.right]
                keep[:, :, first - place.top : last - place.top] = part
            yield y, self.mask[:, :, top:bottom]

    def run(self, result: Tensor) -> None:
        """Write the harmonised colours of `box`, [0, 1] nominally, where the mask is above 0."""
        skips, total0 = self.down()
        x = self.bottom(skips[-1])
        for n in (8, 9, 10, 11):
            x = _join(skips.pop(), x)
            x = F.conv_transpose2d(x, self.weight(f"{n}.1"), stride=1 + n % 2, padding=1)
            if n < 11:
                norm = self.net.get_submodule(f"model_layer{n}norm")
                rain_(x, self.masks[8 if n == 8 else 4], norm)  # type: ignore[arg-type]
        x1, x2 = skips
        skips.clear()
        mix = self.mix(11, _total(x2), in_blocks(x, self.masks[2]))
        x = self.layer12(mix, x2, x)
        del x2
        mix = self.mix(12, _total(x1), in_blocks(x, self.masks[2]))
        place = self.box.grow(1)
        keep = not_filled(x, len(self.weight("0")), place.height, place.width)
        mix = self.mix(13, total0, self.layer13(mix, x1, x, keep, place))
        del x1, x
        self.out(mix, keep, place, result)

    def out(self, mix: _Mix, u: Tensor, place: Window, result: Tensor) -> None:
        """Level 0 again, the last dynamic convolution and the last layer, around the mask."""
        size, box = place.size, self.box
        last = self.net.model_out[1]
        for rows in rows_of(u, 2):
            top = max(place.top + rows.start, box.top)
            bottom = min(place.top + rows.stop, box.bottom)
            if top >= bottom:
                continue
            here = result[:, :, top - box.top : bottom - box.top]
            here.copy_(self.inputs[:, :3, top:bottom, box.left : box.right] / 2 + 0.5)
            columns = self.mask[0, 0, top:bottom, box.left : box.right].amax(0).nonzero()
            if not len(columns):
                continue
            left, right = box.left + int(columns[0]), box.left + int(columns[-1]) + 1
            seen = Window(top, bottom, left, right, size).grow(1)
            part = (..., slice(seen.top, seen.bottom), slice(seen.left, seen.right))
            x = mix(
                self.level0(seen.top, seen.bottom, seen.left, seen.right),
                u[(..., *seen.inside(place))],
                self.mask[part],
            )
            x = patch(
                x,
                top - 1 - seen.top,
                bottom + 1 - seen.top,
                left - 1 - seen.left,
                right + 1 - seen.left,
            )
            raw = F.conv_transpose2d(x, last.weight, last.bias, padding=2)
            colours = torch.tanh(raw)
            here[..., left - box.left : right - box.left] = colours / 2 + 0.5
