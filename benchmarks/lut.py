"""What applying a look costs on this machine's processor, beside a copy of the picture.

    python benchmarks/lut.py --threads 2

A 33-cube on 24 megapixels of 16 bits, in memory, no file read or written: through OpenColorIO
where it is installed, through numpy, and through torch's grid_sample in bands of 40 rows, which
must turn codes to numbers and back. All in turn, in one process, several rounds; the best wall
and processor times of each are printed, as milliseconds and as multiples of the copy. Then the
same inside masks that cover a part of the picture, against that part's share.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hzcli.engine.looks.apply_look import prepare, recolour
from hzcli.io.cube import Look


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


def disc(height: int, width: int, share: float, soft: float) -> np.ndarray:
    """(h, w) uint8: a disc that covers a share of the picture, its edge `soft` pixels wide."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    radius = math.sqrt(share * height * width / math.pi)
    distance = np.hypot(y - height / 2, x - width / 2)
    return (255 * np.clip((radius - distance) / soft + 0.5, 0, 1)).astype(np.uint8)


def shapes(height: int, width: int) -> dict[str, np.ndarray]:
    """Masks as they come: discs, many small things, a stripe, and a portrait's soft edge."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    unit = height / 4000
    chance, depth = np.random.default_rng(3), np.full((height, width), -9.0, np.float32)
    for _ in range(200):
        top, left = chance.uniform(0, height), chance.uniform(0, width)
        radius = chance.uniform(30, 90) * unit
        rows = slice(max(0, int(top - radius - 5)), int(top + radius + 6))
        columns = slice(max(0, int(left - radius - 5)), int(left + radius + 6))
        away = np.hypot(y[rows, columns] - top, x[rows, columns] - left)
        depth[rows, columns] = np.maximum(depth[rows, columns], radius - away)
    middle = width / 2
    head = 700 * unit - np.hypot(y - 1300 * unit, 1.2 * (x - middle))
    body = 1500 * unit - np.hypot(y - 3900 * unit, 0.9 * (x - middle))
    found = {
        "blobs": (depth, 4),
        "stripe": ((300 * unit - np.abs(y * width / height - x)) / 1.8, 4),
        "portrait": (np.maximum(head, body), 40 * unit),
    }
    masks = {f"disc {share:.0%}": disc(height, width, share, 4) for share in (0.1, 0.5)}
    for name, (inwards, soft) in found.items():
        masks[name] = (255 * np.clip(inwards / soft + 0.5, 0, 1)).astype(np.uint8)
    return masks


def sampled(table: np.ndarray, threads: int) -> Callable[[np.ndarray, np.ndarray], None]:
    """The same table through torch's grid_sample."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    lut = torch.from_numpy(table).permute(3, 0, 1, 2)[None].contiguous()

    def apply(codes: np.ndarray, out: np.ndarray) -> None:
        with torch.inference_mode():
            for top in range(0, len(codes), 40):
                part = torch.from_numpy(codes[top : top + 40].astype(np.float32))
                grid = part.mul_(2 / 65535).sub_(1).flip(-1)[None, None]
                new = F.grid_sample(lut, grid, padding_mode="border", align_corners=True)
                new = new[0, :, 0].mul_(65535).add_(0.5).clamp_(0, 65535)
                out[top : top + 40] = new.permute(1, 2, 0).numpy().astype(np.uint16)

    return apply


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU milliseconds of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=33, help="nodes a side of the table")
    parser.add_argument("--width", type=int, default=6000)
    parser.add_argument("--height", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    shape = (args.height, args.width)
    source, mine = photograph(*shape), look(args.size)
    out, reference = np.empty_like(source), np.empty_like(source)
    assert mine.table is not None
    grid = sampled(mine.table, args.threads)
    masks = shapes(*shape)
    ways = {}
    for through in ("ocio", "numpy"):
        for interpolation in ("tetrahedral", "trilinear"):
            try:
                ways[f"{through}, {interpolation}"] = prepare(
                    mine, through=through, interpolation=interpolation
                )
            except ImportError:
                print(f"{through} is not installed")
                break
    best: dict[str, tuple[float, float]] = {}

    def take(name: str, figures: tuple[float, float]) -> None:
        best[name] = tuple(map(min, best.get(name, (math.inf,) * 2), figures))

    with ThreadPoolExecutor(args.threads) as pool:
        for _ in range(args.rounds):
            take("copy of the picture", cost(lambda: np.copyto(out, source)))
            for name, prepared in ways.items():
                for kind, mask in {None: None, **masks}.items():
                    np.copyto(out, source)
                    figures = cost(lambda p=prepared, m=mask: recolour(out, m, p, pool))
                    take(name if mask is None else f"{name} in {kind}", figures)
                    if mask is None and name == "ocio, trilinear":
                        np.copyto(reference, out)
            take("torch grid_sample", cost(lambda: grid(source, out)))
    if "ocio, trilinear" in ways:
        apart = np.abs(out.astype(np.int32) - reference).max()
        print(f"grid_sample and OpenColorIO, trilinear, differ by {apart} codes of 65535 at most")
    copy, theirs = best["copy of the picture"], best["torch grid_sample"]
    print(f"{args.width} x {args.height}, {args.size} nodes a side, {args.threads} threads")
    print(f"{'':32}{'wall ms':>9}{'CPU ms':>9}{'x copy':>8}{'x grid_sample':>15}")
    for name, (wall, cpu) in best.items():
        if " in " not in name:
            print(
                f"{name:32}{wall:9.1f}{cpu:9.1f}{wall / copy[0]:7.1f}x{theirs[0] / wall:10.1f}x"
                f" wall{theirs[1] / cpu:6.1f}x CPU"
            )
    print("inside a mask, against its share of the whole")
    for name in ways:
        for kind, mask in masks.items():
            share = float(np.count_nonzero(mask)) / mask.size
            (wall, cpu), (all_wall, all_cpu) = best[f"{name} in {kind}"], best[name]
            print(
                f"{name:24}{kind:10}{share:6.1%}: {wall:6.1f} ms, {wall / all_wall / share:.2f}x"
                f" wall, {cpu / all_cpu / share:.2f}x CPU"
            )


if __name__ == "__main__":
    main()
