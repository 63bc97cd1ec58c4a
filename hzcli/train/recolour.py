"""Recolourings: what turns a photograph's foreground into a composite's.

Batched tensor operations on any device. Pictures are (B, 3, h, w), sRGB-encoded, [0, 1];
point samples of a region are (B, 3, N). Two families:

 - retouches, as an expert's edits of one photograph differ: exposure and white balance in
   linear light; contrast, saturation, tone and channel curves on encoded values; and the light
   of another hour;
 - colour transfers towards a region of another photograph, the four of iHarmony4 (Cong et al.,
   CVPR 2020, arXiv 1911.13239): mean and deviation in Lab (Reinhard 2001), covariance in RGB
   (Xiao and Ma 2006), iterative distribution transfer (Pitie 2007), histogram matching in
   YCbCr (Fecker 2008).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Linear sRGB to XYZ (IEC 61966-2-1), rows scaled to the D65 white; XYZ to LMS is not used.
_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
     [0.0193339, 0.1191920, 0.9503041]]
)  # fmt: skip
_WHITE = torch.tensor([0.95047, 1.0, 1.08883])
_YCC = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)


def to_linear(x: Tensor) -> Tensor:
    """sRGB-encoded [0, 1] to linear light [0, 1] (IEC 61966-2-1)."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4)


def to_encoded(x: Tensor) -> Tensor:
    """Linear light to sRGB-encoded; negative values follow the linear toe."""
    return torch.where(
        x <= 0.0031308, x * 12.92, 1.055 * x.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    )


def _mix(matrix: Tensor, x: Tensor) -> Tensor:
    """Apply (3, 3) or (B, 3, 3) to the channels of (B, 3, ...)."""
    flat = x.flatten(2)
    return (matrix.to(x) @ flat).view(x.shape)


def rgb_to_lab(x: Tensor) -> Tensor:
    """sRGB [0, 1] to CIE L*a*b* (D65)."""
    xyz = _mix(_XYZ / _WHITE[:, None], to_linear(x))
    d = 6 / 29
    f = torch.where(xyz > d**3, xyz.clamp_min(1e-8) ** (1 / 3), xyz / (3 * d * d) + 4 / 29)
    fx, fy, fz = f.unbind(1)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], 1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """CIE L*a*b* (D65) to sRGB; not clamped."""
    light, a, b = lab.unbind(1)
    fy = (light + 16) / 116
    f = torch.stack([fy + a / 500, fy, fy - b / 200], 1)
    d = 6 / 29
    xyz = torch.where(f > d, f**3, 3 * d * d * (f - 4 / 29))
    return to_encoded(_mix(torch.linalg.inv(_XYZ / _WHITE[:, None]), xyz))


def rgb_to_ycc(x: Tensor) -> Tensor:
    """sRGB [0, 1] to YCbCr (JFIF), chroma centred on 0."""
    return _mix(_YCC, x)


def ycc_to_rgb(x: Tensor) -> Tensor:
    return _mix(torch.linalg.inv(_YCC), x)


# --- retouches -----------------------------------------------------------------------------


def exposure(x: Tensor, stops: Tensor, gains: Tensor) -> Tensor:
    """Scale linear light by 2^stops (B,) and a gain a channel (B, 3)."""
    scale = (2**stops)[:, None] * gains
    return to_encoded(to_linear(x) * scale[:, :, None, None])


