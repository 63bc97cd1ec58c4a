"""From a training run to weights that ship: safetensors in fp16, and a card beside them."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hzcli import checkpoints, models
from hzcli.errors import ModelError
from hzcli.evaluation.traits import traits_of
from hzcli.io.atomic import write_text
from hzcli.train.recipes import Recipe, build


def save_weights(model: Any, path: Path, *, id: str) -> None:
    """Write any model's weights as fp16 safetensors that `hzcli.models.load` takes.

    Vectors stay float32: they cost next to nothing, and a normalisation's running variance may
    lie beyond what fp16 holds. Whole numbers (counters) keep their type. What tensor shapes
    cannot tell stands in the metadata; the configuration is there for people to read.

    Raises:
        ModelError: a weight is no number, or too large for fp16.
    """
    state = {key: _stored(value) for key, value in model.state_dict().items()}
    for key, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ModelError(
                f"{key} holds what is no number, or too large for fp16",
                "The run has diverged: train again at a lower rate.",
            )
    metadata = {
        "model": model.card.model,
        "id": id,
        "format": "2",
        **models.readings_of(model.config),
        "config": json.dumps(asdict(model.config)),
    }
    checkpoints.write(state, path, metadata)


def share(path: Path, base: Path) -> int:
    """Leave out of a weights file what another one holds bit for bit.

    Heads on one frozen encoder are small, the encoder is not: shipped together, it is stored
    once. The file then says in its metadata which tensors are whose, and the sha256 of the other,
    which `hzcli.models.load` looks for beside it and among the installed weights. The card
    beside `path`, if there is one, is given the new size and sha256.

    Returns:
        How many tensors were left out; with none the file is not touched.
    """
    own, metadata = models.stored(path)
    theirs, _ = models.stored(base)
    known: dict[tuple[Any, ...], list[str]] = {}
    for name, value in theirs.items():
        known.setdefault((value.dtype, tuple(value.shape)), []).append(name)
    places = {}
    for name, value in own.items():
        likely = known.get((value.dtype, tuple(value.shape)), [])
        for there in sorted(likely, key=lambda there: there != name):
            if torch.equal(value, theirs[there]):
                places[name] = there
                break
    if not places:
        return 0
    digest = hashlib.sha256(base.read_bytes()).hexdigest()
    metadata[models.SHARED] = json.dumps({"file": base.name, "sha256": digest, "tensors": places})
    left = {name: value for name, value in own.items() if name not in places}
    checkpoints.write(left, path, metadata)
    beside = path.with_suffix(".json")
    if beside.is_file():
        card = json.loads(beside.read_text(encoding="utf-8"))
        card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        card["bytes"] = path.stat().st_size
        write_text(beside, json.dumps(card, indent=2) + "\n")
    return len(places)


def _stored(value: torch.Tensor) -> torch.Tensor:
    """A tensor in the type that it has in a file."""
    if not value.is_floating_point():
        return value
    return value.to(torch.float16 if value.ndim > 1 else torch.float32)


def export(run: Path, *, id: str | None = None, to: Path | None = None) -> Path:
    """Write a run's averaged weights as fp16 safetensors, with a card beside them.

    Of the averages that were validated the best one is taken: a short run on few photographs
    may well end worse than it was.

    Args:
        run: the run's folder.
        id: name of the weights; default the recipe's.
        to: folder to write into; default the run's.

    Returns:
        The path of the safetensors file.
    """
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    recipe = Recipe.from_dict(state["recipe"])
    name = id or recipe.name
    model = build(recipe)
    best = state.get("best")
    model.load_state_dict(best["ema"] if best else state["ema"])
    path = (to or run) / f"{name}.safetensors"
    save_weights(model, path, id=name)
    step = best["step"] if best else state["step"]
    judged: dict[str, Any] = next(
        (row for row in reversed(state["history"]) if row["step"] == step), {}
    )
    card = {
        "id": name,
        "model": recipe.model,
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "thumbnail": model.thumbnail_edge,
        "licence": "as the terms of the data allow",
        "data_terms": "those of the photographs that were given",
        "data": state.get("data", []),
        "recipe": recipe.name,
        "config": asdict(model.config),
        "readings": models.readings_of(model.config),
        "steps": step,
        "minutes": round(state["seconds"] / 60, 1),
        "hardware": state.get("device", ""),
        "traits": traits_of(model.eval()),
        "figures": {"val_thumbnail": {k: round(v, 4) for k, v in judged.items()}},
        "created": time.strftime("%Y-%m-%d"),
    }
    write_text(path.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    return path
