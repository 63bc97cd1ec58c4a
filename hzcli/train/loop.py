"""The training loop: one function from top to bottom.

A run lives in a folder: `checkpoint.pt` holds all that is needed to go on (weights, EMA,
optimizer, step, random states, recipe, history), `history.csv` the curve. It is written
beside and renamed, so that a kill leaves the last whole one.
"""

from __future__ import annotations

import copy
import csv
import itertools
import math
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hzcli.errors import UsageError
from hzcli.io.atomic import beside
from hzcli.train import echo
from hzcli.train.adopt import adopt, freeze, hold_norms
from hzcli.train.adversary import Adversary
from hzcli.train.charts import curve
from hzcli.train.compose import GIVEN, RETOUCH, Batch
from hzcli.train.losses import foreground_mse
from hzcli.train.objectives import OBJECTIVES, Stage, predictions
from hzcli.train.pairs import Mixture
from hzcli.train.prefetch import Prefetch
from hzcli.train.recipes import Recipe, build

CHECKPOINT = "checkpoint.pt"
VALIDATION_SEED = 20_231
LEAST_WARMUP = 20  # steps, however short a run is: Adam's averages are young
VALIDATIONS = 10  # of a run that is fitted into a time


def rate_at(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then the recipe's schedule."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    done = min(1.0, (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup))
    half_cosine = 0.5 * (1 + math.cos(math.pi * done))
    if not isinstance(recipe.schedule, str):
        return recipe.rate * [factor for start, factor in recipe.schedule if done >= start][-1]
    factor = {
        "cosine": 0.02 + 0.98 * half_cosine,
        "cosine0": half_cosine,
        "constant": 1.0,
        "linear": min(1.0, 2 * (1 - done)),
    }[recipe.schedule]
    return recipe.rate * factor


def optimizer_of(recipe: Recipe, model: torch.nn.Module) -> torch.optim.Optimizer:
    """Adam or AdamW; weight decay for matrices alone in our own recipes, for all in others."""
    # One pass over memory instead of ten: a seventh of a step on CPUs.
    fused = next(model.parameters()).device.type in ("cpu", "cuda")
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.rate, betas=recipe.betas,
                                weight_decay=recipe.weight_decay, fused=fused)  # fmt: skip
    matrices = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    decay = recipe.weight_decay if recipe.objective != "modern" else 0.0
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": rest, "weight_decay": decay}]
    return torch.optim.AdamW(
        groups,
        lr=recipe.rate, betas=recipe.betas, weight_decay=recipe.weight_decay, fused=fused,
    )  # fmt: skip


@torch.inference_mode()
def validate(
    model: Any, batches: list[Batch], edge: int, *, local: bool = True
) -> dict[str, float]:
    """Mean fMSE relative to doing nothing: of all, of the model's table alone if it has one,
    and by kind of recolouring; and the share of pictures made worse. local: False for a model
    whose table is all that is used."""
    model.eval()
    before, after, flat, kinds = [], [], [], []
    for batch in batches:
        stage = Stage(edge, batch.composite.shape[-1], local=local)
        out, table, _, b = predictions(model, batch, stage)
        if out is None:
            out, table = table, None
        assert out is not None
        before.append(foreground_mse(b.composite, b.truth, b.mask))
        after.append(foreground_mse(out.clamp(0, 1), b.truth, b.mask))
        if table is not None:
            flat.append(foreground_mse(table.clamp(0, 1), b.truth, b.mask))
        kinds.append(b.kind)
    model.train()
    x, y, kind = (torch.cat(v) for v in (before, after, kinds))
    figures = {"ratio": float(y.mean() / x.mean())}
    if flat:
        figures["lut"] = float(torch.cat(flat).mean() / x.mean())
    groups = {"retouch": kind == RETOUCH, "transfer": kind < RETOUCH, "given": kind == GIVEN}
    for name, group in groups.items():
        if group.any():
            figures[name] = float(y[group].mean() / x[group].mean())
    figures["worse"] = float((y > x).float().mean())
    return figures


