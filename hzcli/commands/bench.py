"""`hz bench`: what harmonising costs on this machine, beside a memory copy and the codecs."""

from __future__ import annotations

import csv
import io
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hzcli import __version__
from hzcli.bench import baseline, runner, scaling, scenes
from hzcli.bench.runner import Configuration, Measured
from hzcli.bench.subjects import Subject, subjects
from hzcli.core.window import Size
from hzcli.engine import pairing
from hzcli.engine.pairing import PairingRules
from hzcli.errors import UsageError
from hzcli.io.atomic import write_text
from hzcli.report import Event, Result, flat, plain

__all__ = ["BenchSettings", "bench", "megapixels", "resolution", "share"]

EXIT_LOSS = 7
# The paper's parts of rows, after the engine's own plan.
SPLITS: tuple[int | None, ...] = (None, 1, 4, 16)
SMALLEST = 64


@dataclass(frozen=True)
class BenchSettings:
    """What is measured, and how often.

    sizes, shares: of the pictures made by rule, and of the mask in each. splits: parts of rows,
    None for the engine's own plan. scale: up to how many megapixels cost is followed, instead
    of `sizes`. plot: where that is drawn. tolerance: 0.25 lets a ratio grow by a quarter.
    """

    sizes: tuple[Size, ...] = (Size(2048, 2048),)
    shares: tuple[float, ...] = (0.25,)
    splits: tuple[int | None, ...] = SPLITS
    mode: str = "region"
    device: str = "auto"
    threads: int | None = None
    warmup: int = 1
    runs: int = 5
    scale: float | None = None
    plot: Path | None = None
    csv: Path | None = None
    baseline: Path | None = None
    tolerance: float = 0.25


def bench(
    inputs: Sequence[Path],
    rules: PairingRules,
    settings: BenchSettings,
    *,
    models: Sequence[str],
    on_event: Callable[[Event], None] = lambda event: None,
) -> Result:
    """Measure every network on every picture, each configuration in a process of its own.

    Args:
        inputs: the user's own pictures and folders; none takes pictures made by rule.
        rules: where the masks of `inputs` are.
        settings: sizes, shares, how often.
        models: see `subjects.subjects`.
        on_event: told of every configuration as it is finished.

    Returns:
        One `Measured` a configuration; machine, scaling and comparison in the summary. The exit
        code is 7 where something grew beyond the tolerance.

    Raises:
        UsageError: what was asked cannot be carried out. ModelError: an unknown network.
    """
    begun = time.perf_counter()
    chosen = subjects(models)
    if settings.plot is not None and settings.scale is None:
        raise UsageError("--plot draws what --scale measures", "Add --scale 100, for example.")
    earlier = None if settings.baseline is None else baseline.read(settings.baseline)
    rows: list[Measured] = []
    interrupted = False
    with _folder() as folder:
        try:
            pictures = _own(inputs, rules) if inputs else _made(folder, settings, on_event)
            planned = runner.same_work(list(_configurations(pictures, chosen, settings)))
            on_event(Event("begin", count=len(planned)))
            for configuration in planned:
                on_event(Event("start", text=configuration.subject.name))
                rows.append(runner.run(configuration, folder))
                on_event(Event("row", row=rows[-1]))
        except KeyboardInterrupt:
            interrupted = True
    done = [row.as_dict() for row in _with_macs(rows) if row.status == "done"]
    summary: dict[str, Any] = {
        "version": __version__,
        "machine": runner.machine(),
        "seconds": round(time.perf_counter() - begun, 3),
    }
    files: list[Path] = []
    if settings.scale is not None and done:
        summary["scaling"] = _scaling(done)
        if settings.plot is not None:
            scaling.draw(done, settings.plot)
            files.append(settings.plot)
    if settings.csv is not None and rows:
        _write_csv(settings.csv, [row.as_dict() for row in _with_macs(rows)])
        files.append(settings.csv)
    code = None
    if earlier is not None and done:
        compared = baseline.compare(done, earlier, settings.tolerance)
        if not compared["compared"] and not interrupted:
            raise UsageError(
                f"--baseline {settings.baseline} has none of these configurations",
                "Measure with the options that it was measured with.",
            )
        summary["baseline"] = compared
        code = EXIT_LOSS if compared["losses"] else None
    return Result(
        "bench",
        outcomes=tuple(_with_macs(rows)),
        interrupted=interrupted,
        files=tuple(files),
        summary=summary,
        exit=code,
    )


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hz-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@dataclass(frozen=True)
class _Picture:
    path: Path
    mask: Path
    label: str
    share: float | None = None


