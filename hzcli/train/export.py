"""From a training run to weights that ship: safetensors in fp16, and a card beside them."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save

from hzcli.io.atomic import beside, write_text
from hzcli.models.hinet import HINet, HINetConfig


def save_weights(model: HINet, path: Path, *, id: str) -> None:
    """Write weights as fp16 safetensors that `hzcli.models.load` takes.

    Whole numbers (counters) keep their type.
    """
    state = {
        key: value.detach().cpu().to(torch.float16).contiguous()
        if value.is_floating_point()
        else value.detach().cpu()
        for key, value in model.state_dict().items()
    }
    metadata = {
        "model": "hinet",
        "id": id,
        "format": "1",
        "reading": "aligned",
        "config": json.dumps(asdict(model.config)),
    }
    with beside(path) as part:
        part.write_bytes(save(state, metadata=metadata))


def export(run: Path, *, id: str | None = None, to: Path | None = None) -> Path:
    """Write a run's averaged weights as fp16 safetensors, with a card beside them.

    Args:
        run: the run's folder.
        id: name of the weights; default the recipe's.
        to: folder to write into; default the run's.

    Returns:
        The path of the safetensors file.
    """
    state = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    recipe = state["recipe"]
    name = id or recipe["name"]
    model = HINet(HINetConfig.from_dict(recipe["config"]))
    model.load_state_dict(state["ema"])
    path = (to or run) / f"{name}.safetensors"
    save_weights(model, path, id=name)
    last = state["history"][-1] if state["history"] else {}
    card = {
        "id": name,
        "model": "hinet",
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "thumbnail": recipe["config"]["thumbnail"],
        "licence": "as the terms of the data allow",
        "data_terms": "those of the photographs that were given",
        "data": state.get("data", []),
        "recipe": recipe["name"],
        "config": recipe["config"],
        "steps": state["step"],
        "minutes": round(state["seconds"] / 60, 1),
        "hardware": state.get("device", ""),
        "figures": {"val_thumbnail": {k: round(v, 4) for k, v in last.items()}},
        "created": time.strftime("%Y-%m-%d"),
    }
    write_text(path.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    return path
