"""`hz apply-lut`: a look, from hz or from elsewhere, applied to pictures."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hzcli import __version__
from hzcli.engine import pairing
from hzcli.engine.delivery import HELD_BYTES, FileSettings, opened
from hzcli.engine.fates import failed, kept
from hzcli.engine.looks.hosts import SPACES
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import Job, PairingRules
from hzcli.errors import HzError, MaskError, PictureError, UsageError
from hzcli.report import Event, Result

if TYPE_CHECKING:
    from hzcli.core.tetra import Interpolation
    from hzcli.engine.looks.apply_look import Prepared

__all__ = ["apply_lut"]


def apply_lut(
    look: Path,
    inputs: Sequence[Path],
    rules: PairingRules,
    *,
    output: Path,
    everywhere: bool = False,
    interpolation: Interpolation = "tetrahedral",
    strength: float = 1.0,
    space: str = "srgb",
    assume: str | None = None,
    overwrite: bool = False,
    budget_bytes: int | None = None,
    traces: bool = False,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Result:
    """Apply a look file to pictures, inside their masks or everywhere, in 16 bits.

    Args:
        look: .cube, .3dl, .npy or a Hald CLUT.
        inputs: files and folders. rules: where masks are; without any rule for masks the look
            applies everywhere.
        output: folder of the results.
        everywhere: leave masks alone; files that the rules call masks are still no inputs.
        interpolation: between a table's nodes.
        strength: 0 changes nothing, 1 as much as the look says.
        space: that the look is meant for, one of `hosts.SPACES`; pictures in another go there
            and back where the look applies.
        assume: profile of pictures that embed none.
        budget_bytes: what the process may take; None plans from what is free.
        traces: whether an unexpected error is shown with its traceback.

    Returns:
        One outcome a picture: "done", "kept" (its result was there already) or "failed".

    Raises:
        LookError: the look cannot be read. UsageError: the plan cannot be carried out.
            In both cases nothing has been written.
    """
    if not 0 <= strength <= 1:
        raise UsageError(f"--strength {strength:g} is not between 0 and 1")
    if space not in SPACES:
        raise UsageError(f"--space {space} is not known", f"There are {', '.join(SPACES)}.")
    rules = replace(rules, output=output)
    everywhere = everywhere or not rules.asks
    jobs = _everywhere(inputs, rules) if everywhere else pairing.find(inputs, rules)

    from hzcli.engine.looks.apply_look import prepare
    from hzcli.io import looks

    start = time.perf_counter()
    read = looks.read(look)
    prepared = prepare(read, interpolation=interpolation, strength=strength)
    on_event(Event("note", text=f"look: {read.title or look.stem}, through {prepared.name}"))
    outcomes: list[Outcome] = []
    interrupted = False
    on_event(Event("begin", count=len(jobs)))
    try:
        for job in jobs:
            on_event(Event("start", text=str(job.composite)))
            target = output / job.output
            try:
                if job.error is None and target.exists() and not overwrite:
                    outcome = kept(job, target)
                else:
                    outcome = _apply(
                        job, target, prepared, everywhere, overwrite, budget_bytes, (space, assume)
                    )
            except Exception as error:  # as a batch: a bad picture must not end the others
                if traces and not isinstance(error, HzError):
                    on_event(Event("note", text=traceback.format_exc()))
                outcome = failed(job, error)
            outcomes.append(outcome)
            on_event(Event("row", row=outcome))
    except KeyboardInterrupt:
        interrupted = True
    return Result(
        command="apply-lut",
        outcomes=tuple(outcomes),
        interrupted=interrupted,
        output=output,
        summary={
            "version": __version__,
            "pictures_found": len(jobs),
            "seconds": round(time.perf_counter() - start, 3),
            "settings": {
                "look": str(look),
                "title": read.title,
                "size": read.size,
                "everywhere": everywhere,
                "interpolation": interpolation,
                "strength": strength,
                "space": space,
                "through": prepared.name,
            },
        },
    )


def _everywhere(inputs: Sequence[Path], rules: PairingRules) -> list[Job]:
    """Jobs without masks; what the rules call masks and truths is left out."""
    # With alpha as a last resort no picture lacks a mask, so none fails for want of one.
    bare = replace(rules, mask_file=None, mask_files=(), layout=None, mask_from="alpha")
    jobs = pairing.find(inputs, bare)
    return [
        replace(
            job, mask=None, masks=(), error=None if isinstance(job.error, MaskError) else job.error
        )
        for job in jobs
    ]


def _apply(
    job: Job,
    target: Path,
    prepared: Prepared,
    everywhere: bool,
    overwrite: bool,
    budget_bytes: int | None,
    spaces: tuple[str, str | None],
) -> Outcome:
    from hzcli.engine.looks.apply_look import apply_look
    from hzcli.io.masks import union
    from hzcli.io.picture import open_picture
    from hzcli.io.writers import open_writer
    from hzcli.io.writers.choices import OutputOptions, resolve

    if job.error is not None:
        raise job.error
    start = time.perf_counter()
    space, assume = spaces
    with contextlib.ExitStack() as files:
        mask: Any = None
        notes: tuple[str, ...] = job.warnings
        if everywhere:
            held = None if budget_bytes is None else min(HELD_BYTES, budget_bytes // 4)
            reader = files.enter_context(open_picture(job.composite, budget_bytes=held))
            resolved = resolve(OutputOptions(), reader.header)
            notes += reader.header.notes
        else:
            found = files.enter_context(
                opened(job, FileSettings(assume_profile=assume), budget_bytes)
            )
            reader, resolved, mask = found.reader, found.resolved, union(found.masks)
            notes += found.warnings
        icc, prepared, warnings = _suited(prepared, reader, space, assume)
        writer = files.enter_context(
            open_writer(
                target,
                reader.size,
                resolved,
                meta=reader.meta,
                alpha=reader.has_alpha,
                overwrite=overwrite,
                software=f"hz {__version__}",
                presumed=icc,
            )
        )
        outcome = apply_look(reader, mask, prepared, writer, budget_bytes=budget_bytes)
    return replace(
        outcome,
        input=str(job.composite),
        mask=None if everywhere else ", ".join(str(path) for path in job.masks),
        output=str(target),
        # The engine's own total ends before the file is finished.
        seconds={**outcome.seconds, "total": time.perf_counter() - start},
        warnings=tuple(dict.fromkeys((*notes, *warnings, *writer.notes))),
    )


def _suited(
    prepared: Prepared, reader: Any, space: str, assume: str | None
) -> tuple[bytes, Prepared, tuple[str, ...]]:
    """The picture's profile; a look for `space`, made one for that; what users should be told."""
    from hzcli.io import profiles

    if reader.depth == 32:
        raise PictureError(
            f"{reader.path} has numbers, not codes: a look is a table of codes",
            "Save the picture with 16 bits.",
        )
    icc, _, warning = profiles.presume(reader.header, reader.meta, assume)
    warnings = () if warning is None else (warning,)
    facts = profiles.describe(icc)
    same = facts.is_srgb if space == "srgb" else icc == profiles.profile(space)
    if same or facts.kind != "rgb":
        return icc, prepared, warnings
    # Only here: it takes torch, whose import costs more than a look.
    from hzcli.engine.colour import Colour
    from hzcli.engine.looks.look_colour import ConvertedLook
    from hzcli.engine.looks.spaces import SPACES as KNOWN

    look = ConvertedLook(prepared.recolouring, Colour(icc), KNOWN[space])
    name = f"{prepared.name}, {facts.name} to {KNOWN[space].title} and back"
    return icc, replace(prepared, recolouring=look, name=name), warnings
