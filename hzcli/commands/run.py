"""`hz run`: harmonise pictures and folders of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hzcli.engine import pairing
from hzcli.engine.batch import OnEvent, Settings, check, failed, kept, run_batch
from hzcli.engine.outcome import Outcome
from hzcli.engine.pairing import Job, PairingRules
from hzcli.errors import HzError
from hzcli.report import Event, Result

__all__ = ["Fate", "run"]


@dataclass(frozen=True)
class Fate(Outcome):
    """What would become of a picture: "ready", "kept" or "failed"."""

    truth: str | None = None


def run(
    inputs: Sequence[Path],
    rules: PairingRules,
    settings: Settings,
    *,
    model: str | Path,
    dry_run: bool = False,
    on_event: OnEvent = lambda event: None,
) -> Result:
    """Pair, then harmonise every picture that has a mask.

    Args:
        inputs: files and folders.
        rules: where masks and ground truths are.
        settings: how to harmonise. `device` is a name as the user gives it.
        model: the id of installed weights, or a file of weights.
        dry_run: foretell every picture's fate; nothing is written, no model is loaded.
        on_event: told what happens while it happens.

    Returns:
        One outcome (dry run: one `Fate`) a picture.

    Raises:
        UsageError: the plan cannot be carried out. ModelError, DeviceError: nor can any picture.
            In each case nothing has been written.
    """
    jobs = pairing.find(inputs, replace(rules, output=settings.output))
    if dry_run:
        return Result(command="run", outcomes=tuple(_fate(job, settings) for job in jobs))

    from hzcli.engine import device

    taken, note = device.pick(settings.device)

    from hzcli import models  # after `pick`, which sets how torch's threads wait

    predictor = models.load(model, taken)
    on_event(Event("info" if settings.device == "auto" else "note", text=f"device: {note}"))
    return run_batch(jobs, predictor, replace(settings, device=taken), on_event)


def _fate(job: Job, settings: Settings) -> Fate:
    target = settings.output / job.output
    try:
        if job.error is None and target.exists() and not settings.overwrite:
            outcome = kept(job, target)
        else:
            outcome = replace(check(job), output=str(target))
    except (HzError, OSError) as error:
        outcome = failed(job, error)
    return Fate(**vars(outcome), truth=None if job.truth is None else str(job.truth))
