"""Many pictures, some at once: a failure is recorded and the rest goes on.

torch is imported when the first picture is opened, so that a dry run shares the checks below
without it.
"""

from __future__ import annotations

import contextlib
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hzcli import __version__, report
from hzcli.engine.delivery import FileSettings, deliver, opened
from hzcli.engine.naming import beside
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import Job
from hzcli.engine.pipeline import Pipeline
from hzcli.engine.plan import at_once, shared
from hzcli.engine.shared_network import Shared, Threads
from hzcli.errors import HzError
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
    traces: bool = False
    files: FileSettings = field(default_factory=FileSettings)


def check(job: Job, files: FileSettings | None = None) -> Outcome:
    """What the headers of a job's files say: an outcome with the picture's size and depth.

    Raises:
        HzError: the job cannot be done.
    """
    with opened(job, files) as found:
        size, depth = found.reader.size, found.reader.depth
        notes = (*job.warnings, *found.warnings)
    return replace(
        _blank(job), width=size.width, height=size.height, depth_in=depth, warnings=notes
    )


def _blank(job: Job) -> Outcome:
    return Outcome(
        input=str(job.composite),
        mask=None if job.mask is None else str(job.mask),
        status="ready",
        warnings=job.warnings,
    )


def failed(job: Job, error: BaseException) -> Outcome:
    """The outcome of a job that `error` ended."""
    if isinstance(error, HzError):
        said = {"code": type(error).__name__, "message": error.message, "hint": error.hint}
    elif isinstance(error, OSError):
        place = f" ({error.filename})" if error.filename else ""
        said = {
            "code": "OSError",
            "message": f"{error.strerror or error}{place}",
            "hint": "Check free space and permissions.",
        }
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        said = {
            "code": "MemoryError",
            "message": "the memory did not suffice",
            "hint": "Allow less with --memory, or use --device cpu.",
        }
    else:
        said = {
            "code": type(error).__name__,
            "message": f"unexpected error: {error}" if str(error) else "unexpected error",
            "hint": "This is a fault of hz: -v shows where it arose.",
        }
    return replace(_blank(job), status="failed", error=said)


def run_batch(jobs: Sequence[Job], predictor: Any, settings: Settings, on_event: OnEvent) -> Result:
    """Harmonise every job; write `report.json` and `report.csv` beside the results.

    Args:
        jobs: from `pairing.find`.
        predictor: from `models.load`.
        settings: the same for all pictures.
        on_event: told of every picture as it starts and ends.

    Returns:
        One outcome a picture that was reached: "done", "kept" (its result was there already and
        carries the figures of the earlier report) or "failed". Interrupted by Ctrl-C, it holds
        the pictures finished until then.
    """
    start = time.perf_counter()
    earlier = report.previous(settings.output)
    lanes = _lanes(jobs, settings)
    asked = _settings_as_dict(settings, predictor) | {"jobs": lanes}
    outcomes: list[Outcome] = []
    interrupted = False

    def tell(told: _Told) -> None:
        outcomes.append(told.outcome)
        for event in (*told.events, Event("row", row=told.outcome)):
            on_event(event)

    def work(job: Job, beside: int) -> _Told:
        with shared(beside):
            return _one(job, shown, settings, ladder, earlier)

    on_event(Event("begin", count=len(jobs)))
    from hzcli.io.metadata.ladder import Ladder

    try:
        with Ladder(settings.files.metadata) as ladder, _steady_warnings(lanes):
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
                _remove_empty_of(jobs, settings.output)
            for told in left:  # finished before it was their turn
                tell(told)
            if ladder.warning:
                on_event(Event("warning", text=ladder.warning))
    except KeyboardInterrupt:
        interrupted = True

    def reported(interrupted: bool) -> Result:
        result = Result(
            command="run",
            outcomes=tuple(outcomes),
            interrupted=interrupted,
            output=settings.output,
            summary={
                "version": __version__,
                "pictures_found": len(jobs),
                "seconds": round(time.perf_counter() - start, 3),
                "settings": asked,
                "means": report.means([outcome.as_dict() for outcome in outcomes]),
            },
        )
        if not settings.report:
            return result
        try:
            return replace(result, files=tuple(report.write(settings.output, result)))
        except OSError as error:
            on_event(Event("warning", text=f"the report could not be written: {error}"))
            return result

    try:
        return reported(interrupted)
    except KeyboardInterrupt:  # it is short, and tells of all that was done
        return reported(True)


def _settings_as_dict(settings: Settings, predictor: Any) -> dict[str, Any]:
    return {
        "model": _model_id(predictor),
        "mode": settings.mode,
        "strength": settings.strength,
        "device": str(settings.device),
        "memory": settings.budget_bytes,
        "background": None if settings.background is None else str(settings.background),
        "curves": None if settings.curves is None else str(settings.curves),
        "protocols": list(settings.protocols),
        **settings.files.as_dict(),
    }


def _model_id(predictor: Any) -> str | None:
    card = getattr(predictor, "card", None)
    return None if card is None else str(card.id)


@contextlib.contextmanager
def _steady_warnings(lanes: int) -> Iterator[None]:
    """Python's warnings off while several threads work: the filters are the whole process's, and
    one thread that puts them back would let another's through."""
    with contextlib.ExitStack() as held:
        if lanes > 1:
            held.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        yield


def _lanes(jobs: Sequence[Job], settings: Settings) -> int:
    """How many pictures at once."""
    if settings.jobs is not None:
        return max(1, min(settings.jobs, len(jobs)))
    if getattr(settings.device, "type", settings.device) == "mps":
        return 1  # not known to bear several threads
    return max(1, min(at_once(settings.budget_bytes), len(jobs)))


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
    earlier: dict[str, dict[str, Any]],
) -> _Told:
    """One picture to its outcome; only Ctrl-C leaves it as an exception."""
    target = settings.output / job.output
    try:
        if job.error is None and target.exists() and not settings.overwrite:
            return _Told(kept(job, target, earlier, settings.files.also))
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


def kept(
    job: Job,
    target: Path,
    earlier: dict[str, dict[str, Any]] | None = None,
    also: Sequence[str] = (),
) -> Outcome:
    """The outcome of a job whose result exists, with the figures of the run that made it.

    What is missing of the companions `also` is said: they are made with a result only. So is a
    picture or a mask that was changed after the result.
    """
    outcome = replace(_blank(job), status="kept", output=str(target))
    missing = [path.name for path in (beside(target, kind) for kind in also) if not path.exists()]
    gaps = [f"kept, but not there: {', '.join(missing)} (-f makes all anew)"] if missing else []
    if changed := [
        path.name for path in dict.fromkeys((job.composite, *job.masks)) if _newer(path, target)
    ]:
        gaps.append(f"kept, but changed since: {', '.join(changed)} (-f makes all anew)")
    row = (earlier or {}).get(job.output.as_posix(), {})
    names = {entry.name for entry in fields(Outcome)} - {"input", "mask", "output", "status"}
    known = {name: row[name] for name in names & row.keys() if row[name] is not None}
    if "warnings" in known:
        known["warnings"] = tuple(known["warnings"])
    outcome = replace(outcome, **known)
    return replace(outcome, warnings=tuple(dict.fromkeys((*outcome.warnings, *gaps))))


def _newer(path: Path, than: Path) -> bool:
    try:
        return path.stat().st_mtime > than.stat().st_mtime
    except OSError:
        return False


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
