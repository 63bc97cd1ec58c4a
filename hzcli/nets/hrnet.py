"""HRNetV2-W18 with object-contextual representations: HINet's extra global features.

Papers:
    Wang et al., Deep High-Resolution Representation Learning for Visual Recognition, 2020,
        arXiv 1908.07919 (the parallel branches).
    Yuan, Chen, Wang, Object-Contextual Representations for Semantic Segmentation, 2020,
        arXiv 1909.11065 (OCR; here with two regions, foreground and background).
    Sofiiuk, Popenova, Konushin, Foreground-aware Semantic Representations for Image
        Harmonization, 2021, arXiv 2006.00809 (iDIH: the mask enters after the stem).
    Used by HINet (arXiv 2303.01681), Fig. 2, "Extra Global Features".
Differences from the published networks: none in the numbers. Parameter names are the
published ones, so that published checkpoints load as they are; order of definition matters
too (`state_dict` lists in that order). Nothing is loaded in a constructor.

Letters: B batch, C channels, N positions, R = 2 regions, D key channels.
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEM = 64
BRANCHES = (18, 36, 72, 144)  # W18: 18 x 1, 2, 4, 8, at 1/4, 1/8, 1/16, 1/32
BLOCKS = 4  # residual blocks per branch and module
OCR_CHANNELS = 128
KEY_CHANNELS = 64


def conv_bn_relu(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, relu: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch normalisation, and (if asked for) ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


def upsample(x: Tensor, like: Tensor) -> Tensor:
    """`x` resized to the height and width of `like`, corners on corners."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions to four times the width, and a shortcut."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            conv_bn_relu(inputs, outputs, 1, relu=False) if inputs != outputs else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return F.relu(self.bn3(self.conv3(out)) + self.downsample(x))


def fuse_path(source: int, target: int) -> nn.Module:
    """What carries branch `source` to the scale of branch `target` (0 is the finest)."""
    if source == target:
        return nn.Identity()
    if source > target:  # coarse to fine: match the channels, `upsample` does the rest
        return conv_bn_relu(BRANCHES[source], BRANCHES[target], 1, relu=False)
    # fine to coarse: one halving at a time; only the last changes the channels, without ReLU
    steps = target - source
    return nn.Sequential(
        *(
            conv_bn_relu(
                BRANCHES[source],
                BRANCHES[target] if last else BRANCHES[source],
                stride=2,
                relu=not last,
            )
            for last in (step == steps - 1 for step in range(steps))
        )
    )


class ExchangeModule(nn.Module):
    """Parallel branches, each to its own blocks, then every branch to every other one."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(BRANCHES[b]) for _ in range(BLOCKS))) for b in range(count)
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(fuse_path(source, target) for source in range(count))
            for target in range(count)
        )

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        fused = []
        for target, paths in enumerate(self.fuse_layers):
            total = torch.zeros_like(xs[target])
            for source, path in enumerate(cast(nn.ModuleList, paths)):
                y = path(xs[source])
                total = total + (upsample(y, total) if source > target else y)
            fused.append(F.relu(total))
        return fused


def gather_regions(features: Tensor, mask: Tensor) -> Tensor:
    """Mean feature of the foreground and of the background, softly.

    The weights are a softmax over positions of the mask values themselves, so a foreground
    position weighs only e times as much as a background one.

    Args:
        features: (B, C, h, w).
        mask: (B, 1, H, W), [0, 1], at any size.

    Returns:
        (B, C, 2, 1): foreground, background.
    """
    regions = upsample(torch.cat([mask, 1 - mask], 1), features).flatten(2)  # (B, R, N)
    weights = regions.softmax(2)
    context = weights @ features.flatten(2).transpose(1, 2)  # (B, R, C)
    return context.transpose(1, 2).unsqueeze(3)


def conv_layers(*widths: int) -> nn.Sequential:
    """1x1 convolutions, each followed by a nested BN + ReLU (published key grammar)."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers.append(nn.Conv2d(inputs, outputs, 1, bias=False))
        layers.append(nn.Sequential(nn.BatchNorm2d(outputs), nn.ReLU()))
    return nn.Sequential(*layers)


