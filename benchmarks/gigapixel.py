"""What a gigapixel TIFF costs, beside a raw copy of its file and its share of codec work.

    python benchmarks/gigapixel.py /tmp/big                          # 40000 x 25000, about 10 GB
    python benchmarks/gigapixel.py /tmp/big --size 8000x5000 --compression zstd
    python benchmarks/gigapixel.py /tmp/big --series 1,4,16,64,256   # megapixels, one after another

A 16-bit picture in tiles and an 8-bit mask are made by rule, in little memory. Then, in turns, each
in a process of its own: a copy of the file, forced to the disk; the codec work that cannot be
avoided (every tile decoded once, those under the mask once more and encoded, the mask decoded
once); `hz run`; and the same with `--mode lut`, where the model costs next to nothing. Peak memory
is above what the imports took. The files are removed at the end. Where other programs want the
processor too, look at processor seconds, not at the clock.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile

MASK_ROWS = 64
THREADS = min(4, os.cpu_count() or 1)
CODES = {"none": None, "deflate": "adobe_deflate", "zstd": "zstd", "lzw": "lzw"}
GRAIN = 200  # codes of 65535: a camera's at base sensitivity
KINDS = 48  # of tiles; more than that cost time to make, and nothing to read

HZ = """
import json, sys
from pathlib import Path
import imagecodecs, numpy, tifffile, torch
import hzcli.cli, hzcli.models
import hzcli.commands.run, hzcli.engine.batch, hzcli.engine.delivery, hzcli.engine.several
import hzcli.io.picture, hzcli.io.masks, hzcli.io.writers.verbatim, hzcli.io.metadata.ladder
import hzcli.engine.colour, hzcli.io.profiles
import torch._dynamo  # which torch imports when a network is loaded

def memory(what):
    line = next(t for t in Path("/proc/self/status").read_text().splitlines() if what in t)
    return int(line.split()[1]) // 1024

before = memory("VmRSS")
try:
    hzcli.cli.app(sys.argv[1:], standalone_mode=False)
finally:
    print(json.dumps({"imports": before, "peak": memory("VmHWM")}), file=sys.stderr)
"""


def tiles(edge: int) -> Iterator[np.ndarray]:
    """KINDS different tiles (edge, edge, 3) uint16: slow waves of colour, and a camera's grain."""
    chance = np.random.default_rng(0)
    phase = np.array([0.0, 2.1, 4.2], np.float32)
    for _ in range(KINDS):
        top, left = chance.integers(0, 20 * edge, 2)
        y = np.arange(top, top + edge, dtype=np.float32)[:, None, None] / 700
        x = np.arange(left, left + edge, dtype=np.float32)[None, :, None] / 900
        shade = 30000 + 12000 * np.sin(y + phase) + 12000 * np.cos(x + phase)
        grain = chance.standard_normal((edge, edge, 3), np.float32) * GRAIN
        yield (shade + grain).astype(np.uint16)


def encode(pixels: np.ndarray, compression: str) -> bytes:
    if compression == "none":
        return pixels.tobytes()
    data = imagecodecs.delta_encode(pixels, axis=-2).tobytes()
    if compression == "zstd":
        return bytes(imagecodecs.zstd_encode(data, level=1))
    if compression == "lzw":
        return bytes(imagecodecs.lzw_encode(data))
    return bytes(imagecodecs.deflate_encode(data, level=1))


def decode(data: bytes, compression: str, shape: tuple[int, ...]) -> np.ndarray:
    if compression == "none":
        return np.frombuffer(data, np.uint16).reshape(shape)
    undo = {"zstd": imagecodecs.zstd_decode, "lzw": imagecodecs.lzw_decode}
    raw = undo.get(compression, imagecodecs.deflate_decode)(data, out=math.prod(shape) * 2)
    pixels = np.frombuffer(raw, np.uint16).reshape(shape).copy()
    imagecodecs.delta_decode(pixels, axis=-2, out=pixels)
    return pixels


