"""Tone curves: one piecewise-linear function per channel and picture, position-free.

S2CRNet renders with these (arXiv 2109.05750, section 3.2). The authors add up 64 clamped ramps;
here a value finds its own piece, which costs the same whatever the number of pieces.

Shapes: B pictures, K pieces and so K + 1 knots, N values of a channel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hzcli.core.lut import Lut3D
from hzcli.core.transform import Reach
from hzcli.core.window import Window

CODES = 1 << 16  # a table with a knot at every 16-bit code i / 65535, so at every 8-bit one too
FINE = 4 * (CODES - 1) + 1  # those, and three places between each two
CACHED = 1 << 16  # values looked up at once, so that a processor's cache holds all steps: 4x faster


@dataclass(frozen=True)
class Curves:
    """A curve for each channel; below 0 and above 1 it is held at its end points.

    knots: (B, 3, K + 1), the curve's values where its pieces meet.
    places: (B, 3, K + 1), where that is, never falling; None: at k / K.

    Two with equidistant knots blend exactly under `lerp`, as colours do.
    """

    knots: Tensor
    places: Tensor | None = None

    @property
    def reach(self) -> Reach:
        return Reach(bytes_per_pixel=32)

    @property
    def pieces(self) -> int:
        return self.knots.shape[-1] - 1

    def apply(self, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
        del mask, window
        return self.at(rgb.flatten(2)).view(rgb.shape)

    def at(self, x: Tensor) -> Tensor:
        """The curves' values at x, (B, 3, N), nominally [0, 1]; differentiable in both."""
        if self.places is None:
            return _at_equidistant(self.knots, x)
        return _at_places(self.knots, self.places, x)

    def even(self, count: int = CODES) -> Curves:
        """The same with `count` equidistant knots.

        Between them it may miss a bend; by a quarter of (bend's change of slope) / (count - 1)
        at most. At the default, 16-bit codes come out exact.
        """
        return sampled((self,), count)

    def as_lut(self, size: int = 65) -> Lut3D:
        """The curves as a table, each channel along its own axis.

        Exact where `size` - 1 is a multiple of the pieces of equidistant knots. As tables of one
        dimension, curves are exact: `even().knots` and, with fewer entries, `knots` themselves.
        """
        r, g, b = self.even(size).knots.unbind(1)  # (B, n) each
        shape = (-1, size, size, size)
        axes = (r[:, :, None, None], g[:, None, :, None], b[:, None, None, :])
        return Lut3D(torch.stack([axis.expand(shape) for axis in axes], 1))


def identity_curves(pieces: int = 1, *, device: torch.device | str = "cpu") -> Curves:
    """Curves that change nothing, for one picture."""
    return Curves(torch.linspace(0, 1, pieces + 1, device=device).expand(1, 3, -1))


def sampled(cascade: tuple[Curves, ...], count: int = FINE) -> Curves:
    """Curves one after the other (the first first), at `count` equidistant knots."""
    knots = cascade[0].knots
    x = torch.linspace(0, 1, count, device=knots.device).expand(*knots.shape[:2], -1)
    for curves in cascade:
        x = curves.at(x)
    return Curves(x)


def compose(first: Curves, second: Curves) -> Curves:
    """second(first(x)) as one.

    Exact where no channel of `first` ever falls: the bends of the whole are those of `first`,
    and where `first` passes a bend of `second`. Elsewhere `first` may pass one any number of
    times, and the whole is sampled at 262,141 equidistant places (exact at 16-bit codes).

    Returns:
        Curves with places, K1 + K2 + 2 of them; or equidistant ones.
    """
    if bool((first.knots.diff(dim=-1) < 0).any()):
        return sampled((first, second))
    one, two = (_placed(c) for c in (first, second))
    assert one.places is not None and two.places is not None
    # The other way round, `one` is a curve too: from its values to its places.
    passes = _at_places(one.places, one.knots, two.places.contiguous())
    places = torch.cat([one.places, passes], -1).sort(dim=-1).values
    knots = two.at(one.at(places))
    return Curves(knots.to(first.knots.dtype), places.to(first.knots.dtype))


def _placed(curves: Curves) -> Curves:
    """The same with its places spelt out, in float64 where the device knows that."""
    exact = exact_dtype(curves.knots.device)
    places = curves.places
    if places is None:
        places = torch.linspace(0, 1, curves.pieces + 1, dtype=exact, device=curves.knots.device)
        places = places.expand(curves.knots.shape)
    return Curves(curves.knots.to(exact).contiguous(), places.to(exact).contiguous())


def exact_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on the devices (Apple's) that have no other."""
    return torch.float32 if device.type == "mps" else torch.float64


def _at_equidistant(knots: Tensor, x: Tensor) -> Tensor:
    """Knots (B, 3, K + 1) and x (B, 3, N) to values (B, 3, N)."""
    # A slope of 0 behind the last knot: x = 1 lands there, and needs no special case.
    slopes = torch.cat([knots.diff(dim=-1), torch.zeros_like(knots[..., :1])], -1)
    x = x.contiguous()
    learning = torch.is_grad_enabled() and (knots.requires_grad or x.requires_grad)
    if learning or x.device.type != "cpu":
        # One flat table for all channels and pictures: index_select beats gather.
        rows = torch.arange(0, knots.numel(), knots.shape[-1], dtype=torch.int32, device=x.device)
        return _look_up(knots, slopes, x, rows.view(*knots.shape[:2], 1))
    out = torch.empty_like(x)
    for b in range(x.shape[0]):
        for c in range(x.shape[1]):
            parts = zip(x[b, c].split(CACHED), out[b, c].split(CACHED), strict=True)
            for part, into in parts:
                _look_up(knots[b, c], slopes[b, c], part, out=into)
    return out


def _look_up(
    knots: Tensor, slopes: Tensor, x: Tensor, rows: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """The left knot of each value's piece, and the piece's slope times what is left over.

    Args:
        knots, slopes: (..., K + 1). x: [0, 1]; held there.
        rows: where the table of each row of x begins in all of them together.
    """
    pieces = knots.shape[-1] - 1
    rest = x.clamp(0, 1).mul_(pieces)
    # The second clamp is for what is not a number, which must come out as such, not as an error.
    piece = rest.detach().to(torch.int32).clamp_(0, pieces)
    rest = rest.sub_(piece)
    if rows is not None:
        piece += rows
    piece = piece.view(-1)
    left = knots.reshape(-1).index_select(0, piece).view(x.shape)
    slope = slopes.reshape(-1).index_select(0, piece).view(x.shape)
    return torch.addcmul(left, rest, slope, out=out)


def _at_places(knots: Tensor, places: Tensor, x: Tensor) -> Tensor:
    """The same for pieces of any widths, those of no width included."""
    held = torch.minimum(torch.maximum(x, places[..., :1]), places[..., -1:]).contiguous()
    right = torch.searchsorted(places.contiguous(), held.detach(), right=True)
    right = right.clamp(1, places.shape[-1] - 1)
    low, high = places.gather(-1, right - 1), places.gather(-1, right)
    width = high - low
    flat = width <= 0
    share = torch.where(flat, torch.zeros_like(width), (held - low) / width.masked_fill(flat, 1))
    return torch.lerp(knots.gather(-1, right - 1), knots.gather(-1, right), share)
