"""MLPs whose weights are predicted: factorised multiplicative modulation.

Paper: Skorokhodov, Ignatyev, Elhoseiny, Adversarial Generation of Continuous Images, 2021,
    arXiv 2011.12026; adopted in HINet (arXiv 2303.01681), Sec. III-C and IV-A.

Letters: n MLPs, K pixels of each, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LEAK = 0.01  # slope of LeakyReLU below 0


@dataclass(frozen=True)
class Modulated:
    """Shapes of a predicted MLP and the slicing of its parameter vector.

    A layer's weight is tanh(A @ B) * basic, with A (in, rank) and B (rank, out) predicted and
    `basic` learnt; its bias is predicted as it is.
    """

    sizes: tuple[int, ...]
    rank: int

    @property
    def length(self) -> int:
        """Length of the parameter vector of one MLP."""
        return sum((a + b) * self.rank + b for a, b in pairwise(self.sizes))

    def split(self, vector: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Cut (..., length) into (A, B, bias) of each layer, A row-major (in, rank)."""
        layers, start = [], 0
        for a, b in pairwise(self.sizes):
            r = self.rank
            parts = vector[..., start : start + (a + b) * r + b].split([a * r, b * r, b], -1)
            lead = vector.shape[:-1]
            layers.append((parts[0].reshape(*lead, a, r), parts[1].reshape(*lead, r, b), parts[2]))
            start += (a + b) * r + b
        return layers

    def weights(self, vector: Tensor, basics: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """(weight (..., in, out), bias (..., 1, out)) of each layer.

        Args:
            vector: (..., length).
            basics: one learnt matrix per layer, (in, out) with any leading ones.
        """
        return [
            (torch.tanh(a @ b) * basic.view(basic.shape[-2:]), bias.unsqueeze(-2))
            for (a, b, bias), basic in zip(self.split(vector), basics, strict=True)
        ]

    def initial(self) -> Tensor:
        """A vector for which every weight is tanh(1) * basic: a plain MLP to start from."""
        vector = normal(self.length, scale=0.1)
        for a, b, bias in self.split(vector):
            b.zero_()
            a[..., 0] = 1
            b[..., 0, :] = 1
            bias.zero_()
        return vector  # which the parts are views of

    def basics(self) -> nn.ParameterList:
        """Learnt factors, scaled so that tanh(1) * basic keeps the variance of activations;
        those of colours (three outputs) start near 0."""
        return nn.ParameterList(
            normal(a, b, scale=math.sqrt(2 / a) / math.tanh(1) * (0.02 if b == 3 else 1))
            for a, b in pairwise(self.sizes)
        )


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    """Normal numbers of deviation `scale`; none on the meta device, where weights are about to be
    loaded and drawing or scaling them would only import a second's worth of torch."""
    x = torch.empty(shape)
    return x if x.is_meta else x.normal_(std=scale)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One layer of n MLPs: (n, in, K) to (n, out, K); weight and bias as of `weights`.

    Pixels come last: a block of a picture is laid out so with the least rearranging, and
    matrix products of few channels run several times faster that way round.
    """
    return torch.baddbmm(bias.mT, weight.mT, x)


def homogeneous(layers: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Layers with the bias as a row of the weights: (..., 1 + in, 1 + out) of each.

    Inputs and outputs begin with a 1, which LeakyReLU leaves a 1.
    """
    found = []
    for weight, bias in layers:
        *lead, a, b = weight.shape
        matrix = weight.new_zeros(*lead, 1 + a, 1 + b)
        matrix[..., 0, 0] = 1
        matrix[..., :1, 1:] = bias
        matrix[..., 1:, 1:] = weight
        found.append(matrix)
    return found


def run_mlp(x: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """LeakyReLU(x W + b), layer after layer: (n, in, K) to (n, out, K)."""
    for weight, bias in layers:
        x = F.leaky_relu(linear(x, weight, bias), LEAK, inplace=not torch.is_grad_enabled())
    return x
