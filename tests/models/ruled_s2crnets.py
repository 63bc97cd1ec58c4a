"""S2CRNet by rule: networks behind the golden numbers, small lively ones, eq. (1) as it stands."""

from __future__ import annotations

import dataclasses
import math
from functools import lru_cache
from typing import Any

import torch
from ruled_nets import fill, golden, picture, rectangle
from torch import Tensor, nn

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size
from hzcli.models import s2crnet
from hzcli.models.s2crnet import S2CRNet, S2CRNetConfig

GOLDEN = golden("s2crnet")
SMALL = (8, 16, 16, 16, 16, 24, 24, 32)
SMALL_CONFIG = dataclasses.replace(
    S2CRNetConfig.compact(), widths=SMALL, hidden=16, pieces=16, thumbnail=96, channels=(), blocks=0
)
WITH_ENCODER = dataclasses.replace(SMALL_CONFIG, hidden=32, channels=(8, 16, 32, 32), blocks=1)


def plainly_filled(net: nn.Module) -> nn.Module:
    """Weights by the rule of the golden "cases", loaded strictly."""
    state = {}
    for place, (name, like) in enumerate(net.state_dict().items()):
        v = torch.sin(0.37 * torch.arange(like.numel(), dtype=torch.float64) + place)
        v = v * (math.sqrt(1.5 / like[0].numel()) if like.ndim > 1 else 0.05)
        if name.endswith("fc_b_1.fc1.bias"):
            v = v + 3
        state[name] = v.view(like.shape).float()
    net.load_state_dict(state, strict=True)
    return net.eval()


@lru_cache(maxsize=2)
def net_of(variant: str) -> S2CRNet:
    return plainly_filled(s2crnet.published(variant))  # type: ignore[return-value]


def inputs() -> dict[str, Tensor]:
    mask, near = torch.zeros(1, 1, 256, 256), torch.ones(1, 1, 256, 256)
    mask[:, :, 64:160, 80:200] = 1
    near[:, :, :20] = 0
    return {
        "image": picture(256, 256), "mask": mask,
        "fg_image": picture(256, 256, 1.0), "fg_mask": near,
    }  # fmt: skip


@lru_cache(maxsize=2)
def ruled(network: str) -> S2CRNet:
    """Weights that see more than those of the first cases, which hardly look at the pictures."""
    config = S2CRNetConfig.published("s2crnet-v" if network.endswith("vgg") else "s2crnet-s")
    stages = {"fusion_re": 3}.get(network, 2)
    cascade = "1" if network == "fusionv3" else ""
    net = S2CRNet(dataclasses.replace(config, stages=stages, cascade=cascade))
    return fill(net, GOLDEN["weight_rule"])  # type: ignore[return-value]


def soft(height: int, width: int) -> Tensor:
    y = torch.arange(height, dtype=torch.float64).view(-1, 1)
    x = torch.arange(width, dtype=torch.float64)
    return (0.5 + 0.6 * torch.sin(0.043 * x + 0.071 * y)).clamp(0, 1)[None, None].float()


def thumb_of(edge: int = 64, seed: float = 0.0, **more: Any) -> Thumbnail:
    return Thumbnail(picture(edge, edge, seed), rectangle(edge, edge), Size(edge, edge), **more)


def lively(config: S2CRNetConfig, seed: int = 0) -> S2CRNet:
    """Heads that say something, for every picture another thing."""
    torch.manual_seed(seed)
    net = S2CRNet(config).eval()
    with torch.no_grad():
        for name, p in net.fusion.named_parameters():
            # Our own heads are scaled down; published slopes need a sum far from 0.
            size = 0.5 if config.curve == "published" else 8.0
            p.normal_(0, size / (p.shape[-1] ** 0.5 if p.ndim > 1 else 2))
            if config.curve == "published" and name.endswith("fc_b_1.fc1.bias"):
                p += 1.5
        if config.channels and net.joint is not None:
            for p in net.joint.parameters():  # residual branches start at nothing
                p.add_(torch.randn_like(p), alpha=0.05)
    return net


def ramps(x: Tensor, p: Tensor, pieces: int = 64) -> Tensor:
    """Eq. (1) term by term, in float64: a ramp of height 1 / L for each slope."""
    x, slopes = x.double(), p.double().view(-1, 3, pieces, 1, 1)
    total = slopes.sum(2) + 1e-30
    out = torch.zeros_like(x)
    for i in range(pieces):
        out += slopes[:, :, i] * (x - i / pieces).clamp(0, 1 / pieces)
    return out * pieces / total