class ObjectAttention(nn.Module):
    """Each position asks the two region features how much of each it should take."""

    def __init__(self, channels: int, keys: int) -> None:
        super().__init__()
        self.f_pixel = conv_layers(channels, keys, keys)
        self.f_object = conv_layers(channels, keys, keys)
        self.f_down = conv_layers(channels, keys)
        self.f_up = conv_layers(keys, channels)

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        query = self.f_pixel(features).flatten(2).transpose(1, 2)  # (B, N, D)
        key = self.f_object(regions).flatten(2)  # (B, D, R)
        value = self.f_down(regions).flatten(2).transpose(1, 2)  # (B, R, D)
        attention = (query @ key * key.shape[1] ** -0.5).softmax(2)  # (B, N, R)
        context = (attention @ value).transpose(1, 2)  # (B, D, N)
        return self.f_up(context.unflatten(2, features.shape[-2:]))


class OcrHead(nn.Module):
    """Features enriched by the context of their region."""

    def __init__(self, channels: int, keys: int) -> None:
        super().__init__()
        self.object_context_block = ObjectAttention(channels, keys)
        self.conv_bn_dropout = nn.Sequential(
            *conv_layers(2 * channels, channels), nn.Dropout2d(0.05)
        )

    def forward(self, features: Tensor, regions: Tensor) -> Tensor:
        context = self.object_context_block(features, regions)
        return self.conv_bn_dropout(torch.cat([context, features], 1))


def stage(modules: int, branches: int) -> nn.ModuleList:
    """`modules` exchange modules of `branches` branches, one after the other."""
    return nn.ModuleList(ExchangeModule(branches) for _ in range(modules))


class HRNetOCR(nn.Module):
    """HRNetV2-W18 + OCR: 128 global features at a quarter of the input's size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STEM, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.conv2 = nn.Conv2d(STEM, STEM, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(STEM)
        wide = 4 * STEM
        self.layer1 = nn.Sequential(
            Bottleneck(STEM, STEM), *(Bottleneck(wide, STEM) for _ in range(BLOCKS - 1))
        )
        one, two, three, four = BRANCHES
        # A new branch starts from the coarsest one; the nesting is the published key grammar.
        self.transition1 = nn.ModuleList(
            [conv_bn_relu(wide, one), nn.Sequential(conv_bn_relu(wide, two, stride=2))]
        )
        self.stage2 = stage(1, 2)
        self.transition2 = nn.ModuleList(
            [nn.Identity(), nn.Identity(), nn.Sequential(conv_bn_relu(two, three, stride=2))]
        )
        self.stage3 = stage(4, 3)
        self.transition3 = nn.ModuleList(
            [nn.Identity()] * 3 + [nn.Sequential(conv_bn_relu(three, four, stride=2))]
        )
        self.stage4 = stage(3, 4)
        self.conv3x3_ocr = nn.Sequential(
            nn.Conv2d(sum(BRANCHES), OCR_CHANNELS, 3, 1, 1),
            nn.BatchNorm2d(OCR_CHANNELS),
            nn.ReLU(),
        )
        self.ocr_distri_head = OcrHead(OCR_CHANNELS, KEY_CHANNELS)

    def forward(self, rgb: Tensor, mask: Tensor, mask_features: Tensor) -> Tensor:
        """Global features of a thumbnail.

        Args:
            rgb: (B, 3, H, W), [-1, 1]; no ImageNet statistics. H and W multiples of 32.
            mask: (B, 1, H, W), [0, 1].
            mask_features: (B, 64, H/2, W/2), added after the first BN + ReLU.

        Returns:
            (B, 128, H/4, W/4), not negative.
        """
        x = F.relu(self.bn1(self.conv1(rgb))) + mask_features
        x = self.layer1(F.relu(self.bn2(self.conv2(x))))
        xs = [start(x) for start in self.transition1]
        for module in self.stage2:
            xs = module(xs)
        for transition, modules in (
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            xs = [*xs, transition[-1](xs[-1])]
            for module in modules:
                xs = module(xs)
        features = self.conv3x3_ocr(torch.cat([xs[0], *(upsample(x, xs[0]) for x in xs[1:])], 1))
        return self.ocr_distri_head(features, gather_regions(features, mask))
