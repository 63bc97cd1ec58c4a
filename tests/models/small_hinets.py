"""Small HINets and their functions, for tests of the aligned reading."""

from __future__ import annotations

import dataclasses

import torch

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size
from hzcli.models.hinet import HINet, HINetConfig, LocalMlp

COMPACT = HINetConfig(channels=(8, 16, 32, 32), blocks=1, code=32, hyper=16, thumbnail=64)
# The paper's encoder as it is, with small MLPs behind it.
PAPER = dataclasses.replace(
    HINetConfig.paper(), hyper=16, width=8, rank=3, waves=6, table=4, table_edge=48, lut=5
)


def network(config: HINetConfig) -> HINet:
    """An untrained HINet whose output moves far from the input's colours."""
    torch.manual_seed(3)
    model = HINet(config).eval().requires_grad_(False)
    for head in [*model.hyper, model.appearance, model.lut]:
        last = head[-1] if config.encoder == "paper" else head
        last.weight.normal_(0, 0.15)
    model.basics[3][3].mul_(25)
    return model


def picture(height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rgb = torch.rand(1, 3, height, width, generator=generator)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = ((y / height - 0.55) ** 2 + (x / width - 0.45) ** 2) < 0.09
    mask = inside.float()[None, None]
    mask[..., height // 2, width // 2] = 0.3
    return rgb, mask


def transform_of(network: HINet, size: Size, seed: int = 0) -> LocalMlp:
    rgb, mask = picture(network.thumbnail_edge, network.thumbnail_edge, seed)
    with torch.no_grad():
        transform = network.predict(Thumbnail(rgb, mask, size))
    # Weights that vary strongly from cell to cell, as those of an untrained encoder do not.
    noise = torch.Generator().manual_seed(seed)
    maps = tuple(m + 0.4 * torch.randn(m.shape, generator=noise) for m in transform.maps)
    return dataclasses.replace(transform, maps=maps)
