"""What saving as JPEG does to a picture, as batched tensor operations (ITU-T T.81).

Colours to YCbCr, chroma halved (or not), 8 x 8 cosine transform, quantisation by the tables of
the standard's annex K scaled as the Independent JPEG Group's `quality` does, and back. Entropy
coding loses nothing and is left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.train.recolour import rgb_to_ycc, ycc_to_rgb

# Annex K.1 and K.2, by rows.
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *(99,) * 32,
)  # fmt: skip


def _cosines() -> Tensor:
    """The orthonormal 8-point DCT-II, (8, 8): frequency by place."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    matrix = torch.cos(math.pi * k * (2 * n + 1) / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def tables(quality: Tensor) -> tuple[Tensor, Tensor]:
    """Quantisation steps for luma and chroma, (B, 8, 8) each, of qualities (B,) in 1..100."""
    scale = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    luma, chroma = (
        ((torch.tensor(t, dtype=torch.float32, device=quality.device) * scale[:, None] + 50) / 100)
        .floor()
        .clamp(1, 255)
        .view(-1, 8, 8)
        for t in (_LUMA, _CHROMA)
    )
    return luma, chroma


def _quantised(plane: Tensor, steps: Tensor) -> Tensor:
    """(B, 1, h, w) codes around 0, h and w multiples of 8, after the transform's rounding."""
    b, _, h, w = plane.shape
    dct = _cosines().to(plane)
    blocks = plane.view(b, h // 8, 8, w // 8, 8).permute(0, 1, 3, 2, 4)
    steps = steps[:, None, None]
    levels = (dct @ blocks @ dct.T / steps).round() * steps
    return (dct.T @ levels @ dct).permute(0, 1, 3, 2, 4).reshape(b, 1, h, w)


def resaved(x: Tensor, quality: Tensor, halved: bool = True) -> Tensor:
    """Pictures after saving as JPEG and opening again.

    Args:
        x: (B, 3, h, w), sRGB-encoded, [0, 1]. quality: (B,), 1..100.
        halved: chroma at half the size each way (4:2:0), as most cameras and sites save it.

    Returns:
        The same shape, whole 8-bit levels in [0, 1].
    """
    h, w = x.shape[2:]
    padded = F.pad(x, (0, -w % 16, 0, -h % 16), mode="replicate")
    ycc = rgb_to_ycc((padded * 255).round() / 255) * 255
    luma, chroma = tables(quality.float())
    planes = [_quantised(ycc[:, :1].round() - 128, luma) + 128]
    for plane in ycc[:, 1:].round().split(1, 1):  # centred on 0
        if halved:
            small = _quantised(F.avg_pool2d(plane, 2), chroma)
            plane = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        else:
            plane = _quantised(plane, chroma)
        planes.append(plane)
    out = ycc_to_rgb(torch.cat(planes, 1) / 255)
    return (out.clamp(0, 1) * 255).round()[:, :, :h, :w] / 255
