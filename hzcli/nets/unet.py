"""The U-Net of iS2AM: encoder, decoder with an attended last level, blending layer.

Papers: Sofiiuk, Popenova, Konushin, Foreground-aware Semantic Representations for Image
    Harmonization, WACV 2021, arXiv 2006.00809: the U-Net and its blending layer;
    Cun and Pun, Improving the Harmony of the Composite Image by Spatial-Separated Attention
    Module, IEEE TIP 2020, arXiv 1907.06406: the attention.
Parameter names are those of the authors' checkpoints. Two habits of theirs are kept: the blur
of the mask is part of the weights (it was trained with random numbers in the place of a
Gaussian), and the decoder upsamples with `align_corners`, unlike anything else around it.

Letters: B pictures, C channels, (h, w) the map of a level; levels halve from (H, W) down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLUR = 7  # taps a side
SHARPNESS = 3.0  # of the blending layer's sigmoid
GATE = 16, 8  # hidden units of a gate: a sixteenth of the channels, but at least this many


def convolve(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """A convolution and its normalisation; outside training as one, its weights scaled."""
    if norm.training or not isinstance(norm, nn.BatchNorm2d):
        return norm(conv(x))
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    if conv.bias is not None:
        bias = bias + conv.bias * scale
    return F.conv2d(x, conv.weight * scale.view(-1, 1, 1, 1), bias, conv.stride, conv.padding)


class ConvBlock(nn.Module):
    """3x3 convolution, batch normalisation (or none), ReLU."""

    def __init__(self, inputs: int, outputs: int, *, norm: bool = True, bias: bool = True) -> None:
        super().__init__()
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
        nn.init.kaiming_uniform_(conv.weight, nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        self.block = nn.Sequential(
            conv, nn.BatchNorm2d(outputs) if norm else nn.Identity(), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        conv = self.block[0]
        assert isinstance(conv, nn.Conv2d)
        return F.relu(convolve(conv, self.block[1], x), inplace=not torch.is_grad_enabled())


class DoubleConv(nn.Module):
    """Two blocks, one after the other."""

    def __init__(self, inputs: int, outputs: int, *, norm: bool) -> None:
        super().__init__()
        self.block = nn.Sequential(
            ConvBlock(inputs, outputs, norm=norm), ConvBlock(outputs, outputs, norm=norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Down(nn.Module):
    """A level of the encoder, before its pooling."""

    def __init__(self, inputs: int, outputs: int, *, norm: bool) -> None:
        super().__init__()
        self.convs = DoubleConv(inputs, outputs, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class Encoder(nn.Module):
    """Levels of two convolutions, 2x2 maximum between them.

    Args:
        inputs: channels of the picture, mask included.
        widths: channels of each level, finest first; two or more.
        norm_from: the first level with batch normalisation.
    """

    def __init__(self, inputs: int, widths: Sequence[int], norm_from: int) -> None:
        super().__init__()
        blocks = [
            Down(before, width, norm=level >= norm_from)
            for level, (before, width) in enumerate(zip((inputs, *widths), widths, strict=False))
        ]
        self.block0, self.block1 = blocks[:2]
        self.blocks_connected = nn.ModuleDict(
            {f"block{level}": block for level, block in enumerate(blocks[2:], 2)}
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, H, W) to the map of every level, deepest first; the deepest is F_enc."""
        maps: list[Tensor] = []
        for block in (self.block0, self.block1, *self.blocks_connected.values()):
            if maps:
                # Odd rows and columns are kept: a picture of one pixel has all levels, too.
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = block(x)
            maps.append(x)
        return maps[::-1]