def contrast(x: Tensor, amount: Tensor, pivot: Tensor) -> Tensor:
    """A smooth S-curve about `pivot`: slope e^amount there, black and white kept.

    amount, pivot: (B,); pivot in (0, 1). The curve is x^s / pivot^(s-1) below the pivot and
    its mirror image above, s = e^amount.
    """
    s = amount.exp()[:, None, None, None]
    p = pivot[:, None, None, None]
    x = x.clamp(0, 1)
    low = p * (x / p).clamp(0, 1) ** s
    high = 1 - (1 - p) * ((1 - x) / (1 - p)).clamp(0, 1) ** s
    return torch.where(x < p, low, high)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance from luma (Rec. 601) by factor (B,)."""
    luma = (x * x.new_tensor([0.299, 0.587, 0.114])[None, :, None, None]).sum(1, keepdim=True)
    return luma + (x - luma) * factor[:, None, None, None]


def gamma(x: Tensor, exponents: Tensor) -> Tensor:
    """x^exponent, one exponent a channel (B, 3)."""
    return x.clamp(0, 1) ** exponents[:, :, None, None]


def levels(x: Tensor, black: Tensor, white: Tensor) -> Tensor:
    """Map black to 0 and white to 1, a value a channel (B, 3)."""
    b, w = black[:, :, None, None], white[:, :, None, None]
    return (x - b) / (w - b)


def retouch(x: Tensor, generator: torch.Generator, strength: Tensor) -> Tensor:
    """One random expert-style edit a picture; `strength` (B,) scales all of its parts.

    Each part is present with its own probability, so that single-cause edits occur too.
    """
    n, device = x.shape[0], x.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator, device=device)

    def gate(p: float) -> Tensor:
        return (torch.rand(n, generator=generator, device=device) < p).float() * strength

    # White balance: blue-amber (opposite gains of R and B) and a weaker green-magenta.
    warm, tint = 0.30 * normal() * gate(0.7), 0.08 * normal() * gate(0.3)
    gains = torch.stack([warm / 2 - tint / 2, tint, -warm / 2 - tint / 2], 1).exp()
    # A camera's edit works on unclipped light; highlights roll off instead of breaking.
    y = exposure(x, 0.75 * normal() * gate(0.85), gains)
    y = torch.where(y > 0.9, 1 - 0.1 * torch.exp(-(y - 0.9).clamp_min(0) / 0.1), y)
    pivot = (0.45 + 0.1 * normal()).clamp(0.25, 0.65)
    y = contrast(y, 0.3 * normal() * gate(0.5), pivot)
    bend = 0.2 * normal(1) * gate(0.25)[:, None] + 0.07 * normal(3) * gate(0.2)[:, None]
    y = gamma(y, bend.exp())
    y = saturation(y, ((0.33 * normal() - 0.08) * gate(0.5)).exp())
    black = 0.04 * normal(1) * gate(0.2)[:, None] + 0.02 * normal(3) * gate(0.1)[:, None]
    white = 1 - 0.07 * normal(1) * gate(0.2)[:, None] - 0.03 * normal(3) * gate(0.1)[:, None]
    return levels(y, black.clamp(-0.12, 0.12), white.clamp(0.8, 1.25))


def undeveloped(x: Tensor, generator: torch.Generator) -> Tensor:
    """The photograph before anyone worked on it, one random rendering a picture: up to two and
    a half stops darker, flatter and greyer, with the camera's white balance.

    So are the real photographs of HAdobe5k (Cong et al., sec. 3.2): one edition of a raw of
    MIT-Adobe FiveK, the foregrounds experts' retouches of it.
    """
    n, device = x.shape[0], x.device
    u, g = (torch.randn(n, 3, generator=generator, device=device) for _ in range(2))
    stops = (-1.05 + 0.7 * u[:, 0]).clamp(-2.5, 0.4)
    warm, tint = 0.12 * g[:, 0], 0.04 * g[:, 1]
    gains = torch.stack([warm / 2 - tint / 2, tint, -warm / 2 - tint / 2], 1).exp()
    y = contrast(exposure(x, stops, gains), -0.08 + 0.12 * u[:, 1], torch.full_like(stops, 0.45))
    return saturation(y, (-0.12 + 0.15 * u[:, 2]).exp())


def hour(x: Tensor, generator: torch.Generator) -> Tensor:
    """The same place at another hour of the day, one random hour a picture.

    Night (one to three stops less light, bluer, less saturated), a low sun (warmer, a third of
    a stop up or down) or noon (half a stop to one and a half more light, a little colder), as
    the day-to-night part of iHarmony4 has them.
    """
    n, device = x.shape[0], x.device
    u = torch.rand(n, 4, generator=generator, device=device)
    night, low = u[:, 0] < 0.5, u[:, 0] > 0.75
    stops = torch.where(
        night, -1 - 2 * u[:, 1], torch.where(low, 0.67 * u[:, 1] - 0.33, 0.5 + u[:, 1])
    )
    # Blue against red, in stops of the ratio; positive is warmer.
    warm = torch.where(night, -0.6 * u[:, 2], torch.where(low, 0.2 + 0.5 * u[:, 2], -0.2 * u[:, 2]))
    gains = torch.stack([warm / 2, torch.zeros_like(warm), -warm / 2], 1).exp2()
    grey = torch.where(night, 0.55 + 0.35 * u[:, 3], 0.85 + 0.3 * u[:, 3])
    return saturation(exposure(x, stops, gains), grey)


# --- colour transfers ----------------------------------------------------------------------


def reinhard(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Give x the target's mean and deviation in Lab (Reinhard et al. 2001).

    Args:
        x: (B, 3, h, w). source, target: (B, 3, N) samples of its region and the other's.
    """
    s, t = rgb_to_lab(source), rgb_to_lab(target)
    scale = t.std(2) / s.std(2).clamp_min(0.5)
    shift = t.mean(2) - s.mean(2) * scale
    return lab_to_rgb(rgb_to_lab(x) * scale[:, :, None, None] + shift[:, :, None, None])


def _covariance(points: Tensor) -> tuple[Tensor, Tensor]:
    mean = points.mean(2, keepdim=True)
    centred = points - mean
    return mean, centred @ centred.transpose(1, 2) / (points.shape[2] - 1)


