"""Last layers, refitted to what a trained network measures: those that make a table or curves.

Before them a composite is no more than its statistics and its foreground's pixels. So these are
kept, of tens of thousands of composites, and the layers learn from each several times, in large
batches. The network's own steps see a few composites each and leave such layers full of noise.

A model that can be refitted says:
  - `measured(rgb, mask)`: statistics (B, S) of composites, and (B, C, h, w) what the layers read
    of a pixel: its colour first;
  - `rendered(statistics, pixels)`: from (B, S) and (B, C, P), colours (B, 3, P), and a table if
    there is one;
  - `last`: the layers' parameters; `readers`: other layers that read the code that they change.

Shapes: N composites of S statistics and P pixels each: 8 to 11 kB, on disk and then in memory,
twice while they are put together.
"""

from __future__ import annotations

import copy
import itertools
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hzcli.errors import UsageError
from hzcli.io.atomic import beside
from hzcli.nets.compact import CompactEncoder
from hzcli.train.adopt import adopt
from hzcli.train.compose import Batch
from hzcli.train.loop import CHECKPOINT, VALIDATION_SEED, opened, optimizer_of, save, validate
from hzcli.train.losses import balanced, lut_range
from hzcli.train.pairs import Mixture
from hzcli.train.prefetch import Prefetch
from hzcli.train.recipes import Recipe, build

FOLDER = "measured"
OTHERS = 7919  # added to a seed: composites that the encoder has not been trained on
PIXELS = 192  # of a composite's foreground, drawn by the mask, with replacement
PART = 64  # batches to a file
TOGETHER = 1024  # composites to a step of the fit
WARMUP = 50
SOME = 16_384  # composites whose codes are carried over
RIDGE = 3e-3  # of a number's variance
MEASURING = 0.85  # of a run's time, where it is fitted into one


class Kept(NamedTuple):
    """Of composites: statistics (N, S); of some pixels what the layers read, (N, C, P), colours
    first, and the colours that they should have, (N, 3, P), [0, 1]. All float16."""

    statistics: Tensor
    pixels: Tensor
    truth: Tensor


@torch.inference_mode()
def kept(model: Any, batch: Batch, seed: int) -> Kept:
    """What is kept of a batch."""
    # A few pictures at once stay in a processor's caches.
    size = 8 if batch.mask.device.type == "cpu" else len(batch.mask)
    pairs = zip(batch.composite.split(size), batch.mask.split(size), strict=True)
    found = zip(*(model.measured(*pair) for pair in pairs), strict=True)
    statistics, pixels = (torch.cat(parts) for parts in found)
    chance = torch.Generator(batch.mask.device).manual_seed(seed)
    weight = batch.mask.flatten(1) + 1e-9
    at = torch.multinomial(weight, PIXELS, replacement=True, generator=chance)[:, None]
    some = (x.flatten(2).gather(2, at.expand(-1, x.shape[1], -1)) for x in (pixels, batch.truth))
    return Kept(statistics.half(), *(x.half() for x in some))


def _error(model: Any, some: Kept) -> tuple[Tensor, Tensor, Tensor | None]:
    """Errors (B,) of what is rendered and of doing nothing, and the tables."""
    statistics, pixels, truth = (x.float() for x in some)
    colours, table = model.rendered(statistics, pixels)
    after, before = ((x - truth).square().mean((1, 2)) for x in (colours, pixels[:, :3]))
    return after, before, table


