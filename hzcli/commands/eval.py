"""`hz eval`: pictures that any tool has made, against their ground truth and each other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hzcli import __version__, report
from hzcli.engine import pairing
from hzcli.engine.delivery import check_size, opened
from hzcli.engine.fates import failed
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import COMPOSITES, Job, PairingRules
from hzcli.engine.walk import Listing
from hzcli.errors import HzError, PictureError, UsageError
from hzcli.report import Event, Result

if TYPE_CHECKING:
    from hzcli.evaluation.groups import Origins

__all__ = ["BASELINES", "Score", "evaluate"]

NAMES = ("eval.json", "eval.csv")
SHEET = "contact-worst.png"
BASELINES = ("reinhard",)
WORST = 10
LEAST_EDGE = 16


@dataclass(frozen=True)
class Score(Outcome):
    """How near one picture is to its ground truth.

    composite: what it was made from, where that is known. name: what the picture is called in
        the set, whatever tool made it. source: the data set or folder that it is from. kind: how
        its foreground was recoloured, where the set says so.
    """

    truth: str | None = None
    composite: str | None = None
    name: str = ""
    source: str = ""
    kind: str = ""


@dataclass(frozen=True)
class _Pair:
    """A result's job, its composite, and the same picture among the results to compare with."""

    job: Job
    composite: Path | None
    against: Path | None = None


@dataclass(frozen=True)
class _Wanted:
    """What is measured of every picture; earlier: figures of an earlier evaluation."""

    protocols: Sequence[str]
    baselines: Sequence[str]
    edge: int | None
    earlier: Mapping[str, Mapping[str, Any]]
    origins: Origins


