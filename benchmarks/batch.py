"""What a batch costs, beside decoding and encoding its files and nothing else.

    python benchmarks/batch.py --count 50 --models aict s2crnet hinet --jobs 1 auto
    python benchmarks/batch.py --memory --size 600x400 --count 300 --models aict

Photograph-like JPEGs made by rule with masks of 25 % (the first few differ, the others are
copies of them), to the default output. In turn, in one process: a copy of a 16-bit picture in
memory, the codec-only pass (each file and its mask decoded, the picture encoded and written, one
after the other: within a picture reading and writing overlap), the same with what the first model
delivers, for that takes longer to encode than 8 bits that became 16; the first with several
pictures at once; and `hz run` with each model and number of jobs. Printed are medians of wall time,
as multiples of the codec-only passes, and of processor time: wall times of a busy machine say
little. --memory tells what the process holds after each fiftieth picture instead.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import imagecodecs
import numpy as np
import tifffile

from hzcli.bench import scenes
from hzcli.core.window import Size, Window, bands
from hzcli.engine import device
from hzcli.engine.plan import at_once, resident_bytes

device.calm_threads()  # before torch is imported

from hzcli.commands.run import run  # noqa: E402
from hzcli.engine.batch import Settings  # noqa: E402
from hzcli.engine.overlap import ahead, behind  # noqa: E402
from hzcli.engine.pairing import PairingRules  # noqa: E402
from hzcli.io.picture import open_mask, open_picture  # noqa: E402
from hzcli.io.writers import OutputOptions, open_writer, resolve  # noqa: E402
from hzcli.report import Event  # noqa: E402

DISTINCT = 4


def pictures(folder: Path, count: int, size: Size, share: float) -> list[Path]:
    """So many JPEGs, each with its mask beside it."""
    cover = imagecodecs.png_encode(np.concatenate(list(scenes.mask(size, share))), level=1)
    made: list[Path] = []
    for index in range(count):
        path = folder / f"p{index:04}.jpg"
        if index < DISTINCT:
            pixels = np.concatenate(list(scenes.scene(size, index)))
            path.write_bytes(imagecodecs.jpeg8_encode(pixels, level=scenes.QUALITY))
        else:
            shutil.copyfile(made[index % DISTINCT], path)
        path.with_name(f"{path.stem}_m.png").write_bytes(cover)
        made.append(path)
    return made


def codec(path: Path, target: Path, delivered: np.ndarray | None = None) -> None:
    """Decode a picture and its mask, and encode the picture in 16 bits, or what was delivered."""
    with contextlib.ExitStack() as files:
        reader = files.enter_context(open_picture(path))
        mask = files.enter_context(open_mask(path.with_name(f"{path.stem}_m.png")))
        resolved = resolve(OutputOptions(), reader.header)
        writer = files.enter_context(
            open_writer(target, reader.size, resolved, meta=reader.meta, overwrite=True)
        )

        def read(window: Window) -> tuple[Window, np.ndarray]:
            mask.read(window)
            return window, reader.read(window)

        send = files.enter_context(behind(writer.write))
        windows = bands(reader.size, max(64, (4 << 20) // reader.size.width))
        for window, codes in files.enter_context(ahead(read, windows)):
            rows = np.empty(codes.shape, np.uint16)
            if delivered is None:
                np.multiply(codes, np.uint16(257), out=rows, dtype=np.uint16)
            else:
                rows[...] = delivered[window.top : window.bottom]
            send(rows)


def harmonise(folder: Path, output: Path, model: str, jobs: int, told: Callable) -> None:
    """`hz run` on the folder."""
    settings = Settings(output, device="cpu", overwrite=True, jobs=jobs, report=False)
    result = run([folder], PairingRules(mask_suffix="_m"), settings, models=[model], on_event=told)
    assert result.count("done") == len(result.outcomes), [row.error for row in result.outcomes]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare(found: list[Path], args: argparse.Namespace, output: Path) -> None:
    """Print the table of times."""
    lanes = sorted({at_once() if word == "auto" else int(word) for word in args.jobs})
    targets = [output / f"{path.stem}.tif" for path in found]

    def together(at_once: int) -> None:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(codec, found, targets))

    codec(found[0], targets[0])
    for model in reversed(args.models):
        harmonise(found[0].parent, output, model, max(lanes), lambda event: None)
    results = [tifffile.imread(target) for target in targets[:DISTINCT]]

    def again() -> None:
        for n, (path, target) in enumerate(zip(found, targets, strict=True)):
            codec(path, target, results[n % DISTINCT])

    pixels = np.ones((args.size.height, args.size.width, 3), np.uint16)
    copy = np.zeros_like(pixels)
    turns: dict[str, Callable[[], object]] = {
        "copy of the pixels": lambda: [np.copyto(copy, pixels) for _ in found],
        "codec-only": lambda: together(1),
        f"codec, {args.models[0]}'s results": again,
    }
    most = max(lanes)
    if most > 1:
        turns[f"codec-only, {most} at once"] = lambda: together(most)
    for model in args.models:
        for jobs in lanes:
            turns[f"{model}, {jobs} at once"] = lambda m=model, j=jobs: harmonise(
                found[0].parent, output, m, j, lambda event: None
            )
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    for _ in range(args.rounds):
        for name, work in turns.items():
            spent[name].append(timed(work))
    wall, cpu = ({n: median(t[i] for t in s) for n, s in spent.items()} for i in (0, 1))
    fastest = min(wall[name] for name in wall if name.startswith("codec-only"))
    print(f"{len(found)} pictures of {args.size.width} x {args.size.height}, {args.rounds} rounds")
    print(f"{'':28}{'s a picture':>12}{'x codec':>9}{'x fastest codec':>17}{'CPU s':>8}{'x':>7}")
    for name in turns:
        print(
            f"{name:28}{wall[name] / len(found):12.3f}{wall[name] / wall['codec-only']:8.2f}x"
            f"{wall[name] / fastest:16.2f}x{cpu[name] / len(found):8.3f}"
            f"{cpu[name] / cpu['codec-only']:6.2f}x"
        )


def hold(found: list[Path], args: argparse.Namespace, output: Path) -> None:
    """Print what the process holds as the batch goes on."""
    for word in args.jobs:
        jobs = at_once() if word == "auto" else int(word)
        seen: list[int] = []

        def told(event: Event, seen: list[int] = seen) -> None:
            if event.kind == "row":
                seen.append(resident_bytes())

        harmonise(found[0].parent, output, args.models[0], jobs, told)
        after = {n: seen[n - 1] >> 20 for n in range(50, len(seen) + 1, 50)}
        print(f"{args.models[0]}, {jobs} at once, MiB held after pictures: {after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--size", default="6000x4000")
    parser.add_argument("--mask-share", type=float, default=0.25)
    parser.add_argument("--models", nargs="+", default=["aict", "s2crnet", "hinet"])
    parser.add_argument("--jobs", nargs="+", default=["1", "auto"], help="numbers, or auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="what is held, instead of times")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    args.size = Size(height, width)
    with tempfile.TemporaryDirectory(prefix="hz-batch-") as folder:
        shots, output = Path(folder) / "shots", Path(folder) / "out"
        shots.mkdir()
        output.mkdir()
        found = pictures(shots, args.count, args.size, args.mask_share)
        (hold if args.memory else compare)(found, args, output)


if __name__ == "__main__":
    main()
