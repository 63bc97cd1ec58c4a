"""A transformer over the patches of a composite, and its convolutional ends, as AICT has them.

Architecture: Dosovitskiy et al., An Image Is Worth 16x16 Words, arXiv 2010.11929; post-norm
blocks as in Vaswani et al., arXiv 1706.03762, section 3.1. Used for harmonisation by Guo et al.,
Image Harmonization With Transformer, ICCV 2021, without position embeddings. Parameter names are
those of AICT's published checkpoint.

Letters: B pictures, C channels, D width, N tokens, p patch side, (h, w) thumbnail.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def patches(x: Tensor, side: int) -> Tensor:
    """Cut pictures into squares: (B, C, h, w) to tokens (B, N, p p C).

    Tokens run row by row; inside of one, rows, then columns, the channel fastest.
    """
    b, c, h, w = x.shape
    x = x.view(b, c, h // side, side, w // side, side)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, side * side * c)


class SelfAttention(nn.Module):
    """Multi-head attention of tokens to all tokens, with query, key, value in one matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor) -> Tensor:
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then a two-layer network; each added and normalised afterwards."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = SelfAttention(width, heads)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x)))
        hidden = self.dropout(F.gelu(self.linear1(x)))  # the exact one, by the error function
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class Patchwise(nn.Module):
    """Picture and mask (B, 4, h, w) to a map (B, D, h / p, w / p); no position embedding."""

    def __init__(
        self, patch: int, width: int, depth: int, heads: int, hidden: int, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.patch = patch
        # Index 0 of the published sequence holds no parameters: it cuts the patches.
        self.patch_to_embedding = nn.Sequential(nn.Identity(), nn.Linear(4 * patch**2, width))
        blocks = [Block(width, heads, hidden, dropout) for _ in range(depth)]
        self.transformer_enc = nn.ModuleDict({"layers": nn.ModuleList(blocks)})

    def forward(self, x: Tensor) -> Tensor:
        h, w = (n // self.patch for n in x.shape[2:])
        tokens = self.patch_to_embedding(patches(x, self.patch))
        for block in self.transformer_enc["layers"]:  # type: ignore[attr-defined]
            tokens = block(tokens)
        return tokens.transpose(1, 2).unflatten(2, (h, w))


class PatchDecoder(nn.Module):
    """Each token to the p x p pixels that it came from: (B, D, h / p, w / p) to (B, C, h, w)."""

    def __init__(self, width: int, outputs: int, patch: int) -> None:
        super().__init__()
        self.dec = nn.ConvTranspose2d(width, outputs, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.dec(x)


def bottom_convs(width: int, middle: int, outputs: int) -> nn.Sequential:
    """Two convolutions with a halving between: (B, D, h, w) to (B, outputs, h / 2, w / 2)."""
    return nn.Sequential(
        nn.Conv2d(width, middle, 3, padding=1),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(middle, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