def xiao(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Match mean and covariance in RGB by rotation and scaling (Xiao and Ma 2006).

    With covariance U diag(l) U^T of each region: x -> U_t sqrt(l_t / l_s) U_s^T x. The axes'
    signs, free in the decomposition, are those that turn the colours least.
    """
    mean_s, cov_s = _covariance(source)
    mean_t, cov_t = _covariance(target)
    # On the CPU: tiny matrices, and CUDA's batched solver is slower and less stable.
    ls, us = torch.linalg.eigh(cov_s.double().cpu())
    lt, ut = torch.linalg.eigh(cov_t.double().cpu())
    signs = torch.sign((us * ut).sum(1, keepdim=True))
    ut = ut * torch.where(signs == 0, torch.ones_like(signs), signs)
    scale = (lt.clamp_min(0) / ls.clamp_min(1e-5)).sqrt().clamp_max(6)
    matrix = (ut * scale.unsqueeze(1) @ us.transpose(1, 2)).to(x)
    flat = x.flatten(2)
    return (matrix @ (flat - mean_s) + mean_t).view(x.shape)


def match_quantiles(x: Tensor, source: Tensor, target: Tensor, knots: int = 64) -> Tensor:
    """A monotone map a row that gives source the target's quantiles, applied to x.

    Args:
        x: (R, M) values. source, target: (R, N) samples. R rows are independent.
    """
    q = torch.linspace(0, 1, knots, device=x.device)
    xs, ys = torch.quantile(source, q, dim=1).T, torch.quantile(target, q, dim=1).T
    # Equal knots (flat regions) would divide by zero below.
    xs = xs + torch.arange(knots, device=x.device) * 1e-6
    index = torch.searchsorted(xs.contiguous(), x.contiguous()).clamp(1, knots - 1)
    x0, x1 = xs.gather(1, index - 1), xs.gather(1, index)
    y0, y1 = ys.gather(1, index - 1), ys.gather(1, index)
    # Outside the samples' range the end value's shift is kept: slope 1, not 0.
    inside = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    low, high = xs[:, :1], xs[:, -1:]
    return torch.where(
        x < low, ys[:, :1] + x - low, torch.where(x > high, ys[:, -1:] + x - high, inside)
    )


def histogram(x: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Match the histograms of Y, Cb and Cr one by one (Fecker et al. 2008)."""
    b, c = x.shape[:2]
    of, like, wanted = (rgb_to_ycc(v).reshape(b * c, -1) for v in (x, source, target))
    return ycc_to_rgb(match_quantiles(of, like, wanted).view(x.shape))


def distribution(
    x: Tensor, source: Tensor, target: Tensor, generator: torch.Generator, steps: int = 8
) -> Tensor:
    """Iterative distribution transfer: match marginals along random axes (Pitie et al. 2007)."""
    b = x.shape[0]
    flat, s, shape = x.flatten(2), source, x.shape
    for _ in range(steps):
        gauss = torch.randn(b, 3, 3, generator=generator, device=x.device)
        axes = torch.linalg.qr(gauss.cpu())[0].to(x)
        fr, sr, tr = axes @ flat, axes @ s, axes @ target
        rows = [v.reshape(b * 3, -1) for v in (fr, sr, tr)]
        moved = match_quantiles(torch.cat([rows[0], rows[1]], 1), rows[1], rows[2], 48)
        n = flat.shape[2]
        flat = axes.transpose(1, 2) @ moved[:, :n].view(b, 3, -1)
        s = axes.transpose(1, 2) @ moved[:, n:].view(b, 3, -1)
    return flat.view(shape)


TRANSFERS = ("reinhard", "xiao", "distribution", "histogram")


def transfer(
    x: Tensor, source: Tensor, target: Tensor, kind: Tensor, generator: torch.Generator
) -> Tensor:
    """Apply to each picture the transfer of its kind (B,) in 0..3, see TRANSFERS."""
    out = torch.empty_like(x)
    for k, name in enumerate(TRANSFERS):
        at = (kind == k).nonzero().squeeze(1)
        if at.numel() == 0:
            continue
        args = (x[at], source[at], target[at])
        if name == "reinhard":
            out[at] = reinhard(*args)
        elif name == "xiao":
            out[at] = xiao(*args)
        elif name == "distribution":
            out[at] = distribution(*args, generator)
        else:
            out[at] = histogram(*args)
    return out


def sample_region(x: Tensor, mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` pixels of x (B, 3, h, w) drawn where mask (B, 1, h, w) is: (B, 3, count)."""
    weights = mask.flatten(1) + 1e-8
    index = torch.multinomial(weights, count, replacement=True, generator=generator)
    return x.flatten(2).gather(2, index.unsqueeze(1).expand(-1, 3, -1))


def log_uniform(n: int, low: float, high: float, generator: torch.Generator, device) -> Tensor:
    u = torch.rand(n, generator=generator, device=device)
    return torch.exp(math.log(low) + u * (math.log(high) - math.log(low)))
