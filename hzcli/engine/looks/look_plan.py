"""What is asked of an export of looks, and where each look goes: checked before any is made."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hzcli.engine import pairing
from hzcli.engine.looks.hosts import EXTENSIONS, Form
from hzcli.engine.pairing import Job
from hzcli.errors import UsageError

STDOUT = "-"
MERGED = "merged"


@dataclass(frozen=True)
class LookSettings:
    """How looks are made.

    output: a file (one look), a folder, or "-" for stdout; None is the folder "looks".
    mode: of `hz run`, whose result the look stands for.
    merge: one look for all pictures. max_residual: mean, in 8-bit levels, from which on the
    exit code is 7. assume: profile of pictures that embed none.
    device, budget_bytes, background, traces: as for `engine.batch.Settings`.
    """

    form: Form = field(default_factory=Form)
    output: Path | Literal["-"] | None = None
    mode: Literal["region", "lut"] = "region"
    merge: bool = False
    max_residual: float | None = None
    device: str = "auto"
    budget_bytes: int | None = None
    background: Path | None = None
    assume: str | None = None
    overwrite: bool = False
    traces: bool = False


def single(settings: LookSettings) -> bool:
    """Whether the output is one file, or stdout."""
    if settings.output is None:
        return False
    if settings.output == STDOUT:
        return True
    path = Path(settings.output)
    return path.suffix.lower() in EXTENSIONS.values() and not path.is_dir()


def targets_of(
    jobs: Sequence[Job], settings: LookSettings, folder: Path | None
) -> list[Path | Literal["-"]]:
    """Where each look goes; one alone where they are merged."""
    extension = settings.form.extension
    if folder is None:
        output = settings.output
        assert output is not None
        if len(jobs) > 1 and not settings.merge:
            raise UsageError(
                f"{len(jobs)} pictures have {len(jobs)} looks",
                "Name a folder with -o, or make one look of them with --merge.",
            )
        if output == STDOUT:
            if settings.form.format in ("hald", "npy") and sys.stdout.isatty():
                raise UsageError("a terminal shows no binary file", "Send it to a file or a pipe.")
            return [STDOUT]
        path = Path(output)
        if path.suffix.lower() != extension:
            raise UsageError(
                f"{path} is no name for the format {settings.form.format}",
                f"Call it {path.with_suffix(extension).name}.",
            )
        targets = [path]
    elif settings.merge:
        targets = [folder / f"{MERGED}{extension}"]
    else:
        targets = [folder / job.output.with_suffix(extension) for job in jobs]
    for above in targets[0].parents:
        if above.exists() and not above.is_dir():
            raise UsageError(f"{above} is a file", "Name a folder, or a file of looks, with -o.")
    inputs = {
        pairing.real(path)
        for job in jobs
        for path in (job.composite, *job.masks, job.truth)
        if path is not None
    }
    for target in targets:
        if pairing.real(target) in inputs:
            raise UsageError(
                f"the look would be written over the input {target}", "Name another place with -o."
            )
    if (folder is None or settings.merge) and targets[0].exists() and not settings.overwrite:
        raise UsageError(f"{targets[0]} exists already", "Pass -f to replace it.")
    return list(targets)
