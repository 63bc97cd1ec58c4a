"""The convolutional encoder and decoder of iDIH, as HINet uses them.

Paper: Sofiiuk, Popenova, Konushin, Foreground-aware Semantic Representations for Image
    Harmonization, 2021, arXiv 2006.00809; adopted in HINet (arXiv 2303.01681), Sec. IV-A:
    the first three layers predict the content MLPs, the others form a small U-Net.
Differences from the published networks: none in the numbers. HINet has no attention map and
no blending head. Parameter names are the published ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

KERNEL, STRIDE = 4, 2
HALVING = 1  # this padding takes n to n / 2 (and back)
TO_ONE = 0  # and this one 4 to 1 (and back)


class ScaledAbs(nn.Module):
    """Multiplication by the absolute value of one learnt number."""

    def __init__(self, initial: float = 0.1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([initial]))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale.abs() * x


def mask_stem(channels: int = 64) -> nn.Sequential:
    """Mask (B, 1, H, W) to the features (B, channels, H/2, W/2) that are added to HRNet's stem."""
    return nn.Sequential(nn.Conv2d(1, channels, 3, 2, 1), ScaledAbs())


class ConvBlock(nn.Module):
    """4x4 convolution of stride 2 with bias, batch normalisation (or none), ELU."""

    def __init__(
        self, inputs: int, outputs: int, *, norm: bool = True, to_one: bool = False
    ) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(inputs, outputs, KERNEL, STRIDE, TO_ONE if to_one else HALVING),
            nn.BatchNorm2d(outputs) if norm else nn.Identity(),
            nn.ELU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class DeconvBlock(nn.Module):
    """4x4 transposed convolution of stride 2 with bias, batch normalisation, ELU."""

    def __init__(self, inputs: int, outputs: int, *, from_one: bool = False) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, KERNEL, STRIDE, TO_ONE if from_one else HALVING),
            nn.BatchNorm2d(outputs),
            nn.ELU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


@dataclass(frozen=True)
class EncoderFeatures:
    """What the decoder needs of a 256 x 256 thumbnail.

    shallow: three maps, finest first: (B, 64, 128, 128), (B, 64, 64, 64), (B, 128, 32, 32).
    skips: (B, 256, 4, 4), (B, 256, 8, 8), (B, 128, 16, 16), (B, 128, 32, 32).
    bottleneck: (B, 512, 1, 1).
    """

    shallow: tuple[Tensor, Tensor, Tensor]
    skips: tuple[Tensor, Tensor, Tensor, Tensor]
    bottleneck: Tensor


class Encoder(nn.Module):
    """iDIH's strided convolutions; the global features join before block 2."""

    def __init__(self, global_channels: int = 128) -> None:
        super().__init__()
        self.block0 = ConvBlock(4, 64, norm=False)
        self.block1 = ConvBlock(64, 64, norm=False)
        self.blocks_connected = nn.ModuleDict(
            {
                "block2_decode": ConvBlock(64, 128),  # for the hypernetwork: no global features
                "block2": ConvBlock(64 + global_channels, 128),
                "block3": ConvBlock(128, 128),
                "block4": ConvBlock(128, 256),
                "block5": ConvBlock(256, 256),
                "block6": ConvBlock(256, 512, to_one=True),
            }
        )

    def forward(self, rgbm: Tensor, global_features: Tensor) -> EncoderFeatures:
        """Features of a thumbnail.

        Args:
            rgbm: (B, 4, 256, 256): RGB in [-1, 1], then the mask in [0, 1].
            global_features: (B, 128, 64, 64), from HRNet.
        """
        later = self.blocks_connected
        first = self.block0(rgbm)
        second = self.block1(first)
        third = later["block2_decode"](second)
        x2 = later["block2"](torch.cat([second, global_features], 1))
        x3 = later["block3"](x2)
        x4 = later["block4"](x3)
        x5 = later["block5"](x4)
        return EncoderFeatures((first, second, third), (x5, x4, x3, x2), later["block6"](x5))


def deconv_blocks() -> nn.ModuleList:
    """The blocks of the way back up, for `deconvolve`."""
    return nn.ModuleList(
        [
            DeconvBlock(512, 256, from_one=True),
            DeconvBlock(256, 256),
            DeconvBlock(256, 128),
            DeconvBlock(128, 128),
            DeconvBlock(128, 64),
        ]
    )


def deconvolve(blocks: nn.ModuleList, features: EncoderFeatures) -> Tensor:
    """From the bottleneck to (B, 64, 64, 64); skips are added after the activation.

    Args:
        blocks: see `deconv_blocks`; the last one has no skip.
        features: of a 256 x 256 thumbnail.
    """
    *inner, last = blocks
    x = features.bottleneck
    for block, skip in zip(inner, features.skips, strict=True):
        x = block(x) + skip
    return last(x)
