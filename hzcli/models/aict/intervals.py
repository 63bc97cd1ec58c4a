"""AICT's equations: a curve for every pixel and colour channel, out = F(x, y, C(x, y, v)).

The maps F (colours at K knots) and C (how wide the interval before each knot is) are looked up as
volumes over column, row and value. No channel looks at another.

Letters: B pictures, K intervals, (gh, gw) cells of a map, (h, w) pixels of a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.sampling import places, resample
from hzcli.core.transform import Reach
from hzcli.core.window import Window

# Cells or pixels that are looked up at once; bounds what `apply` needs beyond its window.
CHUNK = 1 << 16


@dataclass(frozen=True)
class IntervalMap:
    """A curve a pixel and channel, from maps that cover the picture.

    knots: (B, 3, gh, K + 1, gw), [0, 1], rising along K: where C sends K + 1 even levels.
    levels: (B, 3, gh, K, gw): what F makes of K even levels.
    Both have their knots between row and column, as they are read: a row at a time.
    align_corners: whether the outermost cells lie on the outermost pixels.
    clamp: whether the result is held in [0, 1], as published.
    """

    knots: Tensor
    levels: Tensor
    align_corners: bool = True
    clamp: bool = True

    @property
    def reach(self) -> Reach:
        # The result, coordinates and one lookup of three channels; maps are read by CHUNK.
        return Reach(bytes_per_pixel=64)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        """Recolour a window: (B, 3, h, w) to (B, 3, h, w); the mask is not looked at."""
        del mask
        height, width = rgb.shape[2:]
        step = max(1, CHUNK // max(width, self.knots.shape[-1]))
        parts = []
        for top in range(0, height, step):
            bottom = min(top + step, height)
            strip = Window(
                window.top + top, window.top + bottom, window.left, window.right, window.size
            )
            parts.append(self._strip(rgb[:, :, top:bottom], strip))
        return torch.cat(parts, 2) if len(parts) > 1 else parts[0]

    def _strip(self, rgb: Tensor, window: Window) -> Tensor:
        columns = places(
            window.left,
            window.right,
            window.size.width,
            self.knots.shape[-1],
            align_corners=self.align_corners,
        ).to(rgb)
        interval = self._look_up(self.knots, columns, rgb, window)  # v' = C(x, y, v)
        out = self._look_up(self.levels, columns, interval, window)  # F(x, y, v')
        return out.clamp(0, 1) if self.clamp else out

    def _look_up(self, volume: Tensor, columns: Tensor, value: Tensor, window: Window) -> Tensor:
        """Trilinear lookup of a volume (B, 3, gh, n, gw) at column, row and value.

        Linear in the row first, for all cells of it; then each row of pixels has an image of
        n x gw to look up bilinearly. Exactly the trilinear result, for half of its reads.
        """
        n, cells = volume.shape[3:]
        rows = resample(
            volume.flatten(3),
            -2,
            (window.top, window.bottom),
            window.size.height,
            align_corners=self.align_corners,
        )  # (B, 3, h, n gw)
        x = columns * (2 / max(cells - 1, 1)) - 1
        grid = torch.stack([x.expand_as(value), value * 2 - 1], 3)  # (B, 3, h, 2, w)
        out = F.grid_sample(
            rows.view(-1, 1, n, cells),
            grid.flatten(0, 2).transpose(1, 2).unsqueeze(1),
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        return out.view_as(value)


def interval_map(
    widths: Tensor, levels: Tensor, *, align_corners: bool = True, clamp: bool = True
) -> IntervalMap:
    """Curves from the maps that the network predicts.

    Args:
        widths: C, (B, 3, K, gh, gw), 0 or more, summing to 1 over K.
        levels: F, (B, 3 K, gh, gw), channel after channel.
    """
    knots = F.pad(widths.cumsum(2), (0, 0, 0, 0, 1, 0))  # the first knot is 0, the last 1
    return IntervalMap(
        knots.transpose(2, 3).contiguous(),
        levels.unflatten(1, (3, -1)).transpose(2, 3).contiguous(),
        align_corners=align_corners,
        clamp=clamp,
    )