class Gate(nn.Module):
    """Scales each channel by what its mean and its maximum say, through two linear layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // GATE[0], GATE[1])
        self.attention_transform = nn.Sequential(
            nn.Linear(2 * channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor, pooled: Tensor) -> Tensor:
        """x (B, C, h, w), and its means and maxima (B, 2C)."""
        return x * self.attention_transform(pooled)[..., None, None]


class Blur(nn.Module):
    """The convolution that softens a mask; its kernel is stored, not learnt, sigma 1."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        bell = [math.exp(-0.5 * place * place) for place in range(-(BLUR // 2), BLUR // 2 + 1)]
        kernel = [[y * x / sum(bell) ** 2 for x in bell] for y in bell]
        self.register_buffer("weight", torch.tensor([[kernel]]))

    def forward(self, mask: Tensor) -> Tensor:
        return F.conv2d(mask, self.weight, padding=BLUR // 2)


class SeparatedAttention(nn.Module):
    """S2AM: foreground and background features are weighed apart, and joined by the mask."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.background_gate = Gate(channels)
        self.foreground_gate = Gate(channels)
        self.mix_gate = Gate(channels)
        self.learning_block = nn.Sequential(
            ConvBlock(channels, hidden, bias=False), ConvBlock(hidden, channels, bias=False)
        )
        self.mask_blurring = Blur()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, C, h, w) and the mask (B, 1, H, W) of any size."""
        if mask.shape[2:] != x.shape[2:]:
            mask = F.interpolate(mask, x.shape[2:], mode="bilinear", align_corners=True)
        m = self.mask_blurring(mask)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        inside = self.learning_block(self.foreground_gate(x, pooled)) + self.mix_gate(x, pooled)
        return m * inside + (1 - m) * self.background_gate(x, pooled)


class Up(nn.Module):
    """A level of the decoder: what comes from below is enlarged and joins the encoder's map."""

    def __init__(self, inputs: int, outputs: int, attention: int | None) -> None:
        super().__init__()
        # Index 0 stands for the upsampling, which has no weights.
        self.upconv = nn.Sequential(nn.Identity(), ConvBlock(inputs, outputs, norm=False))
        self.convs = DoubleConv(2 * outputs, outputs, norm=True)
        self.attention = None if attention is None else SeparatedAttention(2 * outputs, attention)

    def forward(self, x: Tensor, skip: Tensor, mask: Tensor) -> Tensor:
        x = F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=True)
        x = torch.cat([skip, self.upconv(x)], 1)
        return self.convs(x if self.attention is None else self.attention(x, mask))


class Decoder(nn.Module):
    """The way back up, and the blending layer at its end.

    Args:
        widths: of the encoder, finest first.
        attend_from: the first of the decoder's levels, counted from the deepest, with attention.
        attention: hidden channels of the attention as a share of its inputs.
    """

    def __init__(self, widths: Sequence[int], attend_from: int, attention: float) -> None:
        super().__init__()
        self.up_blocks = nn.ModuleList(
            Up(below, width, int(attention * 2 * width) if level >= attend_from else None)
            for level, (below, width) in enumerate(zip(widths[:0:-1], widths[-2::-1], strict=True))
        )
        self.conv_attention = nn.Conv2d(widths[0], 1, 1)
        self.to_rgb = nn.Conv2d(widths[0], 3, 1)

    def forward(self, maps: Sequence[Tensor], mask: Tensor) -> Tensor:
        """The encoder's maps, deepest first, and the mask (B, 1, H, W) to F_dec (B, C, H, W)."""
        x = maps[0]
        for block, skip in zip(self.up_blocks, maps[1:], strict=True):
            x = block(x, skip, mask)
        return x


def blending_layer(
    attention: nn.Conv2d, to_rgb: nn.Conv2d, features: Tensor, under: Tensor
) -> Tensor:
    """The blending layer of iS2AM: a soft attention mask chooses between input and output.

    Args:
        attention, to_rgb: 1x1 convolutions of the features to one channel and to three.
        features: (B, C, h, w). under: (B, 3, h, w), what shows where the attention is 1.
    """
    assert attention.bias is not None and to_rgb.bias is not None
    weight = torch.cat([attention.weight, to_rgb.weight])
    z = F.conv2d(features, weight, torch.cat([attention.bias, to_rgb.bias]))
    a, rgb = torch.sigmoid(SHARPNESS * z[:, :1]), z[:, 1:]
    return a * under + (1 - a) * rgb
