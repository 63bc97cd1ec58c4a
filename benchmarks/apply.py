"""What applying a Transform costs on this machine's processor, beside a copy of the picture.

    python benchmarks/apply.py
    python benchmarks/apply.py --only "curves,33-cube" --shares 5,10,25
    python benchmarks/apply.py --width 2048 --height 2048 --only inr

A picture of 16 bits, 24 megapixels unless said otherwise, in memory; no file is read or written.

  copy         of the picture, to memory that is in use already
  matmul       float32, 2048 x 2048, of which GFLOP/s are printed
  grid_sample  torch's lookup of the 33-cube in bands of 40 rows, codes to codes
  33-cube ..   what `hz apply-lut` does: by the native kernel and through OpenColorIO, where these
               are installed, and through numpy; inside a mask, in its box
  the box ..   finding that, which `hz apply-lut` does band by band behind the decoder
  others       what `hz run` does after the network's answer, band by band, blend and statistics
               included: S2CRNet's curves, tables, PCT-Net's and AICT's maps, HINet's decoder;
               "plain" as it is without native kernels for looks

All take their turns in one process. Printed is the least CPU time of all rounds (that of all
threads together) and the least wall time, each as a multiple of the copy; inside masks, also
against the mask's share of the whole. The INR's floating-point operations are counted as the
decoded pixels' products: what is saved by cleverer algebra does not count, what is lost to weights,
positions and colours does. Last comes what was aimed at, and whether it is met: by CPU time, which
a busy neighbour changes least, and by wall time, in which threads count.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from hzcli.core import native
from hzcli.core.curves import Curves
from hzcli.core.lut import Lut3D
from hzcli.core.mask import bounding_box
from hzcli.core.transform import Thumbnail, Transform
from hzcli.core.window import Size, Window
from hzcli.engine.change import rows_counted
from hzcli.engine.looks.apply_look import prepare, recolour
from hzcli.engine.plan import plan
from hzcli.engine.recolour import Band, Recolour, windows_of
from hzcli.io.cube import Look
from hzcli.models.aict import AICT, AICTConfig
from hzcli.models.hinet import HINet, HINetConfig
from hzcli.models.pctnet import PCTNet, PCTNetConfig

Work = Callable[[], object]

LOOKS = ("curves", "table of 7", "table of 33", "affine maps", "curve maps")


def photograph(height: int, width: int) -> np.ndarray:
    """(h, w, 3) uint16: smooth shapes in many colours, with the grain of a camera."""
    chance = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(max(height, width))
    out = np.empty((height, width, 3), np.uint16)
    for c in range(3):
        waves = sum(
            np.sin(chance.uniform(5, 60) * x + chance.uniform(5, 60) * y + chance.uniform(0, 6))
            for _ in range(4)
        )
        grain = chance.normal(0, 0.006, (height, width)).astype(np.float32)
        out[..., c] = np.clip(0.45 + 0.12 * waves + grain, 0, 1) * 65535
    return out


def look(size: int) -> Look:
    """A warm, contrasty look."""
    axis = np.linspace(0, 1, size)
    r, g, b = np.meshgrid(axis, axis, axis, indexing="ij")
    curve = [1.05 * (v + 0.08 * np.sin(2 * math.pi * (v - 0.5))) for v in (r, g, b)]
    mixed = [curve[0] + 0.03 * (g - b), curve[1], 0.93 * curve[2] + 0.02 * (r - g)]
    return Look("bench", np.clip(np.stack(mixed, -1), 0, 1).astype(np.float32))


def disc(height: int, width: int, share: float, soft: float = 4) -> np.ndarray:
    """(h, w) uint8: a disc that covers a share of the picture, its edge `soft` pixels wide."""
    if share >= 1:
        return np.full((height, width), 255, np.uint8)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = math.sqrt(share * height * width / math.pi)
    distance = np.hypot(y - height / 2, x - width / 2)
    return (255 * np.clip((radius - distance) / soft + 0.5, 0, 1)).astype(np.uint8)


def portrait(height: int, width: int) -> np.ndarray:
    """(h, w) uint8: head and shoulders, their edge a hundredth of the height wide."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    unit = height / 4000
    head = 700 * unit - np.hypot(y - 1300 * unit, 1.2 * (x - width / 2))
    body = 1500 * unit - np.hypot(y - 3900 * unit, 0.9 * (x - width / 2))
    inwards = np.maximum(head, body)
    return (255 * np.clip(inwards / (40 * unit) + 0.5, 0, 1)).astype(np.uint8)