def fitted(given: Any, recipe: Recipe, data: Kept, seed: int) -> Any:
    """The model with its last layers fitted to what is kept; an average over steps. What else
    reads the code says what it said, as nearly as a linear map allows."""
    model = copy.deepcopy(given).eval().requires_grad_(False)
    layers = model.last
    for parameter in layers:
        parameter.requires_grad_(True)
    optimizer = optimizer_of(recipe, model)
    average = [parameter.detach().clone() for parameter in layers]
    count = len(data.statistics)
    steps = max(1, recipe.turns * count // TOGETHER)
    chance = torch.Generator(data.statistics.device).manual_seed(seed)
    for step in range(steps):
        cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * cosine * min(1.0, (step + 1) / WARMUP)
        index = torch.randint(count, (TOGETHER,), generator=chance, device=data.statistics.device)
        after, before, table = _error(model, Kept(*(x[index] for x in data)))
        loss = balanced(after, before)
        if table is not None:
            loss = loss + lut_range(table)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(layers, recipe.clip)
        optimizer.step()
        keep = min(recipe.ema, (1 + step) / (10 + step))
        for mean, parameter in zip(average, layers, strict=True):
            mean.lerp_(parameter.detach(), 1 - keep)
    with torch.no_grad():
        for mean, parameter in zip(average, layers, strict=True):
            parameter.copy_(mean)
        if model.readers:
            some = data.statistics[:SOME].float()
            carry(model.readers, old=given.encoder.code(some), new=model.encoder.code(some))
    return model.requires_grad_(False)


def carry(heads: Sequence[nn.Linear], old: Tensor, new: Tensor) -> None:
    """Make layers that were trained on old codes (N, code) read the new ones of the same pictures:
    by what is, in least squares, linear in the new ones and next to the old."""
    x, y = (codes.double() - codes.double().mean(0) for codes in (new, old))
    ridge = RIDGE * len(x) * torch.diag(x.var(0).clamp_min(1e-9))
    change = torch.linalg.solve(x.T @ x + ridge, x.T @ y).T
    shift = old.double().mean(0) - change @ new.double().mean(0)
    for head in heads:
        weight = head.weight.double()
        head.bias.copy_(head.bias + weight @ shift)
        head.weight.copy_(weight @ change)


def refit(
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
    on_event: Callable[[dict], None] = lambda event: None,
) -> dict:
    """Measure the composites of the recipe's steps, then fit; as `hzcli.train.loop.train`.

    What was measured lies in the run's folder, in parts, until the fit is done: a later call goes
    on with it, and a kill costs PART batches at most. With `fit` no more is measured than there is
    time for.

    Raises:
        UsageError: there is a run already, nothing to start from, or weights
            without the compact encoder.
    """
    started = time.monotonic()
    state = opened(output, resume, device) or {}
    if state:
        recipe, seed, init = Recipe.from_dict(state["recipe"]), state["seed"], state["model"]
    if init is None:
        raise UsageError("there is no encoder to measure with", "Pass trained weights to --init.")
    device = torch.device(device)
    model = build(recipe).to(device).eval()
    if not any(isinstance(part, CompactEncoder) for part in model.modules()):
        raise UsageError(
            "these weights have another encoder than the compact one",
            f"Pass weights that `hz train {recipe.model}` made, or {recipe.model}.",
        )
    adopt(model, init)
    mixture = Mixture.load(data, "train", recipe, device, seed + OTHERS)
    judged = Mixture.load(data, "val", recipe, device, VALIDATION_SEED)
    edge = recipe.last_edge
    held = judged.fixed(round(edge * max(1.0, recipe.picture)))
    on_event({"event": "data", **mixture.counts(), "held": sum(len(b.kind) for b in held)})
    history, best, spent = state.get("history", []), state.get("best"), state.get("seconds", 0.0)
    folder = output / FOLDER
    result = {"checkpoint": str(output / CHECKPOINT), "history": history}

    def judge(candidate: Any, step: int) -> None:
        nonlocal best
        past = spent + time.monotonic() - started
        # Where there is a table, it is what was fitted: no position-dependent part was.
        figures = validate(candidate, held, edge, local=not hasattr(candidate, "lut_of"))
        row = {"step": step, "minutes": round(past / 60, 2), **figures}
        candidate.eval()
        history.append(row)
        if best is None or row["ratio"] <= best["ratio"]:
            best = {"step": step, "ratio": row["ratio"], "ema": candidate.state_dict()}
        on_event({"event": "validated", **row})
        checkpoint(step)

    def checkpoint(step: int) -> None:
        save(output, {
            "model": model.state_dict(), "ema": model.state_dict(), "best": best, "step": step,
            "seed": seed, "seconds": spent + time.monotonic() - started, "history": history,
            "recipe": recipe.as_dict(), "data": mixture.sources, "device": str(device),
        })  # fmt: skip

    if not history:
        output.mkdir(parents=True, exist_ok=True)
        judge(model, 0)
    if history[-1]["step"]:  # it is done
        return {**result, "step": history[-1]["step"], "best": best and best["step"]}

    stop: list[bool] = []
    previous = signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    allowed = math.inf if minutes is None else 60 * minutes * (MEASURING if fit else 1)

    def over() -> bool:
        return bool(stop) or time.monotonic() - started > allowed

    try:
        for steps in _measured(model, mixture, recipe, folder, over):
            on_event({"event": "measured", "composites": steps * recipe.batch})
    finally:
        signal.signal(signal.SIGTERM, previous)
        checkpoint(0)
    have, steps = _parts(folder), _steps(folder, recipe)
    if stop or not have or (steps < recipe.steps and not fit):
        return {**result, "step": 0, "best": best and best["step"]}
    every = zip(*(torch.load(path, weights_only=True) for path in have), strict=True)
    measured = Kept(*(torch.cat(x).to(device) for x in every))
    judge(fitted(model, recipe, measured, seed), steps)
    for path in have:
        path.unlink()
    folder.rmdir()
    return {**result, "step": history[-1]["step"], "best": best and best["step"]}


def _parts(folder: Path) -> list[Path]:
    """Files of what was measured, each called by its first step."""
    return sorted(folder.glob("*.pt"))


def _steps(folder: Path, recipe: Recipe) -> int:
    """How many steps' composites were measured."""
    parts = _parts(folder)
    if not parts:
        return 0
    last = Kept(*torch.load(parts[-1], weights_only=True, mmap=True))
    return int(parts[-1].stem) + len(last.statistics) // recipe.batch


def _measured(
    model: Any, mixture: Mixture, recipe: Recipe, folder: Path, over: Callable[[], bool]
) -> Iterator[int]:
    """Measure what is missing until it is `over`, and say after each part how many steps it was."""
    done = _steps(folder, recipe)
    if done >= recipe.steps:
        return
    ahead = itertools.count(done)

    def make() -> tuple[int, Batch]:
        step = next(ahead)
        return step, mixture.batch(recipe.batch, recipe.edge_at(step), step)

    part: list[Kept] = []
    batches = Prefetch(make)
    try:
        going = not over()
        while going:
            step, batch = batches.next()
            part.append(kept(model, batch, step))
            going = done + len(part) < recipe.steps and not over()
            if len(part) == PART or not going:
                with beside(folder / f"{done:08}.pt") as path:
                    torch.save(tuple(torch.cat(x).cpu() for x in zip(*part, strict=True)), path)
                done += len(part)
                part.clear()
                yield done
                going = going and not over()
    finally:
        batches.close()
