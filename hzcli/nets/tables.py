"""3D tables from a picture's code: smooth parts and free ones, both offsets from the identity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from hzcli.core.lut import identity_lut, lookup
from hzcli.nets.doubt import believed, doubts

# Number of products of Legendre polynomials in r, g, b of total degree 3 or less.
POLYNOMIALS = 20
# What heads predict is a small multiple of their output, so that one learning rate suits them
# and the encoder: an Adam step moves a head's result by rate x fan-in, not by rate.
GAIN = 0.1
FREE = 0.2 * GAIN  # of single nodes


@lru_cache
@torch.inference_mode(False)  # what is kept must serve training too
def polynomials(size: int) -> Tensor:
    """Products of Legendre polynomials of total degree 3 or less on a cube of nodes.

    Returns:
        (POLYNOMIALS, size, size, size), indexed [k][r][g][b].
    """
    x = torch.linspace(-1, 1, size)
    one = [torch.ones_like(x), x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2]
    powers = [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]
    return torch.stack([torch.einsum("i,j,k->ijk", one[i], one[j], one[k]) for i, j, k in powers])


def table_of(smooth: Tensor, free: Tensor) -> Tensor:
    """What two heads say as tables.

    Args:
        smooth: (B, 3 * POLYNOMIALS), of the polynomials. free: (B, 3 n^3), of the nodes.

    Returns:
        (B, 3, n, n, n), indexed [channel][r][g][b].
    """
    n = round((free.shape[1] / 3) ** (1 / 3))
    basis = polynomials(n).to(smooth)
    curved = torch.einsum("bck,kxyz->bcxyz", smooth.view(-1, 3, POLYNOMIALS), basis)
    return identity_lut(n, device=free.device) + GAIN * curved + FREE * free.view(-1, 3, n, n, n)


def doubted(model: Any, table: Tensor, rgb: Tensor, mask: Tensor, most: float = math.inf) -> Tensor:
    """Tables whose change is taken as far as it is believed (nets/doubt.py).

    Args:
        table: (B, 3, n, n, n). rgb: (B, 3, h, w), [0, 1]. mask: (B, 1, h, w), [0, 1].
        most: 1 where something is added to the table that has learnt how far it falls short.
    """
    if not doubts(model):
        return table
    share = believed(model, lookup(table, rgb), rgb, mask, most)
    same = identity_lut(table.shape[-1], device=table.device)
    return same + share.view(-1, 1, 1, 1, 1) * (table - same)


def table_layer(state: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """Both heads `tone` and `lut` among the tensors of a network, as one linear layer from the
    code to what is added to the identity.

    Returns:
        Weight (3 n^3, code) and bias (3 n^3,); None if there are no such heads.
    """
    names = ("tone.weight", "lut.weight", "tone.bias", "lut.bias")
    if not all(name in state for name in names) or len(state["tone.bias"]) != 3 * POLYNOMIALS:
        return None
    smooth, free, smooth_bias, free_bias = (state[name].float() for name in names)
    n = round((len(free) / 3) ** (1 / 3))
    zero = identity_lut(n, device=free.device)
    columns = table_of(smooth.T.contiguous(), free.T.contiguous()) - zero
    bias = table_of(smooth_bias[None], free_bias[None]) - zero
    return columns.flatten(1).T.contiguous(), bias.flatten()


def start_at_identity(*heads: nn.Linear) -> None:
    """Heads that say nothing yet."""
    for head in heads:
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
