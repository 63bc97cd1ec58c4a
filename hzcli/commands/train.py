"""`hz train`: make weights from photographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hzcli.errors import UsageError
from hzcli.report import Event, Result

if TYPE_CHECKING:
    from torch import Tensor

    from hzcli.train.recipes import Recipe

__all__ = ["train"]

FINE_TUNING = 0.1  # of a recipe's rate, for weights of its own model


def train(
    recipe: str,
    data: list[Path],
    *,
    output: Path | None = None,
    resume: bool = False,
    init: str | Path | None = None,
    minutes: float | None = None,
    steps: int | None = None,
    fit: bool = False,
    freeze: Sequence[str] = (),
    device: str = "auto",
    seed: int = 0,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Result:
    """Train until the recipe's steps are done or the time is up, and export the weights that
    validated best.

    Args:
        recipe: a name in `hzcli.train.recipes.RECIPES`.
        data: photo packs, folders of photographs, or iHarmony4's folder.
        output: the run's folder (default: ./runs/RECIPE): checkpoint, curve, weights.
        resume: go on with the run in `output`.
        init: weights to start from: an installed id or a file. Those of the same model bring
            their own configuration and are trained at FINE_TUNING of the recipe's rate; others
            lend their encoder; what the recipe calls frozen stays as they have it.
        fit: take the recipe's whole schedule within `minutes`.
        freeze: parts of the network, by name, that are not trained: an encoder that was lent.
        minutes: stop after this much time; a later call resumes.
        steps: length of the whole schedule instead of the recipe's; a resumed run keeps its own.
        device: as `hz run`'s.

    Raises:
        UsageError: unknown recipe, no photographs, or a run in the way.
        DeviceError: the device is not there.
    """
    from hzcli.engine import device as devices

    taken, note = devices.pick(device)

    from hzcli.train import loop, recipes
    from hzcli.train.export import export
    from hzcli.train.refit import refit

    plan = recipes.get(recipe, steps=steps)
    start = None
    if plan.refit and freeze:
        raise UsageError(f"{recipe} trains last layers alone", "Leave --freeze out.")
    if fit and minutes is None:
        raise UsageError("--fit is for a time", "Say how long with --minutes.")
    if init is not None and not resume:
        plan, start = _from_weights(plan, init)
    plan = replace(plan, frozen=tuple(freeze) or (plan.frozen if init is not None else ()))
    folder = output or Path("runs") / recipe
    on_event(Event("info", text=f"device: {note}"))

    def tell(event: dict) -> None:
        figures = {k: v for k, v in event.items() if k != "event"}
        if event["event"] == "validated":
            on_event(Event("step", data=figures))
        else:
            on_event(Event("info", text=", ".join(f"{k} {v}" for k, v in figures.items())))

    run = refit if plan.refit else loop.train
    done = run(
        plan, data, folder, resume=resume, init=start, minutes=minutes, fit=fit, device=taken,
        seed=seed, on_event=tell,
    )  # fmt: skip
    weights = export(folder)
    rows = {row["step"]: row for row in done["history"]}
    summary = {
        **rows.get(done["best"], {}),
        "minutes": max((row["minutes"] for row in done["history"]), default=0.0),
        "step": done["step"],
        "steps": plan.steps,
        "best_step": done["best"],
        "weights": str(weights),
    }
    return Result(
        "train", output=folder, files=(weights, weights.with_suffix(".json")), summary=summary
    )


def _from_weights(plan: Recipe, init: str | Path) -> tuple[Recipe, dict[str, Tensor]]:
    """The recipe, and the weights to start from.

    Weights of the same model bring their configuration; those of another model the size of
    their encoder.
    """
    from hzcli import models
    from hzcli.train.adopt import sized
    from hzcli.train.recipes import config_class

    model = models.load(init)
    if isinstance(model.config, config_class(plan.model)):
        # Weights that know the work already: a full rate would first undo what they learnt.
        rate = plan.rate if plan.refit else FINE_TUNING * plan.rate
        plan = replace(plan, config=model.config, published="", rate=rate, norms_until=0.0)
    elif plan.config is not None:
        plan = replace(plan, config=sized(plan.config, model.state_dict()))
    return plan, model.state_dict()
