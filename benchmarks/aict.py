"""What AICT's colour transformation costs at full resolution, beside the published way.

    python benchmarks/aict.py --res 2048 --share 0.25 --threads 1

Published: every pixel of the picture, for each channel a grid of (column, row, value) for the
volume C and one for F, looked up by a five-dimensional grid_sample, then clamped and blended.
Ours: the mask's bounding box alone, row by row of the volumes. Both work on the same random maps
of 256 x 256 cells, in turn; the best of some rounds is printed, with the largest difference.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.window import Size, Window
from hzcli.models.aict import interval_map

CELLS, INTERVALS = 256, 8


def smooth(channels: int, generator: torch.Generator) -> Tensor:
    """(1, channels, 256, 256), smooth random maps."""
    coarse = torch.randn(1, channels, 9, 9, generator=generator)
    return F.interpolate(coarse, (CELLS, CELLS), mode="bicubic", align_corners=True)


def published_way(widths: Tensor, levels: Tensor, rgb: Tensor, mask: Tensor) -> Tensor:
    """The whole picture, three grids for C and three for F, stacked anew for each."""
    height, width = rgb.shape[2:]
    value = rgb * 2 - 1
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
    )
    x, y = x[None], y[None]
    knots = widths.cumsum(2)
    knots = torch.cat([torch.zeros_like(knots[:, :, :1]), knots], 2) * 2 - 1

    def look_up(volume: Tensor, third: Tensor) -> Tensor:
        grid = torch.stack([x, y, third], -1)[:, None]
        out = F.grid_sample(volume[:, None], grid, padding_mode="border", align_corners=True)
        return out[:, 0, 0]

    channels = levels.unflatten(1, (3, INTERVALS))
    moved = [look_up(knots[:, c], value[:, c]) for c in range(3)]
    result = torch.stack([look_up(channels[:, c], moved[c]) for c in range(3)], 1)
    return result.clamp(0, 1) * mask + rgb * (1 - mask)


def our_way(widths: Tensor, levels: Tensor, rgb: Tensor, mask: Tensor, box: Window) -> Tensor:
    """The mask's box, blended into a copy of the picture."""
    transform = interval_map(widths, levels)
    here = (..., *box.inside(Window.whole(box.size)))
    source, soft = rgb[here], mask[here]
    out = rgb.clone()
    out[here] = torch.lerp(source, transform.apply(source, soft, box), soft)
    return out


def cost(work: Callable[[], Tensor]) -> tuple[float, float]:
    """CPU-seconds and wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--res", type=int, default=2048, help="edge of the picture, pixels")
    parser.add_argument("--share", type=float, default=0.25, help="share that the mask covers")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    generator = torch.Generator().manual_seed(0)
    edge = round(args.res * math.sqrt(args.share))
    first = (args.res - edge) // 2
    box = Window(first, first + edge, first, first + edge, Size(args.res, args.res))
    rgb = torch.rand(1, 3, args.res, args.res, generator=generator)
    mask = torch.zeros(1, 1, args.res, args.res)
    mask[..., first : first + edge, first : first + edge] = 1
    widths = smooth(3 * INTERVALS, generator).unflatten(1, (3, INTERVALS)).softmax(2)
    even = torch.linspace(0, 1, INTERVALS).repeat(3)[:, None, None]
    levels = even + 0.1 * smooth(3 * INTERVALS, generator)

    works = {
        "published way": lambda: published_way(widths, levels, rgb, mask),
        "our way": lambda: our_way(widths, levels, rgb, mask, box),
    }
    with torch.inference_mode():
        difference = (works["published way"]() - works["our way"]()).abs().max().item()
        best = {name: (math.inf, math.inf) for name in works}
        for _ in range(args.rounds):
            for name, work in works.items():
                cpu, wall = cost(work)
                best[name] = (min(best[name][0], cpu), min(best[name][1], wall))

    print(f"{args.res} x {args.res}, {args.threads} threads, box of {args.share:.0%}")
    print(f"{'':14}{'CPU s':>8}{'wall s':>8}")
    for name, (cpu, wall) in best.items():
        print(f"{name:14}{cpu:8.3f}{wall:8.3f}")
    theirs, ours = (best[name][0] for name in works)
    print(f"{theirs / ours:.1f} times cheaper in CPU-seconds; largest difference {difference:.1e}")


if __name__ == "__main__":
    main()