def in_order(work, items, threads: int = THREADS) -> Iterator:
    """Results of `work` by a few threads, a few ahead."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: list = []
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def write_picture(path: Path, height: int, width: int, edge: int, compression: str) -> None:
    """KINDS tiles, encoded once each, in an order by chance."""
    plain = compression == "none"
    kinds = [encode(tile, compression) for tile in tiles(edge)]
    count = -(-height // edge) * -(-width // edge)
    order = np.random.default_rng(1).integers(0, KINDS, count)
    with tifffile.TiffWriter(path, bigtiff=height * width * 6 > 3_900_000_000) as file:
        file.write(
            (kinds[kind] for kind in order),
            shape=(height, width, 3), dtype=np.uint16, tile=(edge, edge), photometric="rgb",
            compression=CODES[compression], predictor=None if plain else 2, metadata=None,
        )  # fmt: skip


def mask_rows(height: int, width: int, share: float) -> Iterator[np.ndarray]:
    """MASK_ROWS rows at a time: three discs with soft edges, together `share` of the picture."""
    radius = math.sqrt(share * height * width / 3 / math.pi)
    places = [(0.3, 0.2), (0.5, 0.6), (0.7, 0.85)]
    soft = max(2.0, radius / 40)
    x = np.arange(width, dtype=np.float32)
    for top in range(0, height, MASK_ROWS):
        y = np.arange(top, min(top + MASK_ROWS, height), dtype=np.float32)[:, None]
        codes = np.zeros((len(y), width), np.uint8)
        for down, across in places:
            if abs(down * height - y).min() < radius + soft:
                far = np.hypot(y - down * height, x - across * width)
                disc = np.clip((radius - far) / soft + 0.5, 0, 1)
                np.maximum(codes, np.round(255 * disc).astype(np.uint8), out=codes)
        yield codes


def write_mask(path: Path, height: int, width: int, share: float) -> None:
    """As strips of a TIFF, or as a PNG, by the name."""
    rows = mask_rows(height, width, share)
    if path.suffix == ".png":
        write_png(path, height, width, rows)
        return
    with tifffile.TiffWriter(path) as file:
        file.write(
            (bytes(imagecodecs.deflate_encode(codes.tobytes(), level=1)) for codes in rows),
            shape=(height, width), dtype=np.uint8, rowsperstrip=MASK_ROWS,
            photometric="minisblack", compression="adobe_deflate", metadata=None,
        )  # fmt: skip


def write_png(path: Path, height: int, width: int, rows: Iterator[np.ndarray]) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        return struct.pack(">I", len(data)) + kind + data + end

    stream = zlib.compressobj(6)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.write(chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)))
        for codes in rows:  # not filtered: the first byte of each row says so
            file.write(chunk(b"IDAT", stream.compress(np.pad(codes, ((0, 0), (1, 0))).tobytes())))
        file.write(chunk(b"IDAT", stream.flush()) + chunk(b"IEND", b""))


def decoded_mask(path: Path, height: int, width: int) -> Iterator[np.ndarray]:
    """MASK_ROWS rows of `write_mask` at a time."""
    if path.suffix == ".png":
        stream, rest = zlib.decompressobj(), path.read_bytes()
        data = b"".join(rest[a:b] for a, b in idats(rest))
        for top in range(0, height, MASK_ROWS):
            rows = min(MASK_ROWS, height - top)
            raw = stream.decompress(data, rows * (width + 1))
            data = stream.unconsumed_tail
            yield np.frombuffer(raw, np.uint8).reshape(rows, width + 1)[:, 1:]
        return
    with tifffile.TiffFile(path) as file, open(path, "rb") as file_:
        page = file.pages[0]
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        for strip, (start, count) in enumerate(places):
            file_.seek(start)
            rows = min(MASK_ROWS, height - strip * MASK_ROWS)
            raw = imagecodecs.deflate_decode(file_.read(count), out=rows * width)
            yield np.frombuffer(raw, np.uint8).reshape(rows, width)


def idats(png: bytes) -> Iterator[tuple[int, int]]:
    at = 8
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        if kind == b"IDAT":
            yield at + 8, at + 8 + length
        at += 12 + length


def codec_work(picture: Path, mask: Path, compression: str) -> dict[str, int]:
    """Every tile decoded; those under the mask once more, and encoded; the mask decoded."""
    with tifffile.TiffFile(picture) as file:
        page = file.pages[0]
        edge, width = page.tilewidth, page.imagewidth
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        height = page.imagelength
    met = np.zeros((-(-height // edge), -(-width // edge)), bool)
    lefts = np.arange(0, width, edge)
    inside = 0
    for strip, codes in enumerate(decoded_mask(mask, height, width)):
        top = strip * MASK_ROWS
        inside += int(np.count_nonzero(codes))
        for start in range(top - top % edge, top + len(codes), edge):
            part = codes[max(0, start - top) : start + edge - top]
            met[start // edge] |= np.logical_or.reduceat(part.max(axis=0) > 0, lefts)
    shape = (edge, edge, 3)
    with open(picture, "rb") as data:

        def encoded(only: np.ndarray | None) -> Iterator[bytes]:
            for index, (start, count) in enumerate(places):
                if only is None or only[index]:
                    data.seek(start)
                    yield data.read(count)

        for _ in in_order(lambda part: decode(part, compression, shape)[0, 0, 0], encoded(None)):
            pass

        def again(part: bytes) -> int:
            return len(encode(decode(part, compression, shape), compression))

        for _ in in_order(again, encoded(met.ravel())):
            pass
    return {"tiles": met.size, "met": int(met.sum()), "inside": inside}


def timed(command: list[str]) -> tuple[float, float, str]:
    """Wall and processor seconds of a command, and what it said on stderr."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{command[:3]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, spent, done.stderr


