"""What becomes of one picture: ready to be done, failed, or kept as an earlier run made it.

No torch: a dry run asks the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from hzcli.engine.delivery import FileSettings, opened
from hzcli.engine.earlier import differing, made_with
from hzcli.engine.naming import beside
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import Job
from hzcli.errors import HzError

# What an outcome does not take over from an earlier report: these fields, and the warnings that
# begin so, for they are looked for again.
_KEPT = "kept, but "
_OF_THIS_RUN = {"input", "mask", "output", "status", "made_with", "differs"}


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


def kept(
    job: Job,
    target: Path,
    earlier: dict[str, dict[str, Any]] | None = None,
    also: Sequence[str] = (),
    asked: Mapping[str, Any] | None = None,
) -> Outcome:
    """The outcome of a job whose result exists, with the figures of the run that made it.

    What is missing of the companions `also` is said: they are made with a result only. So is a
    picture, a mask, a background or a file of curves that was changed after the result, and what
    of the settings `asked` differs from those that it was made with.
    """
    asked = {**(asked or {}), "mask": ", ".join(str(path) for path in job.masks)}
    others = [Path(asked[name]) for name in ("background", "curves") if asked.get(name)]
    outcome = replace(_blank(job), status="kept", output=str(target))
    missing = [path.name for path in (beside(target, kind) for kind in also) if not path.exists()]
    gaps = [f"{_KEPT}not there: {', '.join(missing)} (-f makes all anew)"] if missing else []
    if changed := [
        path.name
        for path in dict.fromkeys((job.composite, *job.masks, *others))
        if _newer(path, target)
    ]:
        gaps.append(f"{_KEPT}changed since: {', '.join(changed)} (-f makes all anew)")
    row = (earlier or {}).get(job.output.as_posix(), {})
    names = {entry.name for entry in fields(Outcome)} - _OF_THIS_RUN
    known = {name: row[name] for name in names & row.keys() if row[name] is not None}
    if "warnings" in known:
        known["warnings"] = tuple(w for w in known["warnings"] if not w.startswith(_KEPT))
    outcome = replace(outcome, **known)
    made = made_with(row, target)
    return replace(
        outcome,
        made_with=made,
        differs=differing(made, asked, target),
        warnings=tuple(dict.fromkeys((*outcome.warnings, *gaps))),
    )


def _newer(path: Path, than: Path) -> bool:
    try:
        return path.stat().st_mtime > than.stat().st_mtime
    except OSError:
        return False
