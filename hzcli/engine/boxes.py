"""Pictures in codes reduced by area: boxes of pixels, added up as whole numbers.

A thumbnail's pixel is a box of the picture's: most of them lie in one box and count alike, those
on a border lie in two. So a line falls into runs, whose sums are shared out afterwards. They are
whole, fast and exact; what is left to multiply is as small as the thumbnail.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hzcli.core.run_sums import run_sums


@dataclass(frozen=True)
class Runs:
    """Some of a line's pixels, in runs of those that count alike.

    starts: of the runs, counted from the first pixel.
    first, targets: the first box that they add to, and how many.
    share: of each run's sum, what the box gets in which it begins. heads: the first run of each
    of those; second: the runs that are a box's second, which is `after`. split: the runs, of one
    pixel, that reach into the box after that, which is `next`, and gets `rest` of them.
    """

    starts: np.ndarray
    first: int
    targets: int
    share: np.ndarray
    heads: np.ndarray
    second: np.ndarray
    after: np.ndarray
    split: np.ndarray
    next: np.ndarray
    rest: np.ndarray

    def spread(self, sums: np.ndarray) -> np.ndarray:
        """What sums of the runs (runs, n) add to the boxes: (targets, n) float64."""
        out = np.zeros((self.targets, sums.shape[1]))
        shares = sums * self.share[:, None]
        out[: len(self.heads)] = shares[self.heads]
        out[self.after] += shares[self.second]
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
    # A box has a run of pixels that it holds whole, or one that it shares, or both.
    first = np.diff(to, prepend=-1) > 0
    return Runs(
        starts=starts,
        first=int(to[0]),
        targets=int(last[-1] - to[0]) + 1,
        share=share / source,
        heads=np.flatnonzero(first),
        second=np.flatnonzero(~first),
        after=to[~first] - to[0],
        split=split,
        next=to[split] + 1 - to[0],
        rest=(target - share[split]) / source,
    )


def box_sums(codes: np.ndarray, down: Runs, across: Runs) -> np.ndarray:
    """What codes (h, w, c), unsigned, add to their boxes: (down.targets, c, across.targets)."""
    rows, columns = np.append(down.starts, len(codes)), np.append(across.starts, codes.shape[1])
    sums = run_sums(codes, rows, columns)
    count, channels = sums.shape[1:]
    found = down.spread(sums.reshape(len(sums), -1)).reshape(-1, count, channels)
    found = across.spread(found.transpose(1, 0, 2).reshape(count, -1))
    return found.reshape(across.targets, down.targets, channels).transpose(1, 2, 0)
