"""What decoding with HINet costs on this machine's processor.

    python benchmarks/hinet_decode.py --res 2048 --threads 2

A whole picture and one with a disc for a mask are decoded with random weights, for each
configuration, and set beside a copy of the picture in memory, measured in turn with them. The
best of some rounds is printed: CPU-seconds of all threads, wall seconds, and both as multiples
of the copy.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models.hinet import HINet, HINetConfig

CONFIGS = {"compact": HINetConfig.compact, "paper": HINetConfig.paper}


def disc(edge: int, share: float) -> Tensor:
    """A mask (1, 1, edge, edge) of a centred disc that covers `share` of the square."""
    place = (torch.arange(edge) + 0.5) / edge - 0.5
    radius = math.sqrt(share / math.pi)
    inside = place[:, None] ** 2 + place**2 < radius**2
    return inside.float()[None, None]


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """CPU-seconds and wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--res", type=int, default=2048, help="edge of the picture, pixels")
    parser.add_argument("--share", type=float, default=0.1, help="share that the disc covers")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--config", choices=CONFIGS, action="append", help="default: all")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    size = Size(args.res, args.res)
    window = Window.whole(size)
    rgb = torch.rand(1, 3, args.res, args.res)
    masks = {"whole": torch.ones(1, 1, args.res, args.res), "disc": disc(args.res, args.share)}

    works: dict[str, Callable[[], object]] = {"copy": rgb.clone}
    with torch.inference_mode():
        for name in args.config or CONFIGS:
            model = HINet(CONFIGS[name]()).eval()
            edge = model.thumbnail_edge
            thumb = Thumbnail(torch.rand(1, 3, edge, edge), disc(edge, args.share), size)
            works[f"{name}, predict"] = lambda model=model, thumb=thumb: model.predict(thumb)
            transform = model.predict(thumb)
            for kind, mask in masks.items():
                works[f"{name}, {kind}"] = lambda t=transform, mask=mask: t.apply(rgb, mask, window)
        best = {name: (math.inf, math.inf) for name in works}
        for _ in range(args.rounds):
            for name, work in works.items():
                best[name] = tuple(map(min, best[name], cost(work)))

    print(f"{args.res} x {args.res}, {args.threads} threads, disc {args.share:.0%} of the picture")
    print(f"{'':18}{'CPU s':>8}{'wall s':>8}{'CPU/copy':>10}{'wall/copy':>10}")
    for name, (cpu, wall) in best.items():
        ratios = cpu / best["copy"][0], wall / best["copy"][1]
        print(f"{name:18}{cpu:8.3f}{wall:8.3f}{ratios[0]:10.1f}{ratios[1]:10.1f}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process {peak:.0f} MB (on Linux)")


if __name__ == "__main__":
    main()
