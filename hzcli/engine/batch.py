"""Many pictures, some at once: a failure is recorded and the rest goes on.

torch is imported when the first picture is opened.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hzcli import __version__, report
from hzcli.engine import earlier
from hzcli.engine.delivery import FileSettings, deliver
from hzcli.engine.fates import failed, kept
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import Job
from hzcli.engine.pipeline import Pipeline
from hzcli.engine.plan import at_once, shared
from hzcli.engine.shard import Shard
from hzcli.engine.shared_network import Shared, Threads
from hzcli.errors import HzError
from hzcli.io.hushed import gathered
from hzcli.report import Event, Result

if TYPE_CHECKING:
    from hzcli.io.metadata.ladder import Ladder

OnEvent = Callable[[Event], None]


@dataclass(frozen=True)
class Settings:
    """How pictures are harmonised.

    output: folder of the results. device: as torch has it ("cpu", a torch.device).
    budget_bytes: what the whole process may take; None plans from what is free.
    background: a picture to harmonise towards, instead of each picture's own background.
    curves: a file of tone curves that all pictures get, instead of a model's answer.
    jobs: how many pictures are worked on at once; None chooses by cores and memory.
    shard: the jobs are this share of a batch whose others are done elsewhere, perhaps now, perhaps
        into the same folder: the report is called for the share.
    traces: whether an unexpected error is shown with its traceback.
    files: what is read and written, and how.
    """

    output: Path
    mode: Literal["region", "lut"] = "region"
    strength: float = 1.0
    device: Any = "cpu"
    budget_bytes: int | None = None
    background: Path | None = None
    curves: Path | None = None
    protocols: tuple[str, ...] = ("standard",)
    overwrite: bool = False
    report: bool = True
    jobs: int | None = 1
    shard: Shard | None = None
    traces: bool = False
    files: FileSettings = field(default_factory=FileSettings)

    @property
    def report_names(self) -> tuple[str, str]:
        """What the reports are called: `report.json`, or of a share `report-2of5.json`."""
        return report.names(None if self.shard is None else self.shard.tag)

    def as_dict(self) -> dict[str, Any]:
        """What a report says of them, beside the model."""
        return {
            "mode": self.mode,
            "strength": self.strength,
            "device": str(self.device),
            "memory": self.budget_bytes,
            "background": None if self.background is None else str(self.background),
            "curves": None if self.curves is None else str(self.curves),
            "protocols": list(self.protocols),
            **self.files.as_dict(),
        }


def run_batch(
    jobs: Sequence[Job],
    predictor: Any,
    settings: Settings,
    on_event: OnEvent,
    notices: Sequence[str] = (),
) -> Result:
    """Harmonise every job; write `report.json` and `report.csv` beside the results (of a share
    `report-2of5.json`, ...).

    Args:
        jobs: from `pairing.find`.
        predictor: from `models.load`.
        settings: the same for all pictures.
        on_event: told of every picture as it starts and ends, and of warnings about them all.
        notices: such warnings as were said before, for the report.

    Returns:
        One outcome a picture that was reached: "done", "kept" (its result was there already and
        carries the figures of the earlier report) or "failed". Interrupted by Ctrl-C, it holds
        the pictures finished until then.
    """
    start = time.perf_counter()
    lanes = _lanes(jobs, settings)
    asked = {"model": _model_id(predictor), **settings.as_dict(), "jobs": lanes}
    known = _Known(report.previous(settings.output), asked)
    outcomes: list[Outcome] = []
    said = list(notices)
    interrupted = False

    def warn(*texts: str) -> None:
        for text in texts:
            said.append(text)
            on_event(Event("warning", text=text))

    def tell(told: _Told) -> None:
        warn(*heard.new())
        outcomes.append(told.outcome)
        for event in (*told.events, Event("row", row=told.outcome)):
            on_event(event)

    def work(job: Job, beside: int) -> _Told:
        with shared(beside):
            return _one(job, shown, settings, ladder, known)

    on_event(Event("begin", count=len(jobs)))
    from hzcli.io.metadata.ladder import Ladder

    try:
        with gathered() as heard, Ladder(settings.files.metadata) as ladder:
            threads = Threads(lanes)
            pipeline = Pipeline(jobs, work, lanes, alone=_starved, begin=threads.few)
            shown = predictor if lanes == 1 else Shared(predictor, pipeline.ask)
            left: Sequence[_Told] = ()
            try:
                results = iter(pipeline)
                for job in jobs:
                    on_event(Event("start", text=str(job.composite)))
                    tell(next(results))
            except KeyboardInterrupt:
                interrupted = True
            finally:
                left = pipeline.stop()
                threads.all()
                if settings.shard is None:  # else another machine may be about to write there
                    _remove_empty_of(jobs, settings.output)
            for told in left:  # finished before it was their turn
                tell(told)
            warn(*heard.new(), *([ladder.warning] if ladder.warning else []))
            warn(*earlier.notices(outcomes, asked))
    except KeyboardInterrupt:
        interrupted = True

    share = None if settings.shard is None else str(settings.shard)

    def reported(interrupted: bool) -> Result:
        result = Result(
            command="run",
            outcomes=tuple(outcomes),
            interrupted=interrupted,
            output=settings.output,
            summary={
                "version": __version__,
                "pictures_found": len(jobs),
                "shard": share,
                "seconds": round(time.perf_counter() - start, 3),
                "settings": asked,
                "warnings": list(said),
                "means": report.means([outcome.as_dict() for outcome in outcomes]),
            },
        )
        return with_report(result, settings, on_event)

    try:
        return reported(interrupted)
    except KeyboardInterrupt:  # it is short, and tells of all that was done
        return reported(True)


def with_report(result: Result, settings: Settings, on_event: OnEvent, **what: Any) -> Result:
    """The result with its report written, if it is to be; where that fails, a warning says so.

    Args:
        what: rows and key, as `report.write` takes them, where rows are not the pictures.
    """
    if not settings.report:
        return result
    try:
        files = report.write(settings.output, result, names=settings.report_names, **what)
    except OSError as error:
        on_event(Event("warning", text=f"the report could not be written: {error}"))
        return result
    return replace(result, files=tuple(files))


def _model_id(predictor: Any) -> str | None:
    card = getattr(predictor, "card", None)
    return None if card is None else str(card.id)


def _lanes(jobs: Sequence[Job], settings: Settings) -> int:
    """How many pictures at once."""
    if settings.jobs is not None:
        return max(1, min(settings.jobs, len(jobs)))
    if getattr(settings.device, "type", settings.device) == "mps":
        return 1  # not known to bear several threads
    return max(1, min(at_once(settings.budget_bytes), len(jobs)))


@dataclass(frozen=True)
class _Known:
    """What earlier runs reported, and the settings of this one."""

    rows: dict[str, dict[str, Any]]
    asked: dict[str, Any]


@dataclass(frozen=True)
class _Told:
    """What came of a picture, and what is said before it."""

    outcome: Outcome
    events: tuple[Event, ...] = ()


def _starved(told: _Told) -> bool:
    """Whether a picture failed for want of memory that others may have taken."""
    error = told.outcome.error or {}
    return error.get("code") in ("BudgetError", "MemoryError")


def _one(
    job: Job,
    predictor: Any,
    settings: Settings,
    ladder: Ladder,
    known: _Known,
) -> _Told:
    """One picture to its outcome; only Ctrl-C leaves it as an exception."""
    target = settings.output / job.output
    try:
        if job.error is None and target.exists() and not settings.overwrite:
            return _Told(kept(job, target, known.rows, settings.files.also, known.asked))
        return _Told(deliver(job, target, predictor, settings, ladder))
    except Exception as error:  # the one broad catch: a bad picture must not end the others
        if _broken_off(error):
            raise KeyboardInterrupt from error
        events: tuple[Event, ...] = ()
        if settings.traces and not isinstance(error, HzError):
            events = (Event("note", text=traceback.format_exc()),)
        return _Told(failed(job, error), events)


def _broken_off(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the bottom of an error: a library that it ends while it starts says
    that it cannot be imported, and what is tidied up after it may fail."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _remove_empty_of(jobs: Sequence[Job], root: Path) -> None:
    """Remove the folders that were made for pictures that failed. Only when all have come to an
    end: a folder that is empty may be another picture's, about to be written."""
    for folder in dict.fromkeys((root / job.output).parent for job in jobs):
        _remove_empty(folder, root)


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove the folders made for a picture that failed: `folder` and up, as far as `root`."""
    while folder.is_relative_to(root) and folder != root:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
