"""HINet's predicted function on a graphics card: what local_triton.py's kernel is given.

Nothing here waits for the card: which blocks the mask meets, and which of the coarser levels these
need, is found on it, and the others' programs end at once.

A kernel is believed once it has decoded a small picture as torch does. Where it has not, or where
Triton is missing, torch goes on decoding, and a warning says so once.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.window import Size, Window
from hzcli.nets import cells

if TYPE_CHECKING:
    from hzcli.nets.local_mlp import LocalMlp

# Of a block that a program has in hand: what the compiler keeps in registers for matrices of 16
# columns, and for wider ones.
PIXELS, PIXELS_WIDE = 128, 32
WARPS = 4
LEAST = 16  # the shortest side of a matrix product
DEEPEST = 3  # modulated layers after a level's first
# How far the kernel may be from torch: a code of 16 bits. Both are float32; summing in another
# order moves colours by a tenth of it.
BOUND = 1 / 65535
PROBE = Size(44, 58)

_packed: WeakKeyDictionary[LocalMlp, _Packed] = WeakKeyDictionary()
_believed: dict[tuple[object, ...], bool] = {}
_deciding = Lock()


def region(model: LocalMlp, rgb: Tensor, mask: Tensor, window: Window) -> Tensor | None:
    """`LocalMlp.apply` of one picture without gradients, by the kernel; None where torch must."""
    if not _fits(model, rgb):
        return None
    shapes = (*model.mlps, model.waves.shape, model.table.shape, model.lut.shape, model.residual)
    with _deciding:
        key = (rgb.device, *shapes)
        if key not in _believed:
            _believed[key] = _agrees(model, rgb)
    return decode(model, rgb, mask, window) if _believed[key] else None


def _agrees(model: LocalMlp, like: Tensor) -> bool:
    """Whether the kernel decodes a small picture on `like`'s device as torch does."""
    place = torch.linspace(0, 8, 4 * PROBE.pixels, device=like.device).frac()
    rgb, mask = place.view(1, 4, PROBE.height, PROBE.width).split([3, 1], 1)
    mask = (mask - 0.4).clamp(min=0)
    window = Window(8, PROBE.height, 0, PROBE.width - 10, PROBE)
    here = (..., *window.inside(Window.whole(PROBE)))
    try:
        ours = decode(model, rgb[here], mask[here], window)
        error = float((ours - model._region(rgb[here], mask[here], window)).abs().max())
        if error <= BOUND:
            return True
        reason = f"it differs from torch by {error * 65535:.1f} codes of 16 bits"
    except Exception as problem:  # whatever Triton, its compiler or the driver may raise
        reason = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    warnings.warn(
        f"HINet decodes without its kernel on {like.device}, more slowly: {reason}",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


@dataclass(frozen=True)
class _Packed:
    """A picture's function as the kernel reads it.

    nodes: of each level, (gh, gw, P). basics: of each level, one after the other. shared: the
    global MLP's layers, biases first, padded. table (t_y, t_x, T), lut (s, s, s, 3).
    """

    nodes: tuple[Tensor, ...]
    basics: tuple[Tensor, ...]
    shared: Tensor
    waves: Tensor
    phases: Tensor
    table: Tensor
    lut: Tensor

    @classmethod
    def of(cls, model: LocalMlp) -> _Packed:
        wide = _padded(model.width)
        layers = model.mlps[3].weights(model.appearance, model.basics[3])
        both = [torch.cat([bias[0], weight[0]]) for weight, bias in layers]
        *square, last = [F.pad(x, (0, wide - model.width)) for x in both[:-1]] + [both[-1].T]
        rows = [F.pad(x, (0, 0, 0, wide - model.width)).flatten() for x in square]
        return cls(
            tuple(x[0].permute(1, 2, 0).contiguous() for x in model.maps),
            tuple(torch.cat([b.flatten() for b in basics]) for basics in model.basics[:3]),
            torch.cat([*rows, F.pad(last, (0, wide - model.width)).flatten()]),
            model.waves.contiguous(),
            model.phases.contiguous(),
            model.table[0].permute(1, 2, 0).contiguous(),
            model.lut[0].permute(1, 2, 3, 0).contiguous(),
        )


@dataclass(frozen=True)
class _Axis:
    """Blocks of a level along an axis of a window, in the level's pixels of the whole picture.

    size: of the picture. start, pixels: of the window. begin, end: what is decoded of it.
    edge: of a block. first, count: blocks that hold it.
    """

    size: int
    start: int
    pixels: int
    begin: int
    end: int
    edge: int

    @property
    def first(self) -> int:
        return self.begin // self.edge

    @property
    def count(self) -> int:
        return -(-self.end // self.edge) - self.first

    def reads(self, coarser: _Axis) -> Tensor:
        """(blocks, coarser's blocks): 1 where a block's prior lies in the coarser level's."""
        at = torch.arange(self.first, self.first + self.count)[:, None] * self.edge
        begin, end = at.clamp(min=self.begin), (at + self.edge).clamp(max=self.end)
        there = torch.arange(coarser.first, coarser.first + coarser.count) * coarser.edge
        # As cells.behind.
        return ((there < end // 2 + 1) & (there + coarser.edge > (begin - 1) // 2)).float()


def _fits(model: LocalMlp, rgb: Tensor) -> bool:
    """Whether the kernel can decode this: float32, a depth that it knows, and 32-bit indices."""
    depths = [len(mlp.sizes) - 2 for mlp in model.mlps]
    largest = max(3, model.width) * rgb.shape[2] * rgb.shape[3]
    return (
        rgb.dtype == torch.float32
        and max(depths[:3]) <= DEEPEST
        and depths[3] == 3
        and len({size for mlp in model.mlps for size in mlp.sizes[1:-1]}) == 1
        and largest < 1 << 31
    )


def decode(model: LocalMlp, rgb: Tensor, mask: Tensor, window: Window) -> Tensor:
    """The kernel's result for (1, 3, h, w) and (1, 1, h, w) of a window, started, not awaited.

    Raises:
        ImportError: there is no Triton. And whatever it raises where the kernel cannot be made.
    """
    if model not in _packed:
        _packed[model] = _Packed.of(model)
    from hzcli.nets.local_triton import decode as kernel

    packed = _packed[model]
    rgb, mask = rgb.contiguous(), mask.contiguous()
    out, width = rgb.clone(), model.width
    grids = [_grid(model, n, window) for n in range(3)]
    y, x = grids[2]
    if y.begin >= y.end or x.begin >= x.end:
        return out
    inside = mask[0, 0, y.begin - y.start : y.end - y.start, x.begin - x.start : x.end - x.start]
    sides = [s for a in (x, y) for s in (a.begin % a.edge, -a.end % a.edge)]
    blocks = F.pad(inside, sides).unflatten(1, (x.count, x.edge)).unflatten(0, (y.count, y.edge))
    wanted = [blocks.amax((1, 3))]
    for (y, x), coarser in ((grids[2], grids[1]), (grids[1], grids[0])):
        down, along = (a.reads(b).to(rgb.device) for a, b in zip((y, x), coarser, strict=True))
        wanted.insert(0, down.T @ (wanted[0] > 0).float() @ along)
    wide = _padded(width)
    position = _padded(packed.waves.shape[1] + packed.table.shape[2])
    prior = out  # not read by the first level
    for n, (y, x) in enumerate(grids):
        level = out if n == 2 else rgb.new_empty(y.pixels, x.pixels, width)
        mlp, nodes = model.mlps[n], packed.nodes[n]
        kernel[(x.count, y.count)](
            rgb, mask, prior, level, wanted[n], nodes, packed.basics[n], packed.shared,
            packed.waves, packed.phases, packed.table, packed.lut,
            rgb.shape[2], rgb.shape[3], y.pixels, x.pixels, y.start, x.start,
            y.begin, y.end, x.begin, x.end, y.first, x.first, y.edge, x.edge,
            y.size, x.size, 2 / y.size, 2 / x.size, nodes.shape[0], nodes.shape[1],
            SHIFT=2 - n, HIDDEN=len(mlp.sizes) - 2, RANK=mlp.rank, W=width, LENGTH=mlp.length,
            WAVES=packed.waves.shape[1], TABLE=packed.table.shape[2],
            TABLE_Y=packed.table.shape[0], TABLE_X=packed.table.shape[1],
            LUT=packed.lut.shape[0], RESIDUAL=model.residual, WP=wide, POSITION=position,
            PIXELS=PIXELS if max(wide, position) == LEAST else PIXELS_WIDE,
            num_warps=WARPS, num_stages=1, enable_fp_fusion=True,
        )  # fmt: skip
        prior = level
    return out


def _padded(n: int) -> int:
    return max(LEAST, 1 << (n - 1).bit_length())


def _grid(model: LocalMlp, index: int, window: Window) -> tuple[_Axis, _Axis]:
    """Rows and columns of a level."""
    # Like torch, decode no pixels of the halo.
    shift, halo, axes = 2 - index, model.reach.halo if index == 2 else 0, []
    for size, start, end, nodes in (
        (window.size.height, window.top, window.bottom, model.maps[index].shape[2]),
        (window.size.width, window.left, window.right, model.maps[index].shape[3]),
    ):
        here, first = -(-size >> shift), start >> shift
        pixels = -(-(end - start) >> shift)
        near, far = (halo if inner else 0 for inner in (start, end < size))
        edge = cells.block_edge(here, nodes)
        axes.append(_Axis(here, first, pixels, first + near, first + pixels - far, edge))
    return axes[0], axes[1]
