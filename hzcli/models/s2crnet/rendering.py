"""S2CRNet's equations: a piecewise-linear curve per channel (eq. (1)), and the curve rendering
modules (CRM, Sec. 3.2) that predict its slopes from foreground and background.

Where the paper's letter is not followed:
  - eq. (1) prints 1 where its ramp ends; a ramp of height 1 / L is meant, and divided by 1 / L.
  - the projections have no ReLU in the authors' code, here neither.

Letters: B pictures, D features, L pieces of a curve.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hzcli.core.curves import Curves, exact_dtype
from hzcli.models.s2crnet.config import Curve, S2CRNetConfig

EMBEDDED = (32, 64)  # of a label's two layers
# What heads of our own predict is a small multiple of their output, so that one learning rate
# suits them and the trunk: an Adam step moves a head's result by rate x fan-in, not by rate.
GAIN = 0.1


def curves_of(p: Tensor, curve: Curve = "published") -> Curves:
    """The curves psi that a prediction P stands for.

    Args:
        p: (B, 3L), channel by channel; for "free" curves (B, 3 (L + 1)), an offset first in each.
        curve: see config.py.

    Returns:
        Curves with knots at i / L. Summing slope i over [i / L, (i + 1) / L], eq. (1) is
        psi(k / L) = sum_{i<k} p_i / sum_j p_j there, and linear in between.
    """
    slopes = p.unflatten(1, (3, -1)).to(exact_dtype(p.device))  # channel-major
    start = torch.zeros_like(slopes[..., :1])
    if curve == "published":
        total = slopes.sum(2, keepdim=True) + 1e-30
    else:
        slopes = GAIN * slopes
        if curve == "free":
            start, slopes = slopes[..., :1], slopes[..., 1:]
        slopes = slopes.clamp(max=0).exp() + F.relu(slopes)  # positive, 1 at 0, straight above
        if curve == "monotone":
            total = slopes.sum(2, keepdim=True).clamp_min(1e-6)
        else:
            total = torch.full_like(start, slopes.shape[2])
    knots = torch.cat([start, start + slopes.cumsum(2) / total], 2)
    return Curves(knots.to(p.dtype))


class Projection(nn.Module):
    """phi_f or phi_b: one linear layer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc1(x)


class CurveModule(nn.Module):
    """CRM, and semantic CRM when a label is given: both heads are in published weights."""

    def __init__(self, features: int, config: S2CRNetConfig) -> None:
        super().__init__()
        outputs, (narrow, wide) = config.outputs, EMBEDDED
        self.fc_f_1 = Projection(features, outputs)
        self.fc_b_1 = Projection(features, outputs)
        last = [self.fc_f_1.fc1, self.fc_b_1.fc1]
        if config.labels:
            self.fc_label_1 = nn.Linear(config.labels, narrow)
            self.fc_label_2 = nn.Linear(narrow, wide)
            self.fc_f_label = nn.Linear(features + wide, outputs)
            last.append(self.fc_f_label)
        if config.hidden:
            self.fc_joint = nn.Linear(config.hidden, outputs)
            last.append(self.fc_joint)
        if config.curve != "published":  # P = 0 is the identity then
            for layer in last:
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, f_f: Tensor, f_b: Tensor, joint: Tensor | None, label: Tensor | None):
        """F_f and F_b (B, D), what the joint network says (B, hidden), a label (B, labels) that
        is 1 at its kind, to P = phi_f(F_f) + phi_b(F_b), (B, outputs)."""
        if label is None:
            p = self.fc_f_1(f_f)
        else:
            embedded = self.fc_label_2(F.relu(self.fc_label_1(label)))
            p = self.fc_f_label(torch.cat([f_f, embedded], 1))  # on the foreground's side alone
        p = p + self.fc_b_1(f_b)
        return p if joint is None else p + self.fc_joint(joint)
