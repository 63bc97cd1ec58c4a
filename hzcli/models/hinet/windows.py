"""HINet's published function, window by window: the equations of as_published.py, streamed.

The finest level is decoded where the mask is. What it reads of the level before depends on the
reading of eq. (3), Cat(V, Up(F)):
  - "aligned": the pixel's own 32 features, so that a window and 4 pixels around it suffice.
  - "published": features from all over the picture. `bind` therefore decodes both coarser
    levels of the whole picture first and keeps the half-size features; the vectors of a run of
    pixels then are one contiguous slice of the upsampled planes, made when they are needed.

Pictures whose sides are no multiples of 4 are continued at the bottom and at the right by their
last pixels, as the authors' loader does; sizes of levels are of the continued picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.transform import Reach, Source
from hzcli.core.window import Size, Window
from hzcli.nets.cells import enlarge
from hzcli.nets.hinet_cells import CellMlps, Level, Prior

STRIP = 1 << 19  # pixels of the picture that `bind` reads at once
HALO, NEST = 4, 4  # of the aligned reading; the coarsest level's pixels are 4 x 4


def nested(size: Size) -> Size:
    """The size of the continued picture: multiples of 4."""
    return Size(-(-size.height // NEST) * NEST, -(-size.width // NEST) * NEST)


@dataclass(frozen=True)
class AlignedMlp(CellMlps):
    """Each pixel reads its own features of the level before."""

    @property
    def reach(self) -> Reach:
        # The result; picture, mask and features at 1/2 and 1/4; blocks in hand, as a share.
        return Reach(halo=HALO, align=NEST, bytes_per_pixel=12 + 16 + 5 + 40 + 15)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        """Decode the blocks of `window` that meet the mask; elsewhere return the input."""
        size, out = nested(window.size), []
        for n in range(len(rgb)):
            pictures = levels_of(join(rgb[n : n + 1], mask[n : n + 1], window))
            prior: Prior | None = None
            for index, picture in enumerate(pictures[:2]):
                top, left = window.top >> 2 - index, window.left >> 2 - index
                features = picture.new_empty(32, *picture.shape[1:])
                level = self.level(index, size, n)
                for patch, values in level.decode(picture, (top, left), prior):
                    patch.put(values, features)
                prior = _own_features(features, (2 * top, 2 * left))
            out.append(_finest(self.level(2, size, n), rgb[n], mask[n, 0], window, prior))
        return torch.stack(out)


@dataclass(frozen=True)
class ScrambledMlp(CellMlps):
    """Pixels read features from elsewhere: to be bound to a picture before use.

    features: level 1 of the whole picture, (32, H / 2, W / 2), once bound.
    """

    features: Tensor | None = None

    @property
    def reach(self) -> Reach:
        return Reach(bytes_per_pixel=12 + 16 + 36)

    def bind(self, source: Source) -> ScrambledMlp:
        """Decode the two coarser levels of the whole picture, strip by strip."""
        size = nested(source.size)
        prior: Prior | None = None
        for index in (0, 1):
            level = self.level(index, size)
            features = source.scratch(32, level.size.height, level.size.width)
            for window in _strips(source.size):
                picture = levels_of(join(*source.read(window), window))[index]
                top = window.top >> 2 - index
                for patch, values in level.decode(picture, (top, 0), prior):
                    patch.moved(top).put(values, features)
            prior = _memory_order(features)
        return replace(self, features=features)

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        """Decode the blocks of `window` that meet the mask; elsewhere return the input."""
        assert self.features is not None and len(rgb) == 1, "bound to one picture"
        prior = _memory_order(self.features)
        level = self.level(2, nested(window.size))
        return _finest(level, rgb[0], mask[0, 0], window, prior)[None]


def join(rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
    """Colours in [-1, 1] and mask, (1, 4, h, w), continued where the picture ends."""
    size = nested(window.size)
    picture = torch.cat([rgb * 2 - 1, mask], 1)
    right = size.width - window.size.width if window.right == window.size.width else 0
    below = size.height - window.size.height if window.bottom == window.size.height else 0
    return F.pad(picture, (0, right, 0, below), mode="replicate") if right or below else picture


def levels_of(picture: Tensor) -> list[Tensor]:
    """(4, h, w) at 1/4, 1/2 and 1 of the size, of (1, 4, H, W): quarters are the means of the
    middle 2 x 2 of 4 x 4 pixels."""
    h, w = picture.shape[2:]
    smaller = [
        F.interpolate(picture, (h // n, w // n), mode="bilinear", align_corners=False)[0]
        for n in (4, 2)
    ]
    return [*smaller, picture[0]]


def _finest(level: Level, rgb: Tensor, mask: Tensor, window: Window, prior: Prior | None) -> Tensor:
    """(3, h, w) colours of a window, [0, 1], where there is foreground; else the input."""
    out = rgb.clone()
    picture = torch.cat([rgb * 2 - 1, mask[None]])
    for patch, values in level.decode(picture, (window.top, window.left), prior, mask):
        patch.put((level.colours(values) + 1) / 2, out)
    return out


def _strips(size: Size) -> Iterator[Window]:
    rows = max(STRIP // size.width // 64 * 64, NEST * max(1, STRIP // size.width // NEST))
    rows = min(rows, 1024)
    for top in range(0, size.height, rows):
        yield Window(top, min(top + rows, size.height), 0, size.width, size)


def _own_features(features: Tensor, origin: tuple[int, int]) -> Prior:
    """Up(F) of a window that begins at pixel `origin` of the level."""

    def read(rows: slice, columns: slice) -> Tensor:
        r, c = (
            slice(s.start - o, s.stop - o) for s, o in zip((rows, columns), origin, strict=True)
        )
        return enlarge(features[None], r, c)[0]

    return read


def _memory_order(features: Tensor) -> Prior:
    """Up(F) re-viewed: pixel j reads values 32 j to 32 j + 31 of the planes in memory order.

    A row of W pixels reads 32 W values: 32 rows of planes. Only those are upsampled.
    """
    channels, half, half_width = features.shape
    lines = features.reshape(channels * half, half_width)  # one after the other, all channels
    height, width = 2 * half, 2 * half_width

    def read(rows: slice, columns: slice) -> Tensor:
        first = channels * columns.start // width
        last = -(-channels * columns.stop // width)
        line = torch.arange(rows.start, rows.stop)[:, None] * channels
        line = (line + torch.arange(first, last)).flatten()
        channel, row = line // height, line % height
        # Bilinear, twice the size, pixel centres on centres: 3/4 of a line's own, 1/4 of the
        # one that it leans to, held at the edge of the plane.
        own = row // 2
        other = (own + row % 2 * 2 - 1).clamp(0, half - 1)
        at = channel * half
        values = lines[at + own] * 0.75 + lines[at + other] * 0.25
        mixed = (values * 0.75)[..., None].repeat(1, 1, 2)
        quarter = values * 0.25
        mixed[:, 1:, 0] += quarter[:, :-1]
        mixed[:, 0, 0] += quarter[:, 0]
        mixed[:, :-1, 1] += quarter[:, 1:]
        mixed[:, -1, 1] += quarter[:, -1]
        run = mixed.view(rows.stop - rows.start, (last - first) * width)
        skip = channels * columns.start - first * width
        run = run[:, skip : skip + channels * (columns.stop - columns.start)]
        return run.unflatten(1, (-1, channels)).permute(2, 0, 1)

    return read