def sampled(table: np.ndarray) -> Callable[[np.ndarray, np.ndarray], None]:
    """The same table through torch's grid_sample."""
    lut = torch.from_numpy(table).permute(3, 0, 1, 2)[None].contiguous()

    def apply(codes: np.ndarray, out: np.ndarray) -> None:
        for top in range(0, len(codes), 40):
            part = torch.from_numpy(codes[top : top + 40].astype(np.float32))
            grid = part.mul_(2 / 65535).sub_(1).flip(-1)[None, None]
            new = F.grid_sample(lut, grid, padding_mode="border", align_corners=True)
            new = new[0, :, 0].mul_(65535).add_(0.5).clamp_(0, 65535)
            out[top : top + 40] = new.permute(1, 2, 0).numpy().astype(np.uint16)

    return apply


def transforms(size: Size) -> dict[str, Transform]:
    """One of each kind, none of them the identity."""
    torch.manual_seed(0)
    axis = torch.linspace(0, 1, 65)
    powers = torch.tensor([[0.8], [0.95], [1.2]])
    found: dict[str, Transform] = {"curves": Curves(axis.pow(powers)[None])}
    for nodes in (7, 33):
        table = torch.from_numpy(look(nodes).table).permute(3, 0, 1, 2)[None]
        found[f"table of {nodes}"] = Lut3D(table.contiguous())
    nets = {
        "affine maps": PCTNet(PCTNetConfig.compact()),
        "curve maps": AICT(AICTConfig.compact()),
        "inr": HINet(HINetConfig.compact()),
    }
    for name, net in nets.items():
        net.eval()
        for parameter in net.parameters():
            if not parameter.any():  # heads that would predict the identity
                torch.nn.init.normal_(parameter, std=0.05)
        edge = net.thumbnail_edge
        thumb = Thumbnail(torch.rand(1, 3, edge, edge), torch.ones(1, 1, edge, edge), size)
        found[name] = net.predict(thumb)
    return found


Box = tuple[int, int, int, int]


def surveyed(mask: np.ndarray) -> tuple[Box, int]:
    """What the first pass says of a mask: its box, how many pixels it holds."""
    box = bounding_box(mask)
    assert box is not None
    return box, int(np.count_nonzero(mask))


def engine(
    transform: Transform,
    codes: np.ndarray,
    mask: np.ndarray,
    out: np.ndarray,
    survey: tuple[Box, int] | None = None,
) -> None:
    """The engine's second pass, between reading and writing."""
    size = Size(*mask.shape)
    box, inside = survey or surveyed(mask)
    chosen = plan(size, box, transform.reach, None)
    scales = [1 / np.iinfo(x.dtype).max for x in (codes, mask)]
    counted = rows_counted(box, inside)
    work = Recolour(transform, 1.0, torch.device("cpu"), scales, counted=counted)
    for window, inside in windows_of(size, box, chosen.band_rows, transform.reach):
        seen = window.grow(transform.reach.halo, transform.reach.align) if inside else window
        at = seen.inside(Window.whole(size))
        band = Band(window, seen, codes[at], mask[at] if inside else None, None)
        rows = out[window.inside(Window.whole(size))]
        work.band(band, rows, chosen.tile_columns)


def plain(*args: Any) -> None:
    """`engine` without native kernels for looks."""
    least, native.LEAST = native.LEAST, 1 << 60
    try:
        engine(*args)
    finally:
        native.LEAST = least