def _made(
    folder: Path, settings: BenchSettings, on_event: Callable[[Event], None]
) -> list[_Picture]:
    """Pictures by rule, all sizes with all shares."""
    sizes = settings.sizes if settings.scale is None else scaling.sizes(settings.scale)
    found = []
    for size in sizes:
        for part in settings.shares:
            label = f"{size.width}x{size.height}"
            on_event(Event("note", text=f"making a picture of {label}"))
            # For a scale all are of one kind, and that is the one that may be of any size.
            tiff = settings.scale is not None
            picture, mask = scenes.write(folder, size, part, tiff=tiff)
            found.append(_Picture(picture, mask, label, part))
    return found


def _own(inputs: Sequence[Path], rules: PairingRules) -> list[_Picture]:
    """The user's pictures that have a mask.

    Raises:
        UsageError: none has.
    """
    jobs = pairing.find(inputs, rules)
    found = [
        _Picture(job.composite, job.mask, str(job.composite))
        for job in jobs
        if job.error is None and job.mask is not None
    ]
    if not found:
        reason = next((str(job.error) for job in jobs if job.error), "")
        raise UsageError(
            f"none of the {len(jobs)} pictures has a mask. {reason}".strip(),
            "Say where masks are, as --mask-suffix _m does.",
        )
    return found


def _configurations(
    pictures: Sequence[_Picture], chosen: Sequence[Subject], settings: BenchSettings
) -> Iterator[Configuration]:
    splits = (None,) if settings.scale is not None else settings.splits
    for picture in pictures:
        for subject in chosen:
            for parts in splits:
                yield Configuration(
                    subject,
                    picture.path.resolve(),
                    picture.mask.resolve(),
                    picture.label,
                    picture.share,
                    parts,
                    settings.mode,
                    settings.device,
                    settings.threads,
                    settings.warmup,
                    settings.runs,
                )


def _with_macs(rows: Sequence[Measured]) -> list[Measured]:
    """MACs are counted once a network and picture, and told in each line."""
    counted: dict[tuple[Any, ...], Any] = {}
    out = []
    for row in rows:
        asked = row.configuration
        work = (asked.subject, asked.picture, asked.mask, asked.mode)
        if "macs" in row.told:
            counted[work] = row.told["macs"]
        elif row.told and work in counted:
            row = Measured(asked, {**row.told, "macs": counted[work]})
        out.append(row)
    return out


def _scaling(done: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(row["model"] for row in done)
    return {
        name: {
            what: scaling.growth([row for row in done if row["model"] == name], what)
            for what in ("apply", "total")
        }
        for name in names
    }


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    table = [flat(plain(row)) for row in rows]
    columns = dict.fromkeys(name for row in sorted(table, key=len, reverse=True) for name in row)
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    try:
        write_text(path, buffer.getvalue())
    except OSError as error:
        raise UsageError(
            f"--csv {path} cannot be written ({error})", "Name another file."
        ) from error


def resolution(text: str) -> Size:
    """A picture's size from "2048" (a square) or "6000x4000" (width x height).

    >>> resolution("6000x4000")
    Size(height=4000, width=6000)

    Raises:
        UsageError: the text says nothing of the kind, or less than can be harmonised.
    """
    found = re.fullmatch(r"\s*(\d+)(?:\s*[xX*]\s*(\d+))?\s*", text)
    if not found or min(int(n) for n in found.groups() if n) < SMALLEST:
        raise UsageError(
            f'--res "{text}" is no size of {SMALLEST} pixels or more', "Try 2048 or 6000x4000."
        )
    width = int(found[1])
    return Size(int(found[2] or width), width)


def share(text: str) -> float:
    """A share from "10%" or "0.1".

    >>> share("10%"), share("0.25")
    (0.1, 0.25)

    Raises:
        UsageError: the text says nothing of the kind.
    """
    found = re.fullmatch(r"\s*([0-9.]+)\s*(%?)\s*", text)
    try:
        value = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise UsageError(f'"{text}" is no share between 0 and 100 %', "Try 10% or 0.1.")
    return value


def megapixels(text: str) -> float:
    """Megapixels from "100", "100MP" or "1000 mp".

    >>> megapixels("100MP")
    100.0

    Raises:
        UsageError: the text says nothing of the kind, or less than 1.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:mp)?\s*", text.lower())
    if not found or float(found[1]) < 1:
        raise UsageError(f'--scale "{text}" is no size of 1 megapixel or more', "Try 100.")
    return float(found[1])