def evaluate(
    results: Path,
    rules: PairingRules,
    *,
    composites: Path | None = None,
    suffix: str = "",
    protocols: Sequence[str] = ("standard",),
    baselines: Sequence[str] = (),
    against: Path | None = None,
    edge: int | None = None,
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
        baselines: of BASELINES: measured beside doing nothing.
        against: other results of the same composites, or the eval.json of an earlier evaluation.
        edge: measure squares of so many pixels as well, under "PROTOCOL@EDGE".
        output: folder for eval.json, eval.csv and contact-worst.png; None writes nothing.

    Returns:
        One `Score` a picture. In the summary, for each protocol: means by foreground share,
        "sources" by source and "kinds" by recolouring, as `report.means` has them, and "paired"
        as `evaluation.against.paired` has it.

    Raises:
        UsageError: the plan cannot be carried out.
    """
    start = time.perf_counter()
    from hzcli.evaluation import against as other_results
    from hzcli.evaluation.groups import Origins
    from hzcli.evaluation.measure import reduced

    _check(composites, baselines, against, edge)
    pairs = _pairs(results, rules, composites, suffix, against)
    earlier = other_results.earlier(against) if against is not None and against.is_file() else {}
    wanted = _Wanted(protocols, baselines, edge, earlier, Origins())
    on_event(Event("begin", count=len(pairs)))
    scores: list[Score] = []
    interrupted = False
    try:
        for pair in pairs:
            on_event(Event("start", text=str(pair.job.composite)))
            scores.append(_score(pair, wanted))
            on_event(Event("row", row=scores[-1]))
    except KeyboardInterrupt:
        interrupted = True
    rows = [score.as_dict() for score in scores]
    names = [*protocols, *([] if edge is None else (reduced(name, edge) for name in protocols))]
    summary: dict[str, Any] = {
        "version": __version__,
        "seconds": round(time.perf_counter() - start, 3),
        "protocols": names,
        "means": report.means(rows),
        "sources": report.means(rows, by=lambda row: row["source"] or None),
        "kinds": report.means(rows, by=lambda row: row["kind"] or None),
    }
    if against is not None:
        summary["against"] = str(against)
        summary["paired"] = {name: other_results.paired(rows, name) for name in names}
        if not any(summary["paired"].values()):
            text = f"--against {against} shares no picture with {results}"
            on_event(Event("warning", text=text))
    result = Result(
        "eval", outcomes=tuple(scores), interrupted=interrupted, output=output, summary=summary
    )
    if output is None:
        return result
    try:
        files = report.write(output, result, names=NAMES)
        files += _sheet(output / SHEET, rows, protocols[0])
        return replace(result, files=tuple(files))
    except OSError as error:
        on_event(Event("warning", text=f"the report could not be written: {error}"))
        return result


def _check(
    composites: Path | None, baselines: Sequence[str], against: Path | None, edge: int | None
) -> None:
    for name in baselines:
        if name not in BASELINES:
            raise UsageError(f'there is no baseline "{name}"', f"Known: {', '.join(BASELINES)}.")
    if composites is None and (baselines or (against is not None and against.is_dir())):
        raise UsageError(
            "other results can only be told apart with the composites",
            "Add --composites DIR.",
        )
    if against is not None and not against.exists():
        raise UsageError(f"--against {against} does not exist", "Check its spelling.")
    if edge is not None and edge < LEAST_EDGE:
        raise UsageError(
            f"--edge {edge} is too small to measure anything", f"Give {LEAST_EDGE} or more: 256."
        )


def _sheet(path: Path, rows: Sequence[Mapping[str, Any]], protocol: str) -> list[Path]:
    """The worst pictures by absolute error and, where composites are known, by ratio."""
    from hzcli.evaluation import contact_sheet
    from hzcli.evaluation.against import worst

    heads = {"error": "largest error", "ratio": "largest error relative to doing nothing"}
    columns = [
        (f"{head} ({protocol} protocol)", [contact_sheet.entry(row, protocol) for row in found])
        for by, head in heads.items()
        if (found := worst(rows, protocol, by, WORST))
    ]
    if not columns:
        return []
    contact_sheet.draw(columns, path)
    return [path]


def _pairs(
    results: Path,
    rules: PairingRules,
    composites: Path | None,
    suffix: str,
    against: Path | None,
) -> list[_Pair]:
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
        return [_Pair(_truth_wanted(job), None) for job in pairing.find([results], rules)]
    if pairing.real(composites) == pairing.real(results):
        raise UsageError(f"{results} holds both results and composites", "Name two folders.")
    # Results that lie inside the composites' folder are not composites.
    outside = replace(rules, output=results) if results.is_dir() else rules
    listing = Listing()
    jobs = pairing.find([composites], outside)
    # Nor are the others.
    inside = None if against is None or not against.is_dir() else pairing.real(against)
    return [
        _Pair(
            _made_from(_truth_wanted(job), results, suffix, listing),
            job.composite,
            _beside(job, against, suffix, listing),
        )
        for job in jobs
        if inside is None or not pairing.real(job.composite).is_relative_to(inside)
    ]


def _beside(job: Job, against: Path | None, suffix: str, listing: Listing) -> Path | None:
    """The same picture among the results to compare with."""
    if against is None or not against.is_dir():
        return None
    for ending in dict.fromkeys((suffix, "")):
        found = _made_from(replace(job, error=None), against, ending, listing)
        if found.error is None:
            return found.composite
    return None


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


def _score(pair: _Pair, wanted: _Wanted) -> Score:
    """One picture measured; a failure is its own."""
    start = time.perf_counter()
    job, composite = pair.job, pair.composite
    known = wanted.origins.of(composite or job.composite, job.output)
    told: dict[str, Any] = {
        "truth": None if job.truth is None else str(job.truth),
        "composite": None if composite is None else str(composite),
        "name": job.output.with_suffix("").as_posix(),
        "source": known.source,
        "kind": known.kind,
    }
    try:
        figures = _measure(pair, told["name"], wanted)
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


def _measure(pair: _Pair, name: str, wanted: _Wanted) -> dict[str, Any]:
    from hzcli.evaluation import measure
    from hzcli.evaluation.against import look_up
    from hzcli.evaluation.reinhard import Reinhard
    from hzcli.io.masks import union
    from hzcli.io.picture import open_picture

    warnings: list[str] = []
    with opened(pair.job) as found, contextlib.ExitStack() as files:
        reader, mask, truth = found.reader, union(found.masks), found.truth
        assert truth is not None, "a job without truth has an error"
        sides: dict[str, Any] = {}
        if pair.composite is not None:
            sides["before"] = files.enter_context(open_picture(pair.composite))
            check_size(sides["before"], reader, "composite", PictureError)
        sides["after"] = reader
        if "reinhard" in wanted.baselines:
            sides["reinhard"] = Reinhard(sides["before"], mask)
        if pair.against is not None:
            try:  # what it is compared with must not fail the picture
                other = files.enter_context(open_picture(pair.against))
                check_size(other, reader, "result to compare with", PictureError)
                sides["against"] = other
            except HzError as error:
                warnings.append(f"not compared: {error.message}")
        metrics, foreground = measure.full_size(sides, truth, mask, wanted.protocols)
        if wanted.edge is not None:
            metrics |= measure.at_edge(sides, truth, mask, wanted.protocols, wanted.edge)
        for protocol, earlier in look_up(wanted.earlier, name).items():
            if protocol in metrics and "after" in earlier:
                metrics[protocol]["against"] = dict(earlier["after"])
        return {
            "width": reader.size.width,
            "height": reader.size.height,
            "depth_in": reader.depth,
            "foreground": foreground,
            "metrics": metrics,
            "warnings": tuple(warnings),
        }
