"""HDNet's equations: Local Dynamics and Mask-aware Global Dynamics (arXiv 2211.08639, Sec. 3).

Letters: B batch, C channels, N places, f foreground, b background, m mask, K neighbours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Places compared at a time: foreground x background, floats.
QUERIES, SUPPORTS = 1024, 4096

# --- Local Dynamics (Sec. 3.2) ------------------------------------------------------------------


@torch.no_grad()
def nearest(query: Tensor, support: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k supports with the largest dot products with each query, without the whole table.

    Args:
        query: (Nf, C). support: (Nb, C), Nb at least 1.

    Returns:
        Products and indices, (Nf, min(k, Nb)), largest first.
    """
    k = min(k, len(support))
    values, indices = [], []
    for q in query.split(QUERIES):
        best: Tensor | None = None
        place: Tensor | None = None
        first = 0
        for s in support.split(SUPPORTS):
            similar = q @ s.T
            # A maximum is several times cheaper than a partial sort of one.
            few = min(k, len(s))
            v, i = similar.max(1, keepdim=True) if few == 1 else similar.topk(few, dim=1)
            i, first = i + first, first + len(s)
            if best is not None and place is not None:
                v, i = torch.cat([best, v], 1), torch.cat([place, i], 1)
                v, order = v.topk(min(k, v.shape[1]), dim=1)
                i = i.gather(1, order)
            best, place = v, i
        assert best is not None and place is not None
        values.append(best)
        indices.append(place)
    return torch.cat(values), torch.cat(indices)


def coded_reference(query: Tensor, support: Tensor, nothing: int, certain: bool) -> Tensor:
    """phi_ref as the authors' code has it, from the places that matter alone.

    There, queries x m and supports x (1 - m) stand for *all* places, most of them 0, and the
    weight of a place's best support is its softmax over all places.

    Args:
        query: (Nf, C), of the places with m > 0. support: (Nb, C), of those with m < 1.
        nothing: how many places have m = 0: queries of 0, whose best product is 0.
        certain: whether any has m = 1: a support of 0, so that no best product is below 0.

    Returns:
        (Nf, C).
    """
    if not len(support):
        return torch.zeros_like(query)
    index = nearest(query, support)[1][:, 0]
    best = support[index]
    value = (query * best).sum(1)  # again, for gradients
    if certain:
        best = best * (value > 0).to(best)[:, None]
        value = value.clamp(min=0)
    total = value.logsumexp(0)
    if nothing:
        total = torch.logaddexp(total, total.new_tensor(float(nothing)).log())
    return (value - total).exp()[:, None] * best


def paper_reference(query: Tensor, support: Tensor, k: int) -> Tensor:
    """phi_ref of eqs. (2) to (4): the k nearest background places by cosine, blended.

    Args:
        query: (Nf, C), F_f. support: (Nb, C), F_b.

    Returns:
        (Nf, C); 0 if there is no background.
    """
    if not len(support):
        return torch.zeros_like(query)
    unit_f, unit_b = F.normalize(query, dim=1), F.normalize(support, dim=1)
    index = nearest(unit_f, unit_b, k)[1]
    cosine = (unit_f[:, None] * unit_b[index]).sum(2)  # eqs. (2), (3); (Nf, K)
    alpha = cosine.softmax(1)
    return (alpha[:, :, None] * support[index]).sum(1)  # eq. (4)


class LocalDynamics(nn.Module):
    """Foreground places, rewritten with the help of the background's."""

    def __init__(self, channels: int, reading: str, neighbours: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(2 * channels, channels, 1)  # g of eq. (5)
        self.reading, self.neighbours = reading, neighbours

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, C, h, w) with the mask at the same size, (B, 1, h, w)."""
        flat, masks = x.flatten(2).mT, mask.flatten(1)  # (B, N, C), (B, N)
        out = [self._picture(*pair) for pair in zip(flat, masks, strict=True)]
        return torch.stack(out).mT.unflatten(2, x.shape[2:])

    def _picture(self, x: Tensor, m: Tensor) -> Tensor:
        """(N, C), m (N,)."""
        there = (m > 0).nonzero()[:, 0]
        if not len(there):
            return x
        own, share = x[there], m[there, None]
        if self.reading == "coded":
            own = own * share
            around = (m < 1).nonzero()[:, 0]
            support = x[around] * (1 - m[around, None])
            nothing, certain = len(m) - len(there), len(around) < len(m)
            reference = coded_reference(own, support, nothing, certain)
        else:
            support = x[(m < 0.5).nonzero()[:, 0]]
            reference = paper_reference(own, support, self.neighbours)
        weight = self.linear.weight[:, :, 0]
        fused = F.linear(torch.cat([reference, own], 1), weight, self.linear.bias)  # eq. (5)
        return x.index_copy(0, there, torch.lerp(x[there], fused, share))


# --- Mask-aware Global Dynamics (Sec. 3.3) ------------------------------------------------------


def pool(x: Tensor) -> Tensor:
    """What the kernels are chosen by: the mean of the whole picture, (B, D, 1, 1)."""
    return x.mean((2, 3), keepdim=True)


def mask_aware(x: Tensor, mask: Tensor, w_f: Tensor, w_b: Tensor) -> Tensor:
    """Eq. (6): (B, D, h, w) through the foreground's kernel and the background's, (B, E, D) each,
    with the mask at the size of x, (B, 1, h, w)."""
    flat = x.flatten(2)
    return torch.lerp(w_b @ flat, w_f @ flat, mask.flatten(2)).unflatten(2, x.shape[2:])


class GlobalDynamics(nn.Module):
    """A 1 x 1 kernel for the foreground and one for the background, chosen by the picture."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_kernel = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, 4, 1),
            nn.Sigmoid(),
            nn.Conv2d(4, 2 * channels**2, 1, groups=2),
        )
        self.conv_guide = nn.Conv2d(channels, 2, 1)  # published; nothing reads it

    def kernels(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """W_f and W_b of eq. (6), (B, D, D) each, from (B, D, 1, 1)."""
        d = pooled.shape[1]
        w_f, w_b = self.conv_kernel[1:](pooled).view(-1, 2, d, d).unbind(1)
        return w_f, w_b

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Eq. (6), with the mask at the size of x."""
        return mask_aware(x, mask, *self.kernels(pool(x)))
