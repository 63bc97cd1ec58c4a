"""`hz eval`: pictures that any tool has made, against their ground truth."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hzcli import __version__, report
from hzcli.engine import pairing
from hzcli.engine.batch import check_size, failed, opened
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import COMPOSITES, Job, PairingRules
from hzcli.engine.walk import Listing
from hzcli.errors import PictureError, UsageError
from hzcli.report import Event, Result

__all__ = ["Score", "evaluate"]

NAMES = ("eval.json", "eval.csv")
BAND_PIXELS = 1 << 22  # read at once


@dataclass(frozen=True)
class Score(Outcome):
    """How near one picture is to its ground truth.

    composite: what it was made from, where that is known. source: the folder that it is from.
    """

    truth: str | None = None
    composite: str | None = None
    source: str = ""


def evaluate(
    results: Path,
    rules: PairingRules,
    *,
    composites: Path | None = None,
    suffix: str = "",
    protocols: Sequence[str] = ("standard",),
    output: Path | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Result:
    """Measure pictures, by the protocols of `hzcli.metrics`.

    Args:
        results: a folder of pictures, or one.
        rules: where masks and ground truths are. With `composites` they are looked for beside
            these, else beside the results.
        composites: what the results were made from, in the same tree; doing nothing is then
            the baseline.
        suffix: composite X was made into XSUFFIX, as "_harm".
        output: folder for eval.json and eval.csv; None writes nothing.

    Returns:
        One `Score` a picture; means by foreground share and by folder in the summary.

    Raises:
        UsageError: the plan cannot be carried out.
    """
    start = time.perf_counter()
    pairs = _pairs(results, rules, composites, suffix)
    on_event(Event("begin", count=len(pairs)))
    scores: list[Score] = []
    interrupted = False
    try:
        for job, composite in pairs:
            on_event(Event("start", text=str(job.composite)))
            scores.append(_score(job, composite, protocols))
            on_event(Event("row", row=scores[-1]))
    except KeyboardInterrupt:
        interrupted = True
    rows = [score.as_dict() for score in scores]
    result = Result(
        "eval",
        outcomes=tuple(scores),
        interrupted=interrupted,
        output=output,
        summary={
            "version": __version__,
            "seconds": round(time.perf_counter() - start, 3),
            "protocols": list(protocols),
            "means": report.means(rows),
            "sources": report.means(rows, by=lambda row: row["source"] or None),
        },
    )
    if output is None:
        return result
    try:
        return replace(result, files=tuple(report.write(output, result, names=NAMES)))
    except OSError as error:
        on_event(Event("warning", text=f"the report could not be written: {error}"))
        return result


def _pairs(
    results: Path, rules: PairingRules, composites: Path | None, suffix: str
) -> list[tuple[Job, Path | None]]:
    """Each result with its mask and truth, as a job whose picture it is, and its composite."""
    if not results.exists():
        raise UsageError(f"{results} does not exist", "Check the spelling of the results.")
    if not (rules.truth_dir or rules.truth_suffix or rules.layout):
        raise UsageError(
            "where are the ground truths?",
            "Give --truth-dir DIR, --truth-suffix _gt or --layout iharmony4.",
        )
    if composites is None:
        if suffix:
            raise UsageError(
                "--suffix says what follows a composite's name", "Add --composites DIR."
            )
        return [(_truth_wanted(job), None) for job in pairing.find([results], rules)]
    if pairing.real(composites) == pairing.real(results):
        raise UsageError(f"{results} holds both results and composites", "Name two folders.")
    # Results that lie inside the composites' folder are not composites.
    outside = replace(rules, output=results) if results.is_dir() else rules
    listing = Listing()
    jobs = pairing.find([composites], outside)
    return [
        (_made_from(_truth_wanted(job), results, suffix, listing), job.composite) for job in jobs
    ]


def _truth_wanted(job: Job) -> Job:
    if job.error is None and job.truth is None:
        return replace(job, error=PictureError("no ground truth was found", "Check its name."))
    return replace(job, warnings=())


def _made_from(job: Job, results: Path, suffix: str, listing: Listing) -> Job:
    """The job of the result that was made from this one's composite."""
    if results.is_file():
        return replace(job, composite=results)
    relative, stem = job.output, job.composite.stem + suffix
    # The same tree, the same without iHarmony4's folder, or all in one folder.
    flat = Path(*(part for part in relative.parent.parts if part != COMPOSITES))
    for folder in dict.fromkeys((results / relative.parent, results / flat, results)):
        found = listing.find(folder, stem, but=job.composite)
        if len(found) > 1:
            names = " and ".join(path.name for path in found)
            return replace(job, error=PictureError(f"{len(found)} results: {names}", "Leave one."))
        if found:
            return replace(job, composite=found[0])
    missing = PictureError(
        f"no result: looked for {results / relative.parent / stem}.*",
        "If results are called otherwise, say how with --suffix.",
    )
    return replace(job, error=job.error or missing)


def _score(job: Job, composite: Path | None, protocols: Sequence[str]) -> Score:
    """One picture measured; a failure is its own."""
    start = time.perf_counter()
    told: dict[str, Any] = {
        "truth": None if job.truth is None else str(job.truth),
        "composite": None if composite is None else str(composite),
        "source": _source(job.output),
    }
    try:
        figures = _measure(job, composite, protocols)
    except Exception as error:  # as a batch: a bad picture must not end the others
        return Score(**{**vars(failed(job, error)), **told})
    return Score(
        input=str(job.composite),
        mask=str(job.mask),
        seconds={"total": time.perf_counter() - start},
        plan=f"against {job.truth}",
        **figures,
        **told,
    )


def _source(relative: Path) -> str:
    """The folder that a picture is from: of iHarmony4 the sub-dataset."""
    parts = [part for part in relative.parent.parts if part != COMPOSITES]
    return parts[0] if parts else ""


def _measure(job: Job, composite: Path | None, protocols: Sequence[str]) -> dict[str, Any]:
    import numpy as np

    from hzcli.core.window import bands
    from hzcli.io.picture import open_picture
    from hzcli.metrics import StreamedMetrics

    with opened(job) as (reader, mask, truth), contextlib.ExitStack() as files:
        assert truth is not None, "a job without truth has an error"
        before = None
        if composite is not None:
            before = files.enter_context(open_picture(composite))
            check_size(before, reader, "composite", PictureError)
        sides = {"after": reader} if before is None else {"before": before, "after": reader}
        meters = {name: {side: StreamedMetrics(name) for side in sides} for name in protocols}
        covered = 0.0
        for window in bands(reader.size, max(1, BAND_PIXELS // reader.size.width)):
            soft, real = mask.read(window), truth.read(window)
            covered += float(soft.sum(dtype=np.float64)) / np.iinfo(soft.dtype).max
            for side, picture in sides.items():
                codes = picture.read(window)
                for name in protocols:
                    meters[name][side].update(codes, real, soft, window)
        return {
            "width": reader.size.width,
            "height": reader.size.height,
            "depth_in": reader.depth,
            "foreground": covered / reader.size.pixels,
            "metrics": {
                name: {side: meter.compute() for side, meter in pair.items()}
                for name, pair in meters.items()
            },
        }
