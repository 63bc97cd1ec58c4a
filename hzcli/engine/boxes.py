"""Pictures in codes reduced by area: boxes of pixels, added up as whole numbers.

A thumbnail's pixel is a box of the picture's: most of them lie in one box and count alike, those
on a border lie in two. So a line falls into runs, whose sums are shared out afterwards. They are
whole, fast and exact; what is left to multiply is as small as the thumbnail.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np


@dataclass(frozen=True)
class Runs:
    """Some of a line's pixels, in runs of those that count alike.

    starts: of the runs, counted from the first pixel. longest: pixels in a run.
    first, targets: the first box that they add to, and how many.
    share: of each run's sum, what the box gets in which it begins. heads: the first run of each
    of those. split: the runs, of one pixel, that reach into the box after that, which is `next`,
    and gets `rest` of them.
    """

    starts: np.ndarray
    longest: int
    first: int
    targets: int
    share: np.ndarray
    heads: np.ndarray
    split: np.ndarray
    next: np.ndarray
    rest: np.ndarray

    def spread(self, sums: np.ndarray) -> np.ndarray:
        """What sums of the runs (runs, n) add to the boxes: (targets, n) float64."""
        out = np.zeros((self.targets, sums.shape[1]))
        np.add.reduceat(sums * self.share[:, None], self.heads, axis=0, out=out[: len(self.heads)])
        out[self.next] += sums[self.split] * self.rest[:, None]
        return out


@lru_cache(maxsize=128)
def runs(source: int, target: int, start: int, stop: int) -> Runs:
    """The pixels [start, stop) of `source`, to be reduced to `target` boxes, of which there are
    no more than pixels. Together all pixels of a box count 1."""
    assert target <= source and start < stop
    # In units of which a pixel has `target` and a box `source`: every border is a whole number.
    begin = np.arange(start, stop) * target
    box, last = begin // source, (begin + target - 1) // source
    whole = box == last
    new = (box[1:] != box[:-1]) | ~whole[1:] | ~whole[:-1]
    starts = np.concatenate([[0], np.flatnonzero(new) + 1])
    to, split = box[starts], np.flatnonzero(~whole[starts])
    share = np.full(len(starts), target)
    share[split] = (to[split] + 1) * source - begin[starts[split]]
    return Runs(
        starts=starts,
        longest=int(np.diff(np.append(starts, stop - start)).max()),
        first=int(to[0]),
        targets=int(last[-1] - to[0]) + 1,
        share=share / source,
        heads=np.flatnonzero(np.diff(to, prepend=-1)),
        split=split,
        next=to[split] + 1 - to[0],
        rest=(target - share[split]) / source,
    )


def box_sums(codes: np.ndarray, down: Runs, across: Runs) -> np.ndarray:
    """What codes (h, w, c), unsigned, add to their boxes: (down.targets, c, across.targets)."""
    most = int(np.iinfo(codes.dtype).max) * down.longest
    lines = codes
    if len(down.starts) < len(codes):
        # The narrowest that holds the largest sum: what numpy converts to is most of its work.
        lines = np.empty((len(down.starts), *codes.shape[1:]), np.min_scalar_type(most))
        stops = np.append(down.starts[1:], len(codes))
        for line, start, stop in zip(lines, down.starts, stops, strict=True):
            np.add.reduce(codes[start:stop], axis=0, dtype=lines.dtype, out=line)
    wide = np.uint32 if most * across.longest < 1 << 32 else np.uint64
    sums = np.add.reduceat(lines, across.starts, axis=1, dtype=wide)
    rows, columns, channels = sums.shape
    found = down.spread(sums.reshape(rows, -1)).reshape(-1, columns, channels)
    found = across.spread(found.transpose(1, 0, 2).reshape(columns, -1))
    return found.reshape(across.targets, down.targets, channels).transpose(1, 2, 0)