def measure(folder: Path, size: tuple[int, int], asked: argparse.Namespace) -> dict[str, float]:
    width, height = size
    picture, mask, out = folder / "big.tif", folder / f"big_m.{asked.mask}", folder / "out"
    if not (asked.keep and picture.exists() and mask.exists()):
        write_picture(picture, height, width, asked.tile, asked.compression)
        write_mask(mask, height, width, asked.share)
    copy = folder / "copy.tif"
    hz = [sys.executable, "-c", HZ, "run", str(picture), "--mask", str(mask), "-o", str(out), "-f",
          "--device", "cpu", *asked.more]  # fmt: skip
    actors = {
        "copy": ["sh", "-c", f"cp --reflink=never {picture} {copy} && sync {copy}"],
        "codecs": [sys.executable, __file__, str(folder), "--codecs-of", asked.compression,
                   "--mask", asked.mask],
        "hz": hz,
        "lut": [*hz, "--mode", "lut"],
    }  # fmt: skip
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in actors}
    row: dict[str, float] = {"megapixels": width * height / 1e6}
    row["file_gb"] = picture.stat().st_size / 1e9
    peaks: dict[str, int] = {}
    for _ in range(asked.rounds):
        for name, command in actors.items():
            wall, spent, said = timed(command)
            seen[name].append((wall, spent))
            print(f"  {name:7} {wall:7.1f} s wall {spent:7.1f} s processor", flush=True)
            if name in ("hz", "lut"):
                found = json.loads(said.strip().splitlines()[-1])
                peaks[name] = max(peaks.get(name, 0), found["peak"] - found["imports"])
                stages = json.loads((out / "report.json").read_text())["pictures"][0]["seconds"]
                print("         ", {k: round(v, 2) for k, v in stages.items()}, flush=True)
                shutil.rmtree(out)
            elif name == "codecs":
                row |= json.loads(said)
            copy.unlink(missing_ok=True)
    best = {name: tuple(map(min, zip(*runs, strict=True))) for name, runs in seen.items()}
    for place, unit in ((0, "wall"), (1, "cpu")):
        took = {name: times[place] for name, times in best.items()}
        row |= {f"{name}_{unit}": seconds for name, seconds in took.items()}
        for name in ("hz", "lut"):
            row[f"{name}_of_copy_and_codecs_{unit}"] = took[name] / (took["copy"] + took["codecs"])
            allowed = 1.5 * took["copy"] + took["codecs"]
            row[f"{name}_of_1.5_copies_and_codecs_{unit}"] = took[name] / allowed
    row |= {f"{name}_peak_mb_above_imports": peak for name, peak in peaks.items()}
    if not asked.keep:
        picture.unlink()
        mask.unlink()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="for the files; twice their size is needed")
    parser.add_argument("--size", default="40000x25000", help="width x height")
    parser.add_argument("--series", help="instead: megapixels, one size after the other")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--compression", choices=CODES, default="deflate")
    parser.add_argument("--share", type=float, default=0.05, help="of the picture, under the mask")
    parser.add_argument("--mask", choices=("tif", "png"), default="tif", help="its kind")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--keep", action="store_true", help="keep the files, and use those there")
    parser.add_argument("--codecs-of", help=argparse.SUPPRESS)
    parser.add_argument("more", nargs="*", help="after --: options of hz run")
    asked = parser.parse_args()
    if asked.codecs_of:
        mask = asked.folder / f"big_m.{asked.mask}"
        facts = codec_work(asked.folder / "big.tif", mask, asked.codecs_of)
        print(json.dumps(facts), file=sys.stderr)
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    width, height = map(int, asked.size.split("x"))
    sizes = [(width, height)]
    if asked.series:
        edges = [math.sqrt(float(word) * 1e6 / 1.6) for word in asked.series.split(",")]
        sizes = [(round(1.6 * edge), round(edge)) for edge in edges]
    for size in sizes:
        print(f"{size[0]} x {size[1]}, {asked.compression}, tiles of {asked.tile}", flush=True)
        for name, value in measure(asked.folder, size, asked).items():
            print(f"  {name:34} {value:.5g}")


if __name__ == "__main__":
    main()
