"""What HDNet at full size costs: the `native` route beside the published formulation.

    python benchmarks/hdnet.py --res 1024 --authors ~/HDNet

Three ways to harmonise one square picture whose mask is a centred rectangle: `native`, the route
that streams rows; `published`, the plain forward pass with the local dynamics over all pairs of
places; and, with `--authors`, the authors' code in a checkout of github.com/chenhaoxing/HDNet.
Each runs in a process of its own, in turn, with the same random weights. Printed are the best
CPU-seconds of some rounds, the peak memory above what imports and weights took, and the largest
difference from `native` where the mask is, in [-1, 1].
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

import torch
from torch import Tensor

from hzcli.core.window import Size, Window
from hzcli.models import hdnet
from hzcli.models.hdnet.dynamics import LocalDynamics


class DenseDynamics(LocalDynamics):
    """Local dynamics over all pairs of places, foreground or not."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        flat, m = x.flatten(2), mask.flatten(2)
        query, support = flat * m, flat * (1 - m)
        best = (query.mT @ support).topk(1, dim=2)  # (B, N, 1)
        index = best.indices.mT.expand_as(flat)
        reference = support.gather(2, index) * best.values.mT.softmax(2)
        fused = self.linear(torch.cat([reference, query], 1))
        return (fused * m + flat * (1 - m)).unflatten(2, x.shape[2:])


class Picture:
    """A picture and its mask in memory, as a `Source`."""

    def __init__(self, edge: int, share: float) -> None:
        draw = torch.Generator().manual_seed(1)
        coarse = torch.rand(1, 3, 24, 24, generator=draw)
        self.rgb = torch.nn.functional.interpolate(coarse, (edge, edge), mode="bicubic").clamp(0, 1)
        side = round(edge * share**0.5)
        low = (edge - side) // 2
        self.mask = torch.zeros(1, 1, edge, edge)
        self.mask[:, :, low : low + side, low : low + side] = 1
        self.size = Size(edge, edge)
        self.box = Window(low, low + side, low, low + side, self.size)

    def read(self, window: Window) -> tuple[Tensor, Tensor]:
        part = (..., slice(window.top, window.bottom), slice(window.left, window.right))
        return self.rgb[part], self.mask[part]

    def scratch(self, *shape: int) -> Tensor:
        return torch.empty(shape)


def weights(net: hdnet.PublishedHDNet) -> None:
    """Random values that keep the features at a usual size."""
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            row = parameter[0].numel() if parameter.ndim > 1 else 100
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * row**-0.5)


def authors_network(folder: Path, net: hdnet.PublishedHDNet) -> torch.nn.Module:
    """The public network with the weights of ours."""
    sys.path.insert(0, str(folder))
    sys.modules.setdefault("imp", types.ModuleType("imp"))  # imported there, gone since 3.12
    from models import networks  # type: ignore[import-not-found]

    public = networks.HDNet(net.config.inputs, 3, net.config.width)
    public.load_state_dict(net.state_dict(), strict=True)
    return public.eval()


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kB


def measure(args: argparse.Namespace) -> dict[str, float]:
    """One way, in this process. The output is kept in a file where there is one to compare."""
    torch.set_num_threads(args.threads)
    net = hdnet.published(args.variant).requires_grad_(False)
    weights(net)
    public = authors_network(args.authors, net) if args.way == "authors" else None
    if args.way == "published":
        dense = DenseDynamics(8 * net.config.width, "coded", 1)
        dense.load_state_dict(net.LD.state_dict())
        net.LD = dense

    def run(picture: Picture) -> Tensor:
        if args.way == "native":
            bound = hdnet.Native(net).bind(picture)
            return bound.apply(picture.rgb, picture.mask, Window.whole(picture.size)) * 2 - 1
        image = picture.rgb * 2 - 1
        if public is not None:
            return public(image, picture.mask)
        return net(image, picture.mask)["output"]

    with torch.inference_mode():
        run(Picture(64, args.share))  # the first call of an operation sets it up
        picture, before = Picture(args.res, args.share), peak_bytes()
        start = time.process_time()
        out = run(picture)
        cpu, peak = time.process_time() - start, peak_bytes() - before
        box = picture.box
        inside = out[..., box.top : box.bottom, box.left : box.right]
        kept = Path(args.kept)
        difference = 0.0
        if kept.is_file():
            difference = float((inside - torch.load(kept, weights_only=True)).abs().max())
        else:
            torch.save(inside.clone(), kept)
    return {"cpu_s": cpu, "peak_mb": peak / 2**20, "difference": difference}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--res", type=int, default=1024, help="edge of the picture, multiple of 8")
    parser.add_argument("--share", type=float, default=0.25, help="share that the mask covers")
    parser.add_argument("--variant", default="hdnet", choices=("hdnet", "hdnet-lite"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--authors", type=Path, help="folder of the authors' code")
    parser.add_argument("--only", help="one of the ways alone, where the others do not fit")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--kept", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        json.dump(measure(args), sys.stdout)
        return

    ways = ["native", "published", *(["authors"] if args.authors else [])]
    ways = [args.only] if args.only else ways
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for way in ways:
                arguments = [*sys.argv[1:], "--way", way, "--kept", f"{folder}/native.pt"]
                child = subprocess.run(
                    [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, check=False
                )
                if child.returncode:
                    print(f"{way}: ended with {child.returncode}, out of memory if -9")
                    continue
                found = json.loads(child.stdout)
                old = best.get(way, found)
                best[way] = {
                    "cpu_s": min(old["cpu_s"], found["cpu_s"]),
                    "peak_mb": max(old["peak_mb"], found["peak_mb"]),
                    "difference": max(old["difference"], found["difference"]),
                }
    print(f"{args.variant}, {args.res} x {args.res}, mask {args.share:.0%}, {args.threads} threads")
    print(f"{'':12}{'CPU s':>8}{'peak MB':>9}{'CPU x':>8}{'memory x':>10}{'difference':>12}")
    first = best.get("native")
    for way, row in best.items():
        ratios = [row[k] / first[k] if first else 1.0 for k in ("cpu_s", "peak_mb")]
        print(
            f"{way:12}{row['cpu_s']:8.2f}{row['peak_mb']:9.0f}{ratios[0]:8.2f}{ratios[1]:10.2f}"
            f"{row['difference']:12.1e}"
        )


if __name__ == "__main__":
    main()
