"""CDTNet by rule: weights, pictures and masks behind the golden numbers, small networks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from ruled_nets import filled, golden, misfits, picture
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size
from hzcli.models import cdtnet
from hzcli.models.cdtnet import PublishedCDTNet, PublishedConfig

GOLDEN = golden("cdtnet")
SMALL = PublishedConfig(widths=(8, 12, 16), norm_from=1, attend_from=1, luts=5, lut_size=9,
                        pooled=12, refine=8, thumbnail=64)  # fmt: skip


def identity_table(n: int) -> Tensor:
    """(3, n, n, n) as the authors store it, [channel][b][g][r], float64."""
    axis = torch.linspace(0, 1, n, dtype=torch.float64)
    b, g, r = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([r, g, b])


def plainly_filled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the rule of the golden case "square"."""
    out = {}
    for place, (name, like) in enumerate(state.items()):
        if not like.is_floating_point():
            out[name] = like
            continue
        v = torch.sin(0.37 * torch.arange(like.numel(), dtype=torch.float64) + place)
        v = v.view(like.shape)
        if name.endswith(".LUT"):
            v = 0.02 * v + (identity_table(like.shape[-1]) if "LUT0" in name else 0)
        elif name == "lut.classifier.fc.bias":
            v = 0.5 + 0.005 * v
        elif name.endswith("running_var"):
            v = 1 + 0.5 * v * v
        elif like.ndim > 1:
            v = v * math.sqrt(1.5 / like[0].numel())
        else:
            v = 1 + 0.1 * v if name.endswith(".weight") else 0.05 * v
        out[name] = v.float()
    return out


def wildly_filled(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the rule of the golden case "soft": features vary from place to place."""
    out = filled(state, GOLDEN["soft_weight_rule"])
    out["lut.LUT0.LUT"] += identity_table(33).float()
    return out


def fill(rule: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> PublishedCDTNet:
    """The published network, weights by rule, loaded strictly; eval mode, no gradients."""
    net = cdtnet.published("cdtnet")
    net.load_state_dict(rule(net.state_dict()), strict=True)
    return net.requires_grad_(False)


def box(height: int, width: int, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., slice(*rows), slice(*columns)] = 1
    return mask


def ellipse(height: int, width: int) -> Tensor:
    """The soft mask of the golden case "soft", (1, 1, H, W)."""
    y = (torch.arange(height, dtype=torch.float64).view(-1, 1) + 0.5) / height
    x = (torch.arange(width, dtype=torch.float64).view(1, -1) + 0.5) / width
    inside = 1 - ((x - 0.45) / 0.3) ** 2 - ((y - 0.55) / 0.35) ** 2
    return (inside / 0.4).clamp(0, 1)[None, None].float()


def soft_inputs() -> dict[str, Any]:
    """What the network is called with in the golden case "soft"."""
    case = GOLDEN["soft"]
    size = case["height"], case["width"]
    return {"image": picture(*size, case["phase"]), "mask": ellipse(*size), "lr": case["lr"]}


def soft_misfits(out: dict[str, Tensor], index: int = 0) -> dict[str, list[str]]:
    """What does not fit of one picture of a batch."""
    wanted = GOLDEN["soft"]["tensors"]
    found = {name: misfits(out[name][index : index + 1], wanted[name]) for name in wanted}
    return {name: wrong for name, wrong in found.items() if wrong}


def reread(net: PublishedCDTNet, **readings: Any) -> PublishedCDTNet:
    """The same weights with other readings."""
    other = (
        PublishedCDTNet(dataclasses.replace(net.config, **readings)).eval().requires_grad_(False)
    )
    other.load_state_dict(net.state_dict(), strict=True)
    return other.requires_grad_(False)


def resize(x: Tensor, edge: int) -> Tensor:
    """The published resize: bilinear, no antialiasing."""
    return F.interpolate(x, (edge, edge), mode="bilinear", align_corners=False)


def seen(image: Tensor, mask: Tensor, edge: int, coarse: int) -> Thumbnail:
    """A thumbnail by the published resize, with the mask that pooling samples."""
    size, masks = Size(*image.shape[2:]), {coarse: resize(mask, coarse)}
    return Thumbnail(resize(image, edge), resize(mask, edge), size, masks=masks)


def two() -> dict[str, Any]:
    """Another picture, then that of the golden case."""
    inputs = soft_inputs()
    for name in ("image", "mask"):
        inputs[name] = torch.cat([inputs[name].flip(3), inputs[name]])
    return inputs


def eight_corners(table: Tensor, rgb: Tensor) -> Tensor:
    """The authors' trilinear lookup in float64: table (3, n, n, n) [channel][b][g][r], rgb
    (3, H, W)."""
    n = table.shape[-1]
    place = rgb.double() / (1.000001 / (n - 1))
    low = place.floor().long().clamp(0, n - 2)
    t = place - low
    out = torch.zeros(rgb.shape, dtype=torch.float64)
    for corner in range(8):
        step = [corner >> c & 1 for c in range(3)]
        r, g, b = (low[c] + step[c] for c in range(3))
        weight = math.prod(t[c] if step[c] else 1 - t[c] for c in range(3))
        out += weight * table.double()[:, b, g, r]
    return out
