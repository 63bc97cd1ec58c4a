"""The rules behind the golden numbers: weights, pictures and masks by formula, statistics."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "golden"


def golden(name: str) -> dict[str, Any]:
    """What tests/golden/NAME.json holds."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def filled(state: dict[str, Tensor], rule: dict[str, Any]) -> dict[str, Tensor]:
    """Weights by rule: a sine of each value's place, scaled by the kind of tensor.

    Args:
        state: names and shapes, in the published order; all keys count.
        rule: a, b, c, d, e, g of the sine, gain, and `overrides`, the first match of which wins.
    """
    out = {}
    for place, (name, like) in enumerate(state.items()):
        if not like.is_floating_point():
            out[name] = torch.zeros_like(like)
            continue
        i = torch.arange(like.numel(), dtype=torch.float64)
        inner = torch.sin(rule["d"] * i + rule["e"] * place) if rule.get("g") else 0.0
        v = torch.sin(rule["a"] * i + rule["b"] * place + rule["c"] + rule.get("g", 0) * inner)
        row = like[0].numel() if like.ndim > 1 else 1
        override = next((o for o in rule["overrides"] if re.search(o["match"], name)), None)
        if override is not None:
            scale = override.get("mul", 1.0)
            scale *= math.sqrt(override["row"] / row) if "row" in override else 1
            scale *= math.sqrt(override["fan"] / like.shape[-2]) if "fan" in override else 1
            scale /= math.sqrt(math.sqrt(like.shape[0] / 2)) if override.get("dr") else 1
            v = scale * v + override.get("add", 0.0)
        elif name.endswith("running_var"):
            v = 1 + 0.5 * v * v
        elif like.ndim > 1:
            v = v * math.sqrt(rule["gain"] / row)
        else:
            v = 1 + 0.1 * v if name.endswith(".weight") else 0.05 * v
        out[name] = v.view(like.shape).float()
    return out


def fill(net: nn.Module, rule: dict[str, Any]) -> nn.Module:
    """The network with weights by rule, loaded strictly, in eval mode."""
    net.load_state_dict(filled(net.state_dict(), rule), strict=True)
    return net.eval()


def key_misfits(net: nn.Module, wanted: dict[str, Any]) -> list[str]:
    """Which of a network's keys are not the golden ones: their count, that of parameters, both
    by prefix, and the hash of names and shapes in their order."""
    state, parameters = net.state_dict(), dict(net.named_parameters())
    lines = [f"{name} {'x'.join(map(str, t.shape))}" for name, t in state.items()]
    figures = {
        "count": len(state),
        "parameters": sum(p.numel() for p in parameters.values()),
        "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest(),
        "prefixes": {
            prefix: [
                sum(name.startswith(prefix) for name in state),
                sum(p.numel() for name, p in parameters.items() if name.startswith(prefix)),
            ]
            for prefix in wanted.get("prefixes", ())
        },
    }
    return [
        f"{name} is {figures[name]}, expected {wanted[name]}"
        for name in figures.keys() & wanted.keys()
        if figures[name] != wanted[name]
    ]


def picture(height: int, width: int, phase: float = 0.0) -> Tensor:
    """(1, 3, H, W), [0, 1]: 0.5 + 0.5 sin(0.05 (c + 1) x + 0.031 (c + 2) y + phase)."""
    y = torch.arange(height, dtype=torch.float64).view(-1, 1)
    x = torch.arange(width, dtype=torch.float64).view(1, -1)
    waves = [
        0.5 + 0.5 * torch.sin(0.05 * (c + 1) * x + 0.031 * (c + 2) * y + phase) for c in range(3)
    ]
    return torch.stack(waves)[None].float()


def rectangle(height: int, width: int) -> Tensor:
    """(1, 1, H, W): 1 where H // 4 <= y < 3 H // 4 and x < 5 W // 8."""
    y = torch.arange(height).view(-1, 1)
    x = torch.arange(width).view(1, -1)
    inside = (y >= height // 4) & (y < 3 * height // 4) & (x < 5 * width // 8)
    return inside[None, None].float()


def statistics(t: Tensor) -> dict[str, Tensor]:
    """The golden statistics of a tensor, in float64."""
    f = t.detach().double().flatten()
    n = f.numel()
    wave = torch.sin(0.01 * torch.arange(n, dtype=torch.float64))
    return {
        "mean": f.mean(), "std": f.std(), "min": f.min(), "max": f.max(),
        "proj": (f * wave).mean(), "first8": f[:8], "mid8": f[n // 2 : n // 2 + 8],
    }  # fmt: skip


def misfits(t: Tensor, wanted: dict[str, Any]) -> list[str]:
    """Which statistics of `t` differ from the golden ones by more than they may."""
    if list(t.shape) != wanted["shape"]:
        return [f"shape {list(t.shape)}, expected {wanted['shape']}"]
    found = []
    for name, value in statistics(t).items():
        limit = wanted["tol_stat"] if name in ("mean", "std", "proj") else wanted["tol"]
        error = (value - torch.tensor(wanted[name], dtype=torch.float64)).abs().max().item()
        if not error <= limit:
            found.append(f"{name} off by {error:.1e}, may be {limit:.1e}")
    return found
