"""One picture from files to files: opened, harmonised, written, and what it carries along.

No torch before a picture is harmonised: a dry run opens files as a run does.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hzcli import __version__
from hzcli.core.window import Size
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import Job
from hzcli.engine.plan import sharing
from hzcli.errors import PictureError
from hzcli.io.mask_options import MaskOptions
from hzcli.io.writers.choices import OutputOptions, Resolved, resolve

if TYPE_CHECKING:
    from hzcli.io.metadata.ladder import Ladder
    from hzcli.io.picture import RowReader

# Decoded pixels that one reader keeps in memory at most; the rest of a budget is the bands'.
HELD_BYTES = 256 << 20


@dataclass(frozen=True)
class FileSettings:
    """What is read, and what is written.

    out: container, depth and compression of results. masks: what is done to masks first.
    assume_profile: what untagged pictures are in; output_profile: what results are converted
    to. Both are names or files, see `io.profiles.load`. intent: see `io.profiles.INTENTS`.
    also: companions of each result, see `engine.layers`.
    metadata: "all" | "safe" | "none", see `io.metadata`. label_ai: whether results say that a
    model had a hand in them. max_pixels: larger pictures are refused unread.
    """

    out: OutputOptions = field(default_factory=OutputOptions)
    masks: MaskOptions = field(default_factory=MaskOptions)
    assume_profile: str | None = None
    output_profile: str | None = None
    intent: str = "relative"
    also: tuple[str, ...] = ()
    metadata: str = "all"
    label_ai: bool = False
    max_pixels: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """What a report says of them: only what differs from the defaults."""
        plain = FileSettings()
        said: dict[str, Any] = {}
        for name, value in vars(self).items():
            usual = getattr(plain, name)
            if name in ("out", "masks"):
                said |= {k: v for k, v in vars(value).items() if v != getattr(usual, k)}
            elif value != usual:
                said[name] = list(value) if isinstance(value, tuple) else value
        return said


@dataclass(frozen=True)
class Opened:
    """The files of one job, of one size; no pixel decoded yet.

    warnings: what their heads gave reason to say.
    """

    reader: RowReader
    masks: tuple[Any, ...]
    truth: RowReader | None
    resolved: Resolved
    warnings: tuple[str, ...] = ()


@contextlib.contextmanager
def opened(
    job: Job, files: FileSettings | None = None, budget_bytes: int | None = None
) -> Iterator[Opened]:
    """Open the picture, its masks and the ground truth of a job.

    Raises:
        HzError: the job cannot be done: its own error, an unreadable file, an unfit size.
    """
    from hzcli.io.masks import open_prepared
    from hzcli.io.picture import open_picture

    files = files or FileSettings()
    if job.error is not None:
        raise job.error
    assert job.masks, "a job without an error has a mask"
    share = None if budget_bytes is None else min(HELD_BYTES, budget_bytes // 4 // sharing())
    limits: dict[str, Any] = {"budget_bytes": share, "max_pixels": files.max_pixels}
    options = files.masks.of(job.mask_source)
    with contextlib.ExitStack() as held:
        reader = held.enter_context(open_picture(job.composite, **limits))
        resolved = resolve(files.out, reader.header)
        masks = [
            held.enter_context(open_prepared(path, options, reader.size, **limits))
            for path in job.masks
        ]
        truth = None
        if job.truth is not None:
            truth = held.enter_context(open_picture(job.truth, **limits))
            check_size(truth, reader, "ground truth", PictureError)
        notes = [*reader.header.notes, *resolved.notes]
        for mask in masks:
            notes += getattr(mask, "notes", ())
        yield Opened(reader, tuple(masks), truth, resolved, tuple(notes))


def check_size(other: Any, reader: Any, what: str, kind: type[PictureError]) -> None:
    """Raise an error of `kind` unless a picture's companion is of the picture's size."""
    found, wanted = other.size, reader.size
    if found == wanted:
        return
    turned = (found.height, found.width) == (wanted.width, wanted.height)
    raise kind(
        f"the {what} {Path(other.path).name} is {_wh(found)} pixels, the picture {_wh(wanted)}",
        f"One of them is turned: save the {what} with the picture's EXIF orientation."
        if turned
        else f"Save the {what} at the picture's size.",
    )


def _wh(size: Size) -> str:
    return f"{size.width} x {size.height}"


def deliver(job: Job, target: Path, predictor: Any, settings: Any, ladder: Ladder) -> Outcome:
    """Harmonise one picture into `target`.

    Args:
        settings: of the batch, see `batch.Settings`. ladder: of the batch.

    Raises:
        HzError, OSError: the picture cannot be done; nothing of it stays.
    """
    from hzcli.engine import several
    from hzcli.engine.colour import Colour
    from hzcli.engine.layers import AlsoWriter
    from hzcli.io import profiles
    from hzcli.io.metadata.policies import Edit
    from hzcli.io.picture import open_picture
    from hzcli.io.writers import open_writer

    start = time.perf_counter()
    files, budget = settings.files, settings.budget_bytes
    software = f"hz {__version__}"
    with contextlib.ExitStack() as held:
        found = held.enter_context(opened(job, files, budget))
        reader = found.reader
        icc, why, warning = profiles.presume(reader.header, reader.meta, files.assume_profile)
        wanted = None if files.output_profile is None else profiles.load(files.output_profile)
        colour = Colour(icc, wanted, files.intent)
        # What nobody had tagged stays so, unless the numbers now mean something else.
        meta = reader.meta
        tagged = meta.icc is not None and icc == meta.icc
        # Untagged float is linear by convention; codes of the same numbers are taken as sRGB.
        narrowed = why == "untagged float" and found.resolved.depth != 32
        if wanted is not None or files.assume_profile is not None or narrowed:
            meta = replace(meta, icc=colour.icc)
        elif not tagged:
            meta = replace(meta, icc=None)
        model = getattr(getattr(predictor, "card", None), "id", None)
        edit = Edit(
            software,
            {"model": str(model), "mode": settings.mode, "strength": settings.strength},
            label_ai=files.label_ai,
        )
        carried = ladder.job(
            job.composite, target, reader.size, edit,
            overwrite=settings.overwrite, profile_changed=wanted is not None,
        )  # fmt: skip
        options = found.resolved.options
        writer = held.enter_context(
            open_writer(
                target,
                reader.size,
                found.resolved,
                meta=meta,
                channels=found.resolved.channels,
                alpha=reader.has_alpha,
                overwrite=settings.overwrite,
                software=software,
                metadata=carried.carried,
                presumed=colour.icc,
                finish=carried.finish,
                page=None if colour.converts else reader.page,
            )
        )
        extra: dict[str, Any] = {}
        if files.also:
            also = held.enter_context(
                AlsoWriter(
                    target,
                    files.also,
                    reader.size,
                    meta,
                    depth=writer.depth,
                    channels=found.resolved.channels,
                    compression=options.afresh,
                    bigtiff=options.bigtiff,
                    tile=options.tile,
                    overwrite=settings.overwrite,
                    software=software,
                )
            )
            extra["observe"] = also.write
        if settings.background is not None:
            other = held.enter_context(
                open_picture(settings.background, max_pixels=files.max_pixels)
            )
            extra["reference"] = other
            shown = profiles.presume(other.header, other.meta, files.assume_profile)[0]
            extra["reference_colour"] = Colour(shown, None, files.intent)
        outcome = several.harmonise(
            reader,
            found.masks,
            predictor,
            writer,
            mode=settings.mode,
            strength=settings.strength,
            device=settings.device,
            budget_bytes=budget,
            truth=found.truth,
            protocols=settings.protocols if found.truth is not None else (),
            colour=colour,
            colour_between=Colour(icc, None, files.intent),
            **extra,
        )
        writer.seal()  # before a companion gets its name
    carried.settle()
    notes = [*job.warnings, *found.warnings, *([warning] if warning else ())]
    notes += [*outcome.warnings, *writer.notes, *carried.notes]
    return replace(
        outcome,
        input=str(job.composite),
        mask=", ".join(str(path) for path in job.masks),
        output=str(target),
        status="done",
        # The engine's own total ends before the file is finished.
        seconds={**outcome.seconds, "total": time.perf_counter() - start},
        warnings=tuple(dict.fromkeys(notes)),
    )
