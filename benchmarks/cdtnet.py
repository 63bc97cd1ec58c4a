"""What CDTNet costs on this machine's processor, beside the same network run as published.

    python benchmarks/cdtnet.py --res 2048 --threads 1

The published way: the picture is normalised and resized, encoder and decoder run, the four
tables are looked up one after the other for every pixel, and what they give is weighed and
summed; the full variant then refines the whole picture. Ours: thumbnail at hand, encoder (full:
decoder, too), one lookup in the combined table, and for the full variant the refinement, where
the mask is. Both in turn, in one process, random weights; the best of some rounds is printed.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.models import cdtnet
from hzcli.models.cdtnet import PublishedCDTNet
from hzcli.models.cdtnet.as_published import normalise
from hzcli.models.cdtnet.mapping import SPAN


def gathered(table: Tensor, rgb: Tensor) -> Tensor:
    """Trilinear lookup by eight gathers, as the compiled operator sums: table (3, n, n, n),
    [channel][b][g][r]; rgb (1, 3, H, W)."""
    n = table.shape[-1]
    size = SPAN / (n - 1)
    low = [(rgb[0, c] / size).floor().long() for c in range(3)]
    t = [torch.fmod(rgb[0, c], size) / size for c in range(3)]
    flat, out = table.flatten(1), torch.zeros_like(rgb[0])
    for corner in range(8):
        step = [corner >> c & 1 for c in range(3)]
        weight = math.prod(t[c] if step[c] else 1 - t[c] for c in range(3))
        r, g, b = (low[c] + step[c] for c in range(3))
        place = (r + n * (g + n * b)).flatten()
        out += weight * flat.index_select(1, place).view_as(out)
    return out[None]


def published_way(net: PublishedCDTNet, image: Tensor, mask: Tensor, lr: int) -> Tensor:
    """The authors' forward pass, step by step: (1, 3, H, W)."""
    x = torch.cat([normalise(image), mask], 1)
    x = F.interpolate(x, (lr, lr), mode="bilinear", align_corners=False)
    maps = net.encoder(x)
    small = F.interpolate(mask, maps[0].shape[2:], mode="bilinear", align_corners=False)
    w = net.lut.classifier(maps[0], small, "whole")[0]
    tables = [net.get_parameter(f"lut.LUT{n}.LUT") for n in range(len(w))]
    outputs = [gathered(table, image) for table in tables]
    mapped = sum(weight * output for weight, output in zip(w, outputs, strict=True))
    low = net._refined(x, maps, tables[0][None])  # runs the decoder, whoever needs it
    if not net.config.refinement:
        return mapped * mask + image * (1 - mask)
    return low.join(image, mask, mapped, Window.whole(Size(*image.shape[2:])))


def box(edge: int, share: float) -> Window:
    """A centred square that covers `share` of a square picture."""
    side = round(edge * math.sqrt(share))
    start = (edge - side) // 2
    return Window(start, start + side, start, start + side, Size(edge, edge))


def ours(
    net: PublishedCDTNet, thumb: Thumbnail, image: Tensor, mask: Tensor, window: Window
) -> Tensor:
    """The window, harmonised and laid over the composite."""
    transform = net.predict(thumb)
    wide = window.grow(transform.reach.halo)
    part = (..., slice(wide.top, wide.bottom), slice(wide.left, wide.right))
    inner = (..., *window.inside(wide))
    result = transform.apply(image[part], mask[part], wide)[inner]
    return torch.lerp(image[part][inner], result, mask[part][inner])


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """CPU-seconds and wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--res", type=int, default=2048, help="edge of the picture, pixels")
    parser.add_argument("--lr", type=int, default=256, help="edge of the thumbnail, pixels")
    parser.add_argument("--share", type=float, default=0.25, help="share that the mask covers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="the refined variant, too (5 GB)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    whole, inside = box(args.res, 1), box(args.res, args.share)
    image, mask = torch.rand(1, 3, args.res, args.res), torch.zeros(1, 1, args.res, args.res)
    mask[..., inside.top : inside.bottom, inside.left : inside.right] = 1
    small = [
        F.interpolate(t, (args.lr, args.lr), mode="bilinear", align_corners=False)
        for t in (image, mask)
    ]
    edge = args.lr // 8
    coarse = F.interpolate(mask, (edge, edge), mode="bilinear", align_corners=False)
    thumb = Thumbnail(*small, whole.size, masks={edge: coarse})
    part = (..., slice(inside.top, inside.bottom), slice(inside.left, inside.right))

    print(f"{args.res} x {args.res}, thumbnail {args.lr}, {args.threads} threads, mask box "
          f"{args.share:.0%}")  # fmt: skip
    print(f"{'':32}{'CPU s':>8}{'wall s':>8}{'cheaper':>9}")
    for variant in ("cdtnet-sim", "cdtnet") if args.full else ("cdtnet-sim",):
        net = cdtnet.published(variant).requires_grad_(False)
        for name in range(4):  # not the identity: nothing may be skipped
            net.get_parameter(f"lut.LUT{name}.LUT").add_(0.02 * torch.randn(3, 33, 33, 33))
        works: dict[str, Callable[[], Tensor]] = {
            "as published": lambda net=net: published_way(net, image, mask, args.lr),
            "ours, mask's box": lambda net=net: ours(net, thumb, image, mask, inside),
            "ours, whole picture": lambda net=net: ours(net, thumb, image, mask, whole),
        }
        best = {name: (math.inf, math.inf) for name in works}
        with torch.inference_mode():
            for _ in range(args.rounds):
                for name, work in works.items():
                    best[name] = tuple(map(min, best[name], cost(work)))
            expected, got = works["as published"](), works["ours, whole picture"]()
            error = (got - expected).abs()[part].max().item()
        for name, (cpu, wall) in best.items():
            ratio = best["as published"][0] / cpu
            print(f"{variant + ', ' + name:32}{cpu:8.3f}{wall:8.3f}{ratio:8.1f}x")
        print(f"{variant}, largest difference inside the mask {error:.1e}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of the process {peak:.0f} MB (on Linux)")


if __name__ == "__main__":
    main()