def channels_last(model: Any) -> Any:
    """Convolutions' weights in that order: they cost half as much on CPUs, and bf16 wants it on
    GPUs. Weights of five dimensions, of HINet as published, know no such order, and stay."""
    for parameter in model.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def save(run: Path, state: dict) -> None:
    """Write a run's checkpoint and its history; each beside its place, and renamed."""
    with beside(run / CHECKPOINT) as part:
        torch.save(state, part)
    history = state["history"]
    with beside(run / "history.csv") as part, part.open("w", newline="") as f:
        columns = dict.fromkeys(name for row in history for name in row) or ["step"]
        writer = csv.DictWriter(f, list(columns))
        writer.writeheader()
        writer.writerows(history)
    curve(history, run / "history.png")


def opened(run: Path, resume: bool, device: torch.device | str) -> dict[str, Any] | None:
    """The checkpoint of a run to go on with; None where one is to begin.

    Raises:
        UsageError: there is a run already, and it is not to be resumed.
    """
    place = run / CHECKPOINT
    if not place.exists():
        return None
    if not resume:
        raise UsageError(f"{run} holds a run already", "pass --resume, or another folder")
    return torch.load(place, map_location=device, weights_only=True)


def train(
    recipe: Recipe,
    data: list[Path],
    output: Path,
    *,
    resume: bool = False,
    init: dict[str, Tensor] | None = None,
    minutes: float | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    fit: bool = False,
    validate_every: int = 500,
    save_seconds: float = 60.0,
    on_event: Callable[[dict], None] = lambda event: None,
) -> dict:
    """Train until the recipe's steps or the minutes are over; returns the last figures.

    A resumed run keeps the recipe and the seed it began with. `init` is a state dict to start
    from, this model's or another's with the same encoder. With `fit` the recipe's whole schedule
    takes place within `minutes`: what it says of steps happens at the same share of the time, and
    a resumed run goes on with what is left of it. Beside where the run stands, the checkpoint
    keeps the averaged weights that validated best: those are exported. If the process is killed,
    at most `save_seconds` of work are lost.

    Raises:
        UsageError: `output` holds a run already and `resume` is false.
    """
    started = time.monotonic()
    state = opened(output, resume, device)
    if state is not None:
        # The run goes on as it began, whatever the recipe of that name says by now.
        recipe, seed = Recipe.from_dict(state["recipe"]), state["seed"]
    output.mkdir(parents=True, exist_ok=True)
    device = torch.device(device)
    torch.manual_seed(seed)
    model = channels_last(build(recipe).to(device)).train()
    if init is not None:
        adopt(model, init)
    freeze(model, recipe.frozen)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = optimizer_of(recipe, model)
    adversary = Adversary(recipe.adversary, device) if recipe.adversary else None
    step, spent, history = 0, 0.0, []
    best: dict[str, Any] | None = None
    if state is not None:
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        if adversary:
            adversary.load_state_dict(state["adversary"])
        step, spent, history = state["step"], state["seconds"], state["history"]
        best = state.get("best")
    budget = 60 * minutes if fit and minutes is not None else None
    if state is not None:
        budget = state.get("budget")
    mixture = Mixture.load(data, "train", recipe, device, seed)
    judge = Mixture.load(data, "val", recipe, device, VALIDATION_SEED)
    edge = recipe.last_edge
    batches = judge.fixed(round(edge * max(1.0, recipe.picture)))
    on_event({"event": "data", **mixture.counts(), "held": sum(len(b.kind) for b in batches)})

    stop = []
    previous = signal.signal(signal.SIGTERM, lambda *_: stop.append(True))

    def seconds() -> float:
        return spent + time.monotonic() - started

    def position(at: int) -> int:
        """Where in the recipe's schedule a step is."""
        if budget is None:
            return at
        return min(recipe.steps - 1, int(recipe.steps * seconds() / budget))

    def checkpoint() -> None:
        save(output, {
            "model": model.state_dict(), "ema": ema.state_dict(),
            "optimizer": optimizer.state_dict(), "step": step, "seed": seed,
            "seconds": seconds(), "history": history,
            "recipe": recipe.as_dict(), "data": mixture.sources, "device": str(device),
            "adversary": adversary.state_dict() if adversary else None, "budget": budget,
            "best": best,
        })  # fmt: skip

    def stage_at(at: int) -> Stage:
        edge = recipe.edge_at(at)
        return Stage(edge, round(edge * recipe.picture), round(edge * recipe.crop),
                     at >= recipe.local_from * recipe.steps)  # fmt: skip

    ahead = itertools.count(step)

    kept: dict[int, tuple[Batch, Stage]] = {}

    def make() -> tuple[Batch, Stage]:
        at = next(ahead)
        number, turn, first = echo.use(at, recipe.echo)
        if number in kept:
            batch, stage = kept[number]
        else:
            stage = stage_at(position(first))
            batch = mixture.batch(recipe.batch, max(stage.edge, stage.picture), number)
        if turn + 1 < recipe.echo:
            kept[number] = batch, stage
        else:
            kept.pop(number, None)
        stage = replace(stage, local=stage_at(position(at)).local)
        return echo.mirrored(batch) if turn % 2 else batch, stage

    batches_ahead = Prefetch(make)
    objective = OBJECTIVES[recipe.objective]
    # Half the memory traffic where the hardware multiplies bf16; sums and colours stay float32.
    half = torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
    held = False  # batch normalisation's statistics
    running, waiting, counted, since = 0.0, 0.0, 0, time.monotonic()
    saved = since

    def judge_now() -> None:
        nonlocal running, waiting, counted, since, saved, best
        elapsed = time.monotonic() - since
        figures = validate(ema, batches, edge)
        row = {"step": step, "minutes": round(seconds() / 60, 2), **figures}
        if counted:
            row |= {
                "loss": running / counted, "pictures_per_s": recipe.batch * counted / elapsed,
                "waiting": waiting / elapsed,
            }  # fmt: skip
        history.append(row)
        if best is None or row["ratio"] <= best["ratio"]:
            best = {"step": step, "ratio": row["ratio"], "ema": copy.deepcopy(ema.state_dict())}
        on_event({"event": "validated", **row})
        checkpoint()
        running, waiting, counted, since = 0.0, 0.0, 0, time.monotonic()
        saved = since

    def due() -> bool:
        if budget is None:
            return step % validate_every == 0
        last = 60 * history[-1]["minutes"] if history else 0.0
        return seconds() - last >= budget / VALIDATIONS

    try:
        if init is not None and state is None:
            judge_now()  # what there is to improve on
        while step < recipe.steps and not stop:
            if minutes is not None and time.monotonic() - started > minutes * 60:
                break
            if budget is not None and seconds() > budget:
                break
            for group in optimizer.param_groups:
                group["lr"] = rate_at(position(step), recipe)
                if budget is not None:
                    group["lr"] *= min(1.0, (step + 1) / LEAST_WARMUP)
            if not held and position(step) >= recipe.norms_until * recipe.steps:
                hold_norms(model, ema)
                held = True
            begun = time.monotonic()
            batch, stage = batches_ahead.next()
            waiting += time.monotonic() - begun
            with half:
                loss = objective(model, batch, stage)
            total = loss.total
            if adversary and loss.fake is not None:
                total = total + adversary.fooled(loss.fake)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            if adversary and loss.fake is not None and loss.real is not None:
                adversary.learn(loss.real, loss.fake)
            step += 1
            # A young average follows faster, so that it forgets the start.
            keep = min(recipe.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                for a, b in zip(
                    ema.state_dict().values(), model.state_dict().values(), strict=True
                ):
                    if a.is_floating_point():
                        a.lerp_(b, 1 - keep)
                    else:
                        a.copy_(b)
            running += float(total.detach())
            counted += 1
            if due() and step < recipe.steps:
                judge_now()
            elif time.monotonic() - saved > save_seconds:
                checkpoint()
                saved = time.monotonic()
        # A run that is told to stop makes room at once; one that is over says how good it is.
        if counted and not stop:
            judge_now()
    finally:
        batches_ahead.close()
        signal.signal(signal.SIGTERM, previous)
        checkpoint()
    return {
        "step": step, "history": history, "checkpoint": str(output / CHECKPOINT),
        "best": best["step"] if best else step,
    }  # fmt: skip
