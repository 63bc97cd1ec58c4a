"""HINet's learnt parts behind the encoder, under their published names.

Paper: Chen, Zhang, Zou, Chen, Shi, Dense Pixel-to-Pixel Harmonization via Continuous Image
    Representation, 2023, arXiv 2303.01681: Sec. III-C (hypernetworks), III-E (position, table)
    and IV-A (sizes). The position embedding is that of CIPS, arXiv 2011.13775.

Letters: B batch, P parameters per cell, g cells per side, H, W height and width of a level.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.nets.idih import deconv_blocks
from hzcli.nets.modulated import LEAK, Modulated
from hzcli.nets.paper_encoder import (
    appearance_hypernet,
    compress_layer,
    content_hypernet,
    lut_head,
)

BASE = 256  # side of the thumbnail, and of the position table
WIDTH = 32  # of every hidden layer (Sec. IV-A)
RANK = 10  # of the factorised modulation
LUT_SIZE = 7
HYPER = 512  # width of the hypernetworks
POSITION = 2 + WIDTH + WIDTH  # coordinate, its sines, the table
FIRST = POSITION + 3 + 1  # V: position, RGB, mask
NEXT = FIRST + WIDTH  # V and the prior


class _Table(nn.Module):
    """A learnt vector for each place of a 256 x 256 grid (CIPS, the paper's reference [50])."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, BASE * BASE, WIDTH))

    def forward(self, places: Tensor) -> Tensor:
        height, width = places.shape[2:]
        if height * width == BASE * BASE:  # as published: coordinates are not looked at
            return self.input.transpose(1, 2).unflatten(2, (height, width))
        table = self.input.transpose(1, 2).unflatten(2, (BASE, BASE))
        grid = places.permute(0, 2, 3, 1).flip(-1).to(table.dtype)  # grid_sample wants (x, y)
        return F.grid_sample(
            table, grid, mode="bilinear", padding_mode="border", align_corners=True
        )


class _Sines(nn.Module):
    """sin(linear(y, x)), frequencies learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.ffm = nn.Linear(2, WIDTH)
        nn.init.uniform_(self.ffm.weight, -(4.5**0.5), 4.5**0.5)  # sqrt(9 / 2 inputs)

    def forward(self, places: Tensor) -> Tensor:
        vectors = places.permute(0, 2, 3, 1).to(self.ffm.weight.dtype)
        return torch.sin(self.ffm(vectors)).permute(0, 3, 1, 2)


class PositionEmbedding(nn.Module):
    """(1, 2, H, W) coordinates to (1, 66, H, W): row, column, 32 sines, 32 of the table."""

    def __init__(self) -> None:
        super().__init__()
        self.fourier_embed = _Table()
        self.predict_embed = _Sines()

    def forward(self, places: Tensor) -> Tensor:
        sines = self.predict_embed(places)
        return torch.cat([places.to(sines.dtype), sines, self.fourier_embed(places)], 1)


def _start_hyper(last: nn.Module, inputs: int) -> None:
    """Start values of a hypernetwork's last layer: small weights, biases that carry the MLP."""
    assert isinstance(last, (nn.Conv2d, nn.Linear))
    nn.init.kaiming_normal_(last.weight, nonlinearity="relu")
    bound = (6 / inputs) ** 0.5
    with torch.no_grad():
        last.weight /= 100
        last.bias.uniform_(-bound, bound)  # type: ignore[union-attr]


class ContentMlps(nn.Module):
    """One block of f_Cont: a grid of MLPs at half the size of a shallow encoder map."""

    def __init__(self, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.mlp = Modulated(widths, RANK)
        self.cont_extraction_net = content_hypernet(channels, HYPER, self.mlp.length)
        _start_hyper(self.cont_extraction_net[-1], widths[0])
        self.basic_params = nn.ParameterList(torch.randn(1, 1, 1, *io) for io in pairwise(widths))

    def layers(self, parameters: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(B, P, g, g) to the MLPs of each cell."""
        return self.mlp.weights(parameters.permute(0, 2, 3, 1), list(self.basic_params))


class AppearanceMlp(nn.Module):
    """f_App: one MLP for the whole picture, predicted from the deepest features."""

    mlp = Modulated((WIDTH, WIDTH, WIDTH, WIDTH, 3), RANK)

    def __init__(self) -> None:
        super().__init__()
        self.compress_layer = compress_layer(BASE)
        self.app_extraction_net = appearance_hypernet(HYPER, self.mlp.length)
        _start_hyper(self.app_extraction_net[-1], WIDTH)
        self.basic_params = nn.ParameterList(torch.randn(1, *io) for io in pairwise(self.mlp.sizes))

    def extract(self, features: Tensor) -> Tensor:
        """(B, 64, 64, 64) decoder features to the appearance vector (B, 2369)."""
        return self.app_extraction_net(self.compress_layer(features.flatten(2)).squeeze(2))

    def forward(self, features: Tensor, parameters: Tensor) -> Tensor:
        """(B, 32, H, W) features to (B, 3, H, W) RGB in (-1, 1)."""
        *hidden, (weight, bias) = self.mlp.weights(parameters, list(self.basic_params))
        v = features.flatten(2).transpose(1, 2)  # (B, N, 32)
        for w, b in hidden:
            v = F.leaky_relu(v @ w + b, LEAK)
        return torch.tanh(v @ weight + bias).transpose(1, 2).unflatten(2, features.shape[2:])


class LutHead(nn.Module):
    """The optional table (Sec. III-E): (B, 2369) to (B, 3, 7, 7, 7), [channel][r][g][b]."""

    def __init__(self) -> None:
        super().__init__()
        self.transform_layers = lut_head(AppearanceMlp.mlp.length, LUT_SIZE)
        last = self.transform_layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.kaiming_normal_(last.weight, nonlinearity="relu")
        with torch.no_grad():
            last.weight /= 100
            last.bias.uniform_(0, 1)

    def forward(self, appearance: Tensor) -> Tensor:
        return self.transform_layers(appearance).unflatten(1, (3, LUT_SIZE, LUT_SIZE, LUT_SIZE))


class Decoder(nn.Module):
    """The parts of the decoder, under their published names."""

    def __init__(self) -> None:
        super().__init__()
        self.INR_encoding = PositionEmbedding()
        self.content_mlp_blocks = nn.ModuleDict(  # 1, 2, 3 hidden layers, finest level first
            {
                "block0": ContentMlps(64, (NEXT, WIDTH, WIDTH)),
                "block1": ContentMlps(64, (NEXT, WIDTH, WIDTH, WIDTH)),
                "block2": ContentMlps(128, (FIRST, WIDTH, WIDTH, WIDTH, WIDTH)),
            }
        )
        self.deconv_blocks = deconv_blocks()
        self.appearance_mlps = AppearanceMlp()
        self.lut_transform = LutHead()

    def content(self, n: int) -> ContentMlps:
        """Block n of f_Cont: 0 is the finest and runs last."""
        return cast(ContentMlps, self.content_mlp_blocks[f"block{n}"])
