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
from pathlib import Path

import torch
from torch import Tensor

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.errors import UsageError
from hzcli.io.atomic import beside
from hzcli.models.hinet import HINet
from hzcli.train.compose import Batch, Composer
from hzcli.train.losses import balanced, foreground_mse, lut_range
from hzcli.train.photos import load_photos
from hzcli.train.prefetch import Prefetch
from hzcli.train.recipes import Recipe

VALIDATION_SEED = 20_231
WHOLE = Window.whole(Size(1, 1))  # for Transforms that do not look at it


def rate_at(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the peak."""
    if step < recipe.warmup:
        return recipe.rate * (step + 1) / recipe.warmup
    done = min(1.0, (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup))
    return recipe.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def predictions(model: HINet, batch: Batch, edge: int) -> tuple[Tensor, Tensor, Tensor, Batch]:
    """INR output, LUT output, table, and the batch at the decoding size."""
    h, w = batch.composite.shape[2:]
    thumb = Thumbnail(batch.composite, batch.mask, Size(h, w))
    transform, lut = model.predict_both(thumb)
    batch = batch.shrink(edge)
    window = Window.whole(Size(edge, edge))
    inr = transform.apply(batch.composite, batch.mask, window)
    return inr, lut.apply(batch.composite, batch.mask, window), lut.lut, batch


def objective(model: HINet, batch: Batch, edge: int, local: bool = True) -> Tensor:
    """The modern loss: both heads' foreground error, and the LUT's range penalty.

    With `local` false the LUT head is trained alone.
    """
    if local:
        inr, flat, lut, batch = predictions(model, batch, edge)
    else:
        h, w = batch.composite.shape[2:]
        table = model.predict_lut(Thumbnail(batch.composite, batch.mask, Size(h, w)))
        batch = batch.shrink(edge)
        flat, lut = table.apply(batch.composite, batch.mask, WHOLE), table.lut
    before = foreground_mse(batch.composite, batch.truth, batch.mask)
    loss = balanced(foreground_mse(flat, batch.truth, batch.mask), before) + lut_range(lut)
    if local:
        loss = 0.5 * loss + balanced(foreground_mse(inr, batch.truth, batch.mask), before)
    return loss


@torch.inference_mode()
def validate(model: HINet, batches: list[Batch]) -> dict[str, float]:
    """Mean fMSE relative to doing nothing, for both heads and by kind of recolouring."""
    model.eval()
    before, after, flat, kinds = [], [], [], []
    for batch in batches:
        inr, lut, _, b = predictions(model, batch, batch.composite.shape[-1])
        before.append(foreground_mse(b.composite, b.truth, b.mask))
        after.append(foreground_mse(inr.clamp(0, 1), b.truth, b.mask))
        flat.append(foreground_mse(lut.clamp(0, 1), b.truth, b.mask))
        kinds.append(b.kind)
    model.train()
    x, y, z, k = (torch.cat(v) for v in (before, after, flat, kinds))
    retouch = k == 4
    return {
        "ratio": float(y.mean() / x.mean()),
        "lut": float(z.mean() / x.mean()),
        "retouch": float(y[retouch].mean() / x[retouch].mean()),
        "transfer": float(y[~retouch].mean() / x[~retouch].mean()),
        "worse": float((y > x).float().mean()),
    }


def save(path: Path, state: dict) -> None:
    """Write a checkpoint beside its place and rename it."""
    with beside(path) as part:
        torch.save(state, part)


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
    validate_every: int = 500,
    on_event: Callable[[dict], None] = lambda event: None,
) -> dict:
    """Train until the recipe's steps or the minutes are over; returns the last figures.

    A resumed run keeps the recipe it began with. `init` is a state dict to start from.

    Raises:
        UsageError: `output` holds a run already and `resume` is false, or the reverse.
    """
    started = time.monotonic()
    place = output / "checkpoint.pt"
    state = None
    if place.exists() and not resume:
        raise UsageError(f"{output} holds a run already", "pass --resume, or another folder")
    if resume and place.exists():
        # The run goes on as it began, whatever the recipe of that name says by now.
        state = torch.load(place, map_location=device, weights_only=True)
        recipe = Recipe.from_dict(state["recipe"])
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = HINet(recipe.config).to(device).train()
    if init is not None:
        model.load_state_dict(init)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    decay = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay}, {"params": plain, "weight_decay": 0.0}],
        lr=recipe.rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay,
    )  # fmt: skip
    step, spent, history = 0, 0.0, []
    if state is not None:
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent, history = state["step"], state["seconds"], state["history"]
    photos = load_photos(data, "train", recipe.cache).to(device)
    composer = Composer(photos, recipe.synthesis, seed)
    held = load_photos(data, "val", recipe.cache).to(device)
    judge = Composer(held, recipe.synthesis, VALIDATION_SEED)
    order = (held.first.diff() > 0).nonzero().squeeze(1)
    batches = [judge.compose(part) for part in order.split(32)]
    on_event({"event": "data", "photos": len(photos), "held": len(order)})

    stop = []
    previous = signal.signal(signal.SIGTERM, lambda *_: stop.append(True))

    def checkpoint() -> None:
        save(place, {
            "model": model.state_dict(), "ema": ema.state_dict(),
            "optimizer": optimizer.state_dict(), "step": step, "seed": seed,
            "seconds": spent + time.monotonic() - started, "history": history,
            "recipe": recipe.as_dict(), "data": photos.sources, "device": str(device),
        })  # fmt: skip
        with beside(output / "history.csv") as part, part.open("w", newline="") as f:
            writer = csv.DictWriter(f, list(history[0]) if history else ["step"])
            writer.writeheader()
            writer.writerows(history)

    ahead = itertools.count(step)

    def make() -> Batch:
        at = next(ahead)
        return composer.batch(recipe.batch, recipe.edge_at(at), step=at)

    batches_ahead = Prefetch(make)
    running, waiting, counted, since = 0.0, 0.0, 0, time.monotonic()
    try:
        while step < recipe.steps and not stop:
            if minutes is not None and time.monotonic() - started > minutes * 60:
                break
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, recipe)
            begun = time.monotonic()
            batch = batches_ahead.next()
            waiting += time.monotonic() - begun
            local = step >= recipe.local_from * recipe.steps
            loss = objective(model, batch, batch.composite.shape[-1] // 2, local)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
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
            running += float(loss.detach())
            counted += 1
            if step % validate_every == 0 or step == recipe.steps:
                elapsed = time.monotonic() - since
                figures = validate(ema, batches)
                row = {
                    "step": step, "minutes": round((spent + time.monotonic() - started) / 60, 2),
                    "loss": running / counted, **figures,
                    "pictures_per_s": recipe.batch * counted / elapsed,
                    "waiting": waiting / elapsed,
                }  # fmt: skip
                history.append(row)
                on_event({"event": "validated", **row})
                checkpoint()
                running, waiting, counted, since = 0.0, 0.0, 0, time.monotonic()
    finally:
        batches_ahead.close()
        signal.signal(signal.SIGTERM, previous)
        checkpoint()
    return {"step": step, "history": history, "checkpoint": str(place)}
