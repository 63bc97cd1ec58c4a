"""From a thumbnail and its harmonised version to an affine map a place: an edge-aware fit.

Sources: He, Sun, Tang, Guided Image Filtering, ECCV 2010: eqs. (13) to (16), colour guidance;
    He, Sun, Fast Guided Filter, arXiv 1505.00996: the coefficients are found at a small size and
    enlarged, not the picture.
Differences from the papers:
 - all means are weighted (by the mask), so that what happened to the background cannot leak into
   the foreground; places without weight nearby get the fit of the whole foreground;
 - the filter is run on what one fit to the whole foreground leaves over, so that its ridge
   shrinks slopes towards that fit and not towards 0: a change that is affine comes back as it is.

Letters: B batch, (h, w) the thumbnail; I the thumbnail's colours, p the harmonised ones.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.affine import AffineMap, as_maps, recolour

RADIUS = 8
# Of the local fits: variances of colours below this count as flat (the papers' epsilon).
EPS = 1e-2
# Of the fit to the whole: as small as keeps a foreground of one colour solvable.
RIDGE = 1e-6
# Weight that each place has besides the mask's, as a share of its mean: of nothing left over by
# the fit to the whole, which so decides where there is no foreground nearby.
SHARE = 1e-4


def global_fit(source: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """The weighted least-squares affine change of all colours, near the identity if in doubt.

    Args:
        source, target: (B, 3, h, w), [0, 1] nominally. weight: (B, 1, h, w), 0 or more.

    Returns:
        (B, 3, 4), float32: matrix and offset.
    """
    # Float64, which Apple's graphics processors lack; there are few numbers.
    where = "cpu" if source.device.type == "mps" else source.device
    colours = source.flatten(2).to(where, torch.float64)
    design = torch.cat([colours, torch.ones_like(colours[:, :1])], 1)  # (B, 4, N)
    w = weight.flatten(2).to(where, torch.float64)
    w = w / w.sum(2, keepdim=True).clamp(min=1e-12)
    change = target.flatten(2).to(where, torch.float64) - colours
    ridge = RIDGE * torch.eye(4, dtype=torch.float64, device=where)
    normal = (design * w) @ design.mT + ridge
    slopes = torch.linalg.solve(normal, (design * w) @ change.mT).mT  # (B, 3, 4)
    return slopes.to(source.device, torch.float32) + torch.eye(3, 4, device=source.device)


def _box(x: Tensor, radius: int) -> Tensor:
    """Mean over (2 radius + 1)^2 places; what lies beyond the edge counts as 0."""
    k = 2 * radius + 1
    rows = F.avg_pool2d(x, (k, 1), stride=1, padding=(radius, 0))
    return F.avg_pool2d(rows, (1, k), stride=1, padding=(0, radius))


def guided_fit(
    source: Tensor, target: Tensor, weight: Tensor, radius: int = RADIUS, eps: float = EPS
) -> AffineMap:
    """The affine map, smooth where the thumbnail is, that turns `source` into `target`.

    Args:
        source: (B, 3, h, w), the thumbnail, [0, 1]. target: the same, harmonised.
        weight: (B, 1, h, w), 0 or more: where `target` is to be believed, as a rule the mask.
        radius: of the windows, in the thumbnail's pixels.
        eps: see EPS; smaller follows finer structure.

    Returns:
        Maps of the thumbnail's size; differentiable in `target`.
    """
    whole = global_fit(source, target, weight)
    maps = whole.flatten(1)[:, :, None, None].expand(-1, -1, *source.shape[2:])
    rest = target - recolour(maps, source)

    confidence = _box(weight, radius)
    share = SHARE * weight.mean((2, 3), keepdim=True).clamp(min=1e-6)

    def mean(x: Tensor) -> Tensor:
        return _box(x * weight, radius) / (confidence + share)

    mean_i, mean_p = mean(source), mean(rest)
    pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    products = mean(torch.cat([source[:, i : i + 1] * source[:, j : j + 1] for i, j in pairs], 1))
    variance = {
        (i, j): products[:, n] - mean_i[:, i] * mean_i[:, j] + (eps if i == j else 0.0)
        for n, (i, j) in enumerate(pairs)
    }
    inverse = _inverse(variance)  # (B, 3, 3, h, w)
    crossed = source.unsqueeze(1) * rest.unsqueeze(2)  # (B, p, I, h, w)
    covariance = mean(crossed.flatten(1, 2)).unflatten(1, (3, 3))
    covariance = covariance - mean_i.unsqueeze(1) * mean_p.unsqueeze(2)
    slopes = torch.einsum("bpihw,bijhw->bpjhw", covariance, inverse)  # eq. (14)
    offset = mean_p - torch.einsum("bpjhw,bjhw->bphw", slopes, mean_i)  # eq. (15)

    # Eq. (16): the mean of all windows that hold the pixel, by how much foreground they saw.
    sure = confidence + share
    found = _box(as_maps(slopes, offset) * sure, radius) / _box(sure, radius)
    return AffineMap(maps + found)


def _inverse(v: dict[tuple[int, int], Tensor]) -> Tensor:
    """Of symmetric 3 x 3 matrices by cofactors: (B, 3, 3, h, w)."""
    a, b, c, d, e, f = (v[k] for k in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)))
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    rows = [torch.stack(row, 1) for row in ((aa, ab, ac), (ab, bb, bc), (ac, bc, cc))]
    return torch.stack(rows, 1) / (a * aa + b * ab + c * ac)[:, None, None]
