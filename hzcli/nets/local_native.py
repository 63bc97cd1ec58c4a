"""HINet's predicted function on a processor, by local_llvm.py's kernel: what that is given.

The kernel decodes pictures of `LEAST` pixels or more, wherever llvmlite is installed: what making
it takes, smaller ones hardly give back. It is believed once it has decoded a small picture as torch
does. Where it has not, torch goes on decoding, and a warning says so once. To choose, no more than
the picture's size is looked at: it has the same bytes by itself and among others.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hzcli.core.native import distrust
from hzcli.core.window import Size, Window
from hzcli.nets import local_cpu
from hzcli.nets.cells import Patch, Stretch
from hzcli.nets.local_place import chebyshev, places
from hzcli.nets.modulated import Modulated

if TYPE_CHECKING:
    from hzcli.nets.local_mlp import Level, LocalMlp

LEAST = 1 << 20
LINE = 16  # numbers of a line of the cache
SLACK = 128  # after what is used: tiles read and write whole registers
# How far the kernel may be from torch: a code of 16 bits. Both are float32; summing in another
# order moves colours by a tenth of it.
BOUND = 1 / 65535
PROBE = Size(44, 58)

KEPT = 1 << 23  # numbers of a level's features that a thread keeps room for: of usual tiles


class _Held(threading.local):
    def __init__(self) -> None:
        self.frames: dict[int, Tensor] = {}


_held = _Held()
_believed: dict[tuple[object, ...], bool] = {}
_deciding = threading.Lock()


@dataclass(frozen=True)
class _Made:
    """The kernel; `kept` as long as it."""

    decode: Callable[[int], None]
    layers: ModuleType
    names: tuple[str, ...]
    kept: object


@lru_cache(maxsize=1)
def _made() -> _Made | Exception:
    """The kernel, or why there is none."""
    try:
        from hzcli.nets import local_layers, local_llvm

        decode, kept = local_llvm.decode()
    except Exception as problem:  # whatever llvmlite may raise, or LLVM on some processor
        return problem
    return _Made(decode, local_layers, local_llvm.NUMBERS + local_llvm.ADDRESSES, kept)


def decoder(model: LocalMlp, size: Size) -> Callable[[Level], Decoder | local_cpu.Decoder]:
    """What decodes levels of a picture of this size."""
    if size.pixels < LEAST or not _fits(model):
        return local_cpu.Decoder
    shapes = (*model.mlps, model.waves.shape, model.table.shape, model.lut.shape, model.residual)
    with _deciding:
        if shapes not in _believed:
            _believed[shapes] = _agrees(model)
    return Decoder if _believed[shapes] else local_cpu.Decoder


def _fits(model: LocalMlp) -> bool:
    """Whether the kernel can decode this: hidden layers of one width, three colours."""
    return {n for mlp in model.mlps for n in mlp.sizes[1:-1]} <= {model.width} and all(
        mlp.sizes[-1] == (3 if n == 3 else model.width) for n, mlp in enumerate(model.mlps)
    )


@torch.no_grad()
def _agrees(model: LocalMlp) -> bool:
    """Whether the kernel decodes a small picture as torch does."""
    made = _made()
    if isinstance(made, ImportError):
        return False  # it is not installed, and need not be
    place = torch.linspace(0, 8, 4 * PROBE.pixels).frac()
    rgb, mask = place.view(1, 4, PROBE.height, PROBE.width).split([3, 1], 1)
    mask = (mask - 0.4).clamp(min=0)
    window = Window(8, PROBE.height, 0, PROBE.width - 10, PROBE)
    here = (..., *window.inside(Window.whole(PROBE)))
    if isinstance(made, Exception):
        distrust("HINet decodes without its", made)
        return False
    ours, theirs = (
        model._region(rgb[here], mask[here], window, kind) for kind in (Decoder, local_cpu.Decoder)
    )
    error = float((ours - theirs).abs().max())
    if error <= BOUND:
        return True
    said = f"it differs from torch by {error * 65535:.1f} codes of 16 bits"
    distrust("HINet decodes without its", said)
    return False


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


class Axis:
    """Positions along an axis of a level, of blocks as if none were cut.

    factors: (blocks, places, 1 + 2 waves) coordinate, sines and cosines of the axis's share of
    the waves' phases. shares: (places, edge) what pixels take of them. low, part: the table's
    node before each pixel of the window, and the share of the one after it.
    """

    def __init__(self, level: Level, axis: int) -> None:
        model, size, edge = level.model, level.size[axis], level.edges[axis]
        start = (level.top, level.left)[axis]
        pixels = (level.height, level.width)[axis]
        wave = model.waves[axis].detach().double().numpy()
        phase = 0 if axis else model.phases.detach().double().numpy()
        step = wave * (2 / size)
        count = places(edge, float(np.abs(step).max()))
        at, shares = (t.numpy() for t in chebyshev(edge, count))
        self.edge, self.start, self.first = edge, start, start // edge
        blocks = np.arange(self.first, -(-(start + pixels) // edge))
        place = (blocks[:, None] * edge + at + 0.5) * (2 / size) - 1
        angle = place[..., None] * wave + phase
        factors = [place[..., None], np.sin(angle), np.cos(angle)]
        self.factors = np.concatenate(factors, 2).astype(np.float32)
        self.shares = shares.astype(np.float32)
        self.nodes = model.table.shape[2 + axis]
        seen = (level.y, level.x)[axis].place.numpy()
        node = ((seen + 1) / 2 * self.nodes - 0.5).clip(0, self.nodes - 1)
        self.low = node.astype(np.int64)
        self.part = (node - self.low).astype(np.float32)

    def of(self, stretch: Stretch) -> tuple[np.ndarray, ...]:
        """What there is of some blocks: factors, shares, low, part."""
        first = stretch.first - self.first
        cut = stretch.start - stretch.first * self.edge
        inside = stretch.inside(self.start)
        shares = np.ascontiguousarray(self.shares[:, cut : cut + stretch.size])
        factors = self.factors[first : first + stretch.count]
        return factors, shares, self.low[inside], self.part[inside]

    def most_nodes(self) -> int:
        """How many nodes of the table a block reads at most."""
        later = np.minimum(np.arange(len(self.low)) + self.edge - 1, len(self.low) - 1)
        return int((self.low[later] - self.low).max()) + 2


class Decoder:
    """As local_cpu.Decoder, by the kernel."""

    def __init__(self, level: Level) -> None:
        made = _made()
        assert not isinstance(made, Exception)
        self._decode, self._layers = made.decode, made.layers
        model = level.model
        self.level, mlp = level, model.mlps[level.index]
        self._y, self._x = Axis(level, 0), Axis(level, 1)
        unit, basics = self._layers.UNIT, model.basics[level.index]
        table = model.table[0].detach().permute(1, 2, 0).contiguous()
        # What the kernel reads in whole registers has some numbers behind it.
        self._held = {
            "basics": F.pad(torch.cat([b.detach().flatten() for b in basics]), (0, unit)),
            "features": table,
            "rgb": level.rgb[0].contiguous(),
            "mask": level.mask[0, 0].contiguous(),
        }
        self._place = {name: n for n, name in enumerate(made.names)}
        self._given = np.zeros(len(made.names), np.int64)
        places, width = self._x.factors.shape[1], model.width
        self._tell(
            width=width, columns=_up(width, unit), layers=len(mlp.sizes) - 2, rank=mlp.rank,
            fan_in=mlp.sizes[0], length=mlp.length, places=places,
            places_down=self._y.factors.shape[1], waves=model.waves.shape[1],
            table=table.shape[2], table_rows=table.shape[0], table_columns=table.shape[1],
            rgb_plane=level.height * level.width, rgb_line=level.width, mask_line=level.width,
            **{name: tensor.data_ptr() for name, tensor in self._held.items()},
        )  # fmt: skip
        self._lay_out(mlp, places)

    def _tell(self, **numbers: int) -> None:
        for name, number in numbers.items():
            self._given[self._place[name]] = number

    def _lay_out(self, mlp: Modulated, places: int) -> None:
        """Memory for a block at work, some 300 kB, in lines of the cache."""
        layers, (p, q) = self._layers, self.level.edges
        c, width = _up(mlp.sizes[-1], layers.UNIT), mlp.sizes[-1]
        widest, deepest = self._x.most_nodes(), self._y.most_nodes()
        step = _up(max(layers.STRIP, q) + 2 * layers.LANES, layers.TILE)
        x_step = _up(q, layers.TILE)
        coarse_columns = _up(q // 2 + 2, layers.LANES)
        coarse_step = _up((p // 2 + 3) * coarse_columns, layers.TILE)
        rows = places + widest + 4
        sizes = {
            "first": (1 + mlp.sizes[0]) * c,
            "hidden_layers": (len(mlp.sizes) - 2) * (1 + width) * c,
            "placed": self._y.factors.shape[1] * places * c,
            "learnt": (deepest + 1) * widest * c,
            "matrix": rows * c,
            "x": rows * x_step,
            **{name: 4 * step for name in ("picture", "result", "tones")},
            **{name: c * step for name in ("even", "odd")},
            "corners": 4 * layers.LANES,
            "given": c * coarse_step,
            "near": width * coarse_step,
            "zeros": c,
        }
        starts = [0, *itertools.accumulate(_up(n, LINE) + SLACK for n in sizes.values())]
        self._room = torch.zeros(starts[-1] + LINE)
        first = _up(self._room.data_ptr(), 4 * LINE)
        self._tell(**{n: first + 4 * at for n, at in zip(sizes, starts, strict=False)})
        self._tell(
            widest=widest, x_step=x_step, strip_step=step, coarse_columns=coarse_columns,
            coarse_step=coarse_step,
        )  # fmt: skip

    def frame(self) -> tuple[Tensor, Tensor]:
        """As cells.framed, with whatever is in it; of memory that this thread uses again."""
        level = self.level
        shape = level.model.width, level.height + 2, level.width + 2
        needed = math.prod(shape) + SLACK
        held = _held.frames.get(level.index)
        if held is None or len(held) < needed:
            with torch.inference_mode(False):  # what is kept must serve outside it too
                # Pages of it that nothing is written to are never there.
                held = torch.from_numpy(np.zeros(needed, np.float32))
            if needed <= KEPT:
                _held.frames[level.index] = held
        whole = held[: needed - SLACK].view(shape)
        return whole, whole[:, 1:-1, 1:-1]

    def features(self, patch: Patch, prior: Tensor | None, out: Tensor) -> None:
        """See local_cpu.Decoder."""
        self._run(patch, prior, out)

    def colours(self, patch: Patch, prior: Tensor | None, out: Tensor) -> None:
        """See local_cpu.Decoder."""
        if "shared" not in self._held:
            self._share()
        self._run(patch, prior, out)

    def _share(self) -> None:
        """Say what the global MLP is, and the table."""
        model = self.level.model
        wide = _up(model.width, self._layers.UNIT)
        *hidden, last = [torch.cat([b[0], w[0]]).detach() for w, b in self.level.shared]
        # The half that a residual's tanh takes.
        last = F.pad(last / 2 if model.residual else last, (0, 1))
        packed = [F.pad(x, (0, wide - model.width)).flatten() for x in hidden]
        self._held["shared"] = torch.cat([*packed, last.flatten()])
        self._held["lut"] = F.pad(model.lut[0].detach().permute(1, 2, 3, 0), (0, 1)).contiguous()
        self._tell(
            depth=len(hidden), nodes=model.lut.shape[-1] if model.residual else 0,
            **{name: self._held[name].data_ptr() for name in ("shared", "lut")},
        )  # fmt: skip

    def _run(self, patch: Patch, prior: Tensor | None, out: Tensor) -> None:
        level, (rows, columns) = self.level, patch
        k, p, q = columns.count, rows.size, columns.size
        vectors = F.pad(level.parameters(*patch).flatten(), (0, self._layers.UNIT))
        ys, y_shares, y_low, y_part = self._y.of(rows)
        xs, x_shares, x_low, x_part = self._x.of(columns)
        arrays = {"ys": ys, "xs": xs, "y_shares": y_shares, "x_shares": x_shares}
        arrays |= {"y_low": y_low, "y_part": y_part, "x_low": x_low, "x_part": x_part}
        if prior is not None:
            self._tell(
                prior=1, prior_plane=prior.stride(0), prior_line=prior.stride(1),
                coarser=prior.data_ptr(),
            )  # fmt: skip
        self._tell(
            vectors=vectors.data_ptr(), rows=rows.count, blocks=k, p=p, q=q,
            strip=max(1, self._layers.STRIP // q), top=rows.start - level.top,
            left=columns.start - level.left, out_plane=out.stride(0), out_line=out.stride(1),
            out=out.data_ptr(), **{name: array.ctypes.data for name, array in arrays.items()},
        )  # fmt: skip
        self._decode(self._given.ctypes.data)