def products(transform: Transform) -> float:
    """Floating-point operations of a LocalMlp's products, a pixel of the full size."""
    total = 0.0
    for level, mlp in enumerate(transform.mlps):  # type: ignore[attr-defined]
        share = (1 / 16, 1 / 4, 1, 1)[level]
        sizes = mlp.sizes
        total += share * sum(2 * a * b for a, b in itertools.pairwise(sizes))
    return total


def in_products(work: Work) -> float:
    """Share of a call's CPU time that torch's batched matrix products take."""
    spent = 0.0

    def timed(product: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def call(*args: object, **named: object) -> torch.Tensor:
            nonlocal spent
            start = time.process_time()
            result = product(*args, **named)
            spent += time.process_time() - start
            return result

        return call

    held = torch.bmm, torch.baddbmm
    torch.bmm, torch.baddbmm = map(timed, held)
    try:
        whole = cost(work)[1]
    finally:
        torch.bmm, torch.baddbmm = held
    return 1e3 * spent / whole


def cost(work: Work) -> tuple[float, float]:
    """Wall and CPU milliseconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def works(
    codes: np.ndarray, masks: dict[str, np.ndarray], pool: ThreadPoolExecutor
) -> Iterator[tuple[str, str, Work]]:
    """(what, in which mask, how)."""
    out, mine = np.empty_like(codes), look(33)
    out[:] = 0
    matrix = torch.rand(2048, 2048)
    product = torch.empty(2048, 2048)
    yield "copy", "", lambda: np.copyto(out, codes)
    yield "matmul", "", lambda: torch.mm(matrix, matrix, out=product)
    assert mine.table is not None
    grid = sampled(mine.table)
    yield "grid_sample", "", lambda: grid(codes, out)
    every = {"": None, **masks}
    for through in ("native", "ocio", "numpy"):
        for interpolation in ("tetrahedral", "trilinear"):
            large = through == "native"
            try:
                ready = prepare(
                    mine, through="numpy" if large else through, interpolation=interpolation
                )
            except ImportError:
                continue
            if large and ready.recolouring.native is None:
                continue
            for kind, mask in every.items():
                # `hz apply-lut` finds the box while it reads.
                args = (out, None, ready, pool)
                if mask is not None:
                    top, bottom, left, right = surveyed(mask)[0]
                    at = slice(top, bottom), slice(left, right)
                    args = (out[at], mask[at], ready, pool)
                yield (
                    f"33-cube {through} {interpolation}",
                    kind,
                    lambda a=args, n=large: recolour(*a, large=n),
                )
    for kind, mask in masks.items():
        yield f"the box of {kind}", "", lambda m=mask: bounding_box(m)
    every[""] = np.full(codes.shape[:2], 255, np.uint8)
    for name, transform in transforms(Size(*codes.shape[:2])).items():
        for kind, mask in every.items():
            args = (transform, codes, mask, out, surveyed(mask))
            yield name, kind, lambda a=args: engine(*a)
            if name in LOOKS and native.kernel("curves"):
                yield f"{name}, plain", kind, lambda a=args: plain(*a)


Times = dict[tuple[str, str], tuple[float, float]]  # wall and CPU ms, by what and in which mask


def table(best: Times, shares: dict[str, float], rate: float, inr: float) -> Iterator[str]:
    """A line for everything measured. shares: of the pixels, by mask. rate: GFLOP/s of matmul.
    inr: GFLOP of the decoder's products."""
    yield f"{'':44}{'CPU ms':>9}{'wall ms':>9}{'CPU x copy':>11}{'wall':>7}"
    for (name, kind), (wall, cpu) in best.items():
        copies = [new / old for new, old in zip((wall, cpu), best["copy", ""], strict=True)]
        line = f"{name:30}{kind:14}{cpu:9.1f}{wall:9.1f}{copies[1]:10.1f}x{copies[0]:6.1f}x"
        if name == "matmul":
            line += f"  {rate:.0f} GFLOP/s of CPU time"
        if kind:
            part, share = cpu / best[name, ""][1], shares[kind]
            line += f"  {part:.1%} of the whole, {share:.1%} of the pixels: {part / share:.2f}x"
        elif name == "inr":
            own = 1e3 * inr / cpu
            line += f"  {own:.0f} GFLOP/s, {own / rate:.0%} of matmul"
        elif ("grid_sample", "") in best:
            line += f"  {best['grid_sample', ''][1] / cpu:.1f}x faster than grid_sample"
        yield line


def aims(best: Times, shares: dict[str, float], rate: float, inr: float) -> Iterator[str]:
    """What was aimed at, where it was measured."""

    def told(what: str, limit: float, by: str, found: Callable[[int], float], most: bool) -> str:
        said = [f"{what} at {'most' if most else 'least'} {limit:g} {by}:"]
        for name, which in (("CPU", 1), ("wall", 0)):
            value = found(which)
            met = value <= limit if most else value >= limit
            said.append(f"{value:.2f} by {name} ({'met' if met else 'NOT met'})")
        return " ".join(said)

    fast = "33-cube native tetrahedral"
    fast = fast if (fast, "") in best else "33-cube ocio tetrahedral"
    most_copies = {fast: 12, "table of 33": 12, "curves": 6, "affine maps": 25, "curve maps": 25}
    for name, most in most_copies.items():
        if (name, "") in best:
            yield told(
                name,
                most,
                "copies",
                lambda i, n=name: best[n, ""][i] / best["copy", ""][i],
                True,
            )
    if {(fast, ""), ("grid_sample", "")} <= best.keys():
        ratio = lambda i: best["grid_sample", ""][i] / best[fast, ""][i]  # noqa: E731
        yield told(fast, 8, "times as fast as grid_sample", ratio, False)
    for name, kind, most in ((fast, "disc 10%", 1.3), ("inr", "disc 25%", 1.2)):
        if (name, kind) in best:
            yield told(
                f"{name}, {kind}",
                most,
                "of its share of the whole",
                lambda i, n=name, k=kind: best[n, k][i] / best[n, ""][i] / shares[k],
                True,
            )
    if ("inr", "") in best:
        yield told("inr", 0.6, "of matmul", lambda i: 1e3 * inr / best["inr", ""][i] / rate, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shares", default="5,10,25", help="of discs, in percent")
    parser.add_argument("--portrait", action="store_true", help="a mask of another shape, too")
    parser.add_argument("--only", default="", help="words, one of which a name must hold")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shape = (args.height, args.width)
    codes = photograph(*shape)
    masks = {f"disc {s}%": disc(*shape, float(s) / 100) for s in args.shares.split(",") if s}
    if args.portrait:
        masks["portrait"] = portrait(*shape)
    words = [word for word in args.only.split(",") if word]
    best: Times = {}
    with ThreadPoolExecutor(args.threads) as pool, torch.inference_mode():
        todo = [
            (name, kind, work)
            for name, kind, work in works(codes, masks, pool)
            if not words or name in ("copy", "matmul") or any(word in name for word in words)
        ]
        for _ in range(args.rounds):
            for name, kind, work in todo:
                old = best.get((name, kind), (math.inf, math.inf))
                best[name, kind] = tuple(map(min, old, cost(work)))
        rate = 2 * 2048**3 / best["matmul", ""][1] / 1e6
        inr = products(transforms(Size(*shape))["inr"]) * codes[..., 0].size / 1e9
        decode = [work for name, kind, work in todo if (name, kind) == ("inr", "")]
        share = in_products(decode[0]) if decode else 0.0
    shares = {kind: np.count_nonzero(mask) / mask.size for kind, mask in masks.items()}
    print(f"{args.width} x {args.height}, {args.threads} threads, {args.rounds} rounds")
    print("\n".join(table(best, shares, rate, inr)))
    if decode:
        print(f"inr spends {share:.0%} of its CPU time in matrix products")
    print("\n".join(aims(best, shares, rate, inr)))


if __name__ == "__main__":
    main()
