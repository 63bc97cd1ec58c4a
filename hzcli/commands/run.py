"""`hz run`: harmonise pictures and folders of pictures, with one model or with several."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hzcli import __version__, auto, catalog, report
from hzcli.engine import earlier, naming, pairing
from hzcli.engine.batch import OnEvent, Settings, run_batch, with_report
from hzcli.engine.fates import check, failed, kept
from hzcli.engine.naming import Template
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import Job, PairingRules
from hzcli.engine.walk import passed_over
from hzcli.errors import HzError, ModelError, UsageError
from hzcli.io.writers.choices import suffix_for
from hzcli.report import Event, Result

__all__ = ["Compared", "Fate", "run"]

ALL = "all"  # instead of a model: every one that is installed
AUTO = "auto"  # instead of a model: the one that suits the purpose


@dataclass(frozen=True)
class Fate(Outcome):
    """What would become of a picture: "ready", "kept" or "failed"."""

    truth: str | None = None


@dataclass(frozen=True)
class Compared:
    """One model among several: what it did to the same pictures.

    metrics: {protocol: {"before", "after", "ratio", "worse"}}, as `report.means` has them.
    seconds: mean wall time a picture. change_mean: mean of the pictures' own.
    """

    model: str
    status: str
    output: str | None = None
    done: int = 0
    kept: int = 0
    failed: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    change_mean: float | None = None
    error: dict[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def run(
    inputs: Sequence[Path],
    rules: PairingRules,
    settings: Settings,
    *,
    models: Sequence[str | Path],
    purpose: str = "quality",
    name: str | None = None,
    dry_run: bool = False,
    on_event: OnEvent = lambda event: None,
) -> Result:
    """Pair, then harmonise every picture that has a mask.

    Args:
        inputs: files and folders.
        rules: where masks and ground truths are.
        settings: how to harmonise. `device` is a name as the user gives it. With a `shard` only
            that share is done; names are given, and checked, as for the whole batch.
        models: ids of installed weights ("all" for every one, "auto" for the one that suits
            `purpose`, see `hzcli.auto`), or files of weights. Several write into a folder each,
            named for them, and are compared. None with `settings.curves`, which take their place.
        name: how results are called, see `engine.naming`.
        dry_run: foretell every picture's fate; nothing is written, no model is loaded.
        on_event: told what happens while it happens.

    Returns:
        One outcome (dry run: one `Fate`) a picture and model.

    Raises:
        UsageError: the plan cannot be carried out. ModelError, DeviceError: nor can any picture.
            In each case nothing has been written.
    """
    template = None if name is None else naming.parse(name)
    models, settings = _chosen(models, purpose, settings, on_event)
    edited = _edited(settings, models)
    named = [] if edited else _named(models)
    several = len(named) > 1 or ALL in models
    if settings.background is not None and not settings.background.is_file():
        raise UsageError(f"--background {settings.background} is not a file", "Check its spelling.")
    paired = pairing.find(inputs, replace(rules, output=settings.output), named=False)
    notices = passed_over(inputs, (settings.output, rules.mask_dir, rules.truth_dir))
    for text in notices:
        on_event(Event("warning", text=text))
    places = [_into(settings, each) if several else settings for each in named] or [settings]
    work = [
        (place, _called(paired, template, place, each))
        for place, each in zip(places, named or [settings.curves or ""], strict=True)
    ]
    if (shard := settings.shard) is not None:
        mine = shard.places(paired)
        work = [(place, [jobs[at] for at in mine]) for place, jobs in work]
        on_event(Event("info", text=f"share {shard}: {len(mine)} of {len(paired)} pictures"))
    if dry_run:
        fates: list[Fate] = []
        for at, (place, jobs) in enumerate(work):
            foretold, more = _foretold(jobs, place, named[at] if named else None)
            fates += foretold
            notices += more
            for text in more:
                on_event(Event("warning", text=text))
        told = {"shard": None if shard is None else str(shard), "warnings": notices}
        return Result(command="run", outcomes=tuple(fates), summary=told)

    from hzcli.engine import device

    taken, note = device.pick(settings.device)
    on_event(Event("info" if settings.device == "auto" else "note", text=f"device: {note}"))
    work = [(replace(place, device=taken), jobs) for place, jobs in work]
    if several:
        return _compare(work, named, settings, on_event, notices)
    place, jobs = work[0]
    return run_batch(jobs, edited or _loaded(named[0], place), place, on_event, notices)


def _chosen(
    models: Sequence[str | Path], purpose: str, settings: Settings, on_event: OnEvent
) -> tuple[Sequence[str | Path], Settings]:
    """The models, with "auto" resolved, and the settings with the mode that it asks for."""
    if AUTO not in models:
        return models, settings
    choice = auto.choose(purpose, catalog.installed())
    on_event(Event("info", text=f"model: {choice.reason}"))
    if choice.mode == "lut":
        settings = replace(settings, mode=choice.mode)
    return [choice.name if model == AUTO else model for model in models], settings


def _called(
    jobs: Sequence[Job], template: Template | None, place: Settings, model: str | Path
) -> list[Job]:
    """The jobs with the names of their results, none of which meets another or an input."""
    from hzcli.io.picture import peek

    def size(job: Job) -> Any:
        try:
            return peek(job.composite).size
        except HzError:
            return None  # the picture will fail, and say why

    out = place.files.out
    found = naming.named(
        jobs, template, suffix=lambda path: suffix_for(out, path), model=_id(model),
        mode=place.mode, size=size,
    )  # fmt: skip
    naming.check(found, place.output, place.files.also)
    return found


def _edited(settings: Settings, models: Sequence[str | Path]) -> Any:
    """What answers with the curves of a file, where there is one."""
    if settings.curves is None:
        return None
    if models or settings.background is not None:
        raise UsageError(
            "--curves goes with no --model, --weights or --background: it takes their place",
            "Leave them out.",
        )
    from hzcli.engine.looks import edited

    return edited.load(settings.curves)


def _named(models: Sequence[str | Path]) -> list[str | Path]:
    """The models, each once."""
    names: list[str | Path] = []
    for model in models:
        names += [card.id for card in catalog.installed()] if model == ALL else [model]
    if not names:
        raise ModelError("no weights are installed", "hz models import FILE brings some in.")
    return list(dict.fromkeys(names))


def _id(name: str | Path) -> str:
    return name.stem if isinstance(name, Path) else Path(name).name


def _into(settings: Settings, name: str | Path) -> Settings:
    return replace(settings, output=settings.output / _id(name))


def _loaded(name: str | Path, settings: Settings) -> Any:
    from hzcli import models  # after `pick`, which sets how torch's threads wait

    predictor = models.load(name, settings.device)
    if settings.background is not None and not getattr(predictor, "takes_reference", False):
        raise UsageError(
            f"{_id(name)} takes no --background: it harmonises towards each picture's own",
            "Choose weights of S2CRNet with --model; hz models lists them.",
        )
    return predictor


def _compare(
    work: Sequence[tuple[Settings, Sequence[Job]]],
    named: Sequence[str | Path],
    settings: Settings,
    on_event: OnEvent,
    notices: Sequence[str],
) -> Result:
    """Every model into its own folder, and one report about them all above."""
    start = time.perf_counter()
    rows: list[Compared] = []
    outcomes: list[Any] = []
    codes: list[int] = []
    warnings = list(notices)
    interrupted = False
    for name, (place, jobs) in zip(named, work, strict=True):
        on_event(Event("info", text=f"model {len(rows) + 1} of {len(named)}: {_id(name)}"))
        try:
            result = run_batch(jobs, _loaded(name, place), place, on_event)
        except HzError as error:
            said = {"code": type(error).__name__, "message": error.message, "hint": error.hint}
            on_event(Event("warning", text=f"{_id(name)}: {error}"))
            rows.append(Compared(_id(name), "failed", error=said))
            codes.append(error.exit_code)
            continue
        except KeyboardInterrupt:
            interrupted = True
            break
        rows.append(_compared(_id(name), result))
        outcomes += result.outcomes
        warnings += result.summary["warnings"]
        codes.append(result.exit_code)
        if result.interrupted:
            interrupted = True
            break
    # Nothing but failed models: the first one's error is what went wrong.
    told = codes[0] if all(row.error for row in rows) and codes else int(any(codes))
    result = Result(
        command="run",
        outcomes=tuple(outcomes),
        interrupted=interrupted,
        output=settings.output,
        summary={
            "version": __version__,
            "pictures_found": len(work[0][1]),
            "shard": None if settings.shard is None else str(settings.shard),
            "seconds": round(time.perf_counter() - start, 3),
            "models": [row.as_dict() for row in rows],
            "warnings": warnings,
        },
        exit=told,
    )
    if not outcomes:
        return result
    return with_report(result, settings, on_event, rows=rows, key="models")


def _compared(name: str, result: Result) -> Compared:
    rows = [row.as_dict() for row in result.outcomes]

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return Compared(
        model=name,
        status="failed" if rows and result.count("failed") == len(rows) else "done",
        output=str(result.output),
        done=result.count("done"),
        kept=result.count("kept"),
        failed=result.count("failed"),
        metrics={protocol: groups["all"] for protocol, groups in result.summary["means"].items()},
        seconds=mean([row["seconds"].get("total") for row in rows]),
        change_mean=mean([row["change_mean"] for row in rows]),
    )


def _foretold(
    jobs: Sequence[Job], settings: Settings, model: str | Path | None
) -> tuple[list[Fate], list[str]]:
    """Every picture's fate with one model, and what is to be said of them all."""
    asked = settings.as_dict()
    if model in [card.id for card in catalog.installed()]:
        asked["model"] = model  # else only a file would tell what it is called
    known = report.previous(settings.output)
    fates = [_fate(job, settings, known, asked) for job in jobs]
    return fates, earlier.notices(fates, asked)


def _fate(
    job: Job, settings: Settings, known: dict[str, dict[str, Any]], asked: dict[str, Any]
) -> Fate:
    target = settings.output / job.output
    try:
        if job.error is None and target.exists() and not settings.overwrite:
            outcome = kept(job, target, known, settings.files.also, asked)
        else:
            outcome = replace(check(job, settings.files), output=str(target))
    except (HzError, OSError) as error:
        outcome = failed(job, error)
    return Fate(**vars(outcome), truth=None if job.truth is None else str(job.truth))
