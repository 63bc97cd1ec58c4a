"""HINet's predicted function on a processor: the equations of local_mlp.py as a native kernel.

A block's weights are made, then its pixels run through all layers a strip at a time, which stays
in a core's nearest cache (local_layers.py).

Of the first layer's inputs, all that does not change from row to row is applied before it is
interpolated: position features at Chebyshev's places (local_place.py), the table's at its nodes,
the prior's at half the size. What is left for a row is a product with few functions of x.

Only local_native.py imports this: llvm.py needs llvmlite.

Letters: (p, q) pixels of a block, (a, b) places down and across, C columns of a matrix of weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llvmlite import ir

from hzcli.core.llvm import ADDRESS, LANES, WHOLE, Kernel, Value, Variable, compiled
from hzcli.nets import local_layers as layers

# What rows of blocks are decoded from: numbers, and addresses of float32 and of whole numbers.
NUMBERS = (
    "rows", "blocks", "p", "q", "strip", "width", "columns", "layers", "rank", "fan_in", "length",
    "places", "places_down", "waves", "table", "table_rows", "table_columns",
    "widest", "top", "left", "prior", "prior_plane", "prior_line", "rgb_plane", "rgb_line",
    "mask_line", "out_plane", "out_line", "depth", "nodes",
    "x_step", "strip_step", "coarse_columns", "coarse_step",
)  # fmt: skip
ADDRESSES = (
    "vectors", "basics", "ys", "xs", "y_shares", "x_shares", "features", "y_part", "x_part",
    "y_low", "x_low", "rgb", "mask", "coarser", "shared", "lut", "out",
    "first", "hidden_layers", "placed", "learnt", "matrix", "x", "picture", "even", "odd", "result",
    "tones", "corners", "given", "near", "zeros",
)  # fmt: skip


class _Given:
    """The numbers and addresses of an array, by name; and kernels that the one at work calls."""

    def __init__(self, k: Kernel, array: Value, module: ir.Module) -> None:
        self.hidden = layers.layer(module, "hidden", True)
        self.linear = layers.layer(module, "linear", False)
        self.row, self.enlarged_row = layers.row(module), layers.enlarged(module)
        self.weighed, self.toned = layers.weights(module), layers.tones(module)
        for n, name in enumerate(NUMBERS + ADDRESSES):
            value = array[2 * n].get(WHOLE)
            if n >= len(NUMBERS):
                value = Value(k, k.build.inttoptr(value.value, ADDRESS))
            setattr(self, name, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Value: ...
        def __setattr__(self, name: str, value: Value | Kernel) -> None: ...


def _whole(address: Value, index: Value) -> Value:
    """Of an array of whole numbers."""
    return address[index * 2].get(WHOLE)


def _placed(k: Kernel, g: _Given, xs: Value, low: Value, across: Value) -> None:
    """Position features of a block by the first layer: `placed` (a, b C) at places, the bias with
    them, and `learnt` (nodes, nodes C) of the table."""
    step, waves, c = g.waves * 2 + 1, g.waves, g.columns
    colour = g.first[(waves + g.table + 3) * c]
    with k.loop(g.places_down) as a, k.loop(g.places) as b, k.loop(c, LANES) as o:
        y, x, row = g.ys[a * step], xs[b * step], g.first[o]
        # The picture's colours are in [0, 1], the MLP's in [-1, 1]: W (2 c - 1) = 2 W c - W 1.
        total = Variable(
            k, row.lanes() - sum((colour[c * n + o].lanes() for n in range(3)), k.zeros())
        )
        for n, at in ((1, y), (2, x)):
            total.set(at.get().splat().fma(row[c * n].lanes(), total.get()))
        with k.loop(waves) as w:
            cos = y[waves + w + 1].get() * x[w + 1].get()
            sine = y[w + 1].get().fma(x[waves + w + 1].get(), cos)
            total.set(sine.splat().fma(row[c * (w + 3)].lanes(), total.get()))
        g.placed[(a * g.places + b) * c + o].put(total.get())
    with k.loop(g.nodes_down) as i, k.loop(across) as j, k.loop(c, LANES) as o:
        node = g.features[((g.table_row + i) * g.table_columns + low + j) * g.table]
        total = Variable(k, k.zeros())
        with k.loop(g.table) as t:
            weight = g.first[(waves + t + 3) * c + o].lanes()
            total.set(node[t].get().splat().fma(weight, total.get()))
        g.learnt[(i * g.widest + j) * c + o].put(total.get())


def _functions_of_x(k: Kernel, g: _Given, begin: Value, low: Value, across: Value) -> None:
    """Rows of x: what a row's pixels take of the table's columns; and the colours' weights."""
    with k.loop(across) as j, k.loop(g.q, LANES) as i:
        g.x[(g.places + j) * g.x_step + i].put(k.zeros())
    with k.loop(g.q) as i:
        at = g.places + _whole(g.x_low, begin + i) - low
        part = g.x_part[begin + i].get()
        g.x[at * g.x_step + i].put(1.0 - part)
        g.x[(at + 1) * g.x_step + i].put(part)  # in the next part's row, if there is no node
    first = g.first[(g.waves + g.table + 3) * g.columns]
    matrix = g.matrix[(g.places + across) * g.columns]
    with k.loop(g.columns, LANES) as o:
        for n in range(4):
            weight = first[g.columns * n + o].lanes()
            matrix[g.columns * n + o].put(weight * 2.0 if n < 3 else weight)


def _prior(k: Kernel, g: _Given, begin: Value) -> None:
    """The coarser level's features behind a block, by the first layer."""
    column = (begin + 1).half()
    corner = g.coarser[(g.top + 1).half() * g.prior_line + column]
    with k.loop(g.width) as w, k.loop(g.coarse_rows) as i:
        line = corner[w * g.prior_plane + i * g.prior_line]
        k.fetch(line[g.q.half()], g.coarse_columns)
        into = g.near[w * g.coarse_step + i * g.coarse_columns]
        with k.loop(g.coarse_columns, LANES) as j:
            into[j].put(line[j].lanes())
    pixels = g.coarse_rows * g.coarse_columns
    weights = g.first[(g.waves + g.table + 7) * g.columns]
    k.call(
        g.linear, g.near, g.coarse_step, g.width, pixels, g.zeros, weights, g.columns, g.given,
        g.coarse_step,
    )  # fmt: skip


def _first_layer(k: Kernel, g: _Given, y: Value, at: Value, begin: Value, across: Value) -> None:
    """A row of a block, to pixel `at` of a strip."""
    size = g.places * g.columns
    with k.loop(size, LANES) as o:
        total = Variable(k, k.zeros())
        with k.loop(g.places_down) as a:
            share = g.y_shares[a * g.p + y].get().splat()
            total.set(share.fma(g.placed[a * size + o].lanes(), total.get()))
        g.matrix[o].put(total.get())
    node = _whole(g.y_low, y) - g.table_row
    part = g.y_part[y].get().splat()
    step = g.widest * g.columns
    with k.loop(across * g.columns, LANES) as o:
        near = g.learnt[node * step + o]
        g.matrix[size + o].put(near.lanes().to(near[step].lanes(), part))
    row, line = g.top + y, g.x[(g.places + across) * g.x_step]
    for n in range(4):
        if n < 3:
            seen = g.rgb[g.rgb_plane * n + row * g.rgb_line + begin]
        else:
            seen = g.mask[row * g.mask_line + begin]
        line[g.x_step * n].copy(seen, g.q)
        g.picture[g.strip_step * n + at].copy(seen, g.q)
        k.fetch(seen[g.q], g.q)
    with k.loop(g.planes) as plane:
        k.fetch(g.out[plane * g.out_plane + row * g.out_line + begin + g.q], g.q, True)
    with k.either(k.whole(0).below(g.prior)) as (some, none):
        with some:
            low = (row + 1).half() - (g.top + 1).half()
            near = g.given[low * g.coarse_columns]
            # The share of the further row is 3/4 in even rows, 1/4 in odd ones.
            k.call(
                g.enlarged_row, near, g.coarse_step, g.coarse_columns, row, begin, g.columns,
                g.q, g.even[at], g.strip_step,
            )  # fmt: skip
        with none, k.loop(g.columns) as c, k.loop(g.q, LANES) as i:
            g.even[c * g.strip_step + at + i].put(k.zeros())
    k.call(
        g.row, g.x, g.x_step, g.places + across + 4, g.q, g.matrix, g.columns,
        g.even[at], g.strip_step,
    )  # fmt: skip


def _coloured(k: Kernel, g: _Given, pixels: Value) -> None:
    """What the last layer says of a strip, as colours."""
    with k.when(k.whole(0).below(g.nodes)):
        k.call(g.toned, g.picture, g.strip_step, pixels, g.lut, g.nodes, g.tones, g.corners)
    with k.loop(pixels, LANES) as i:
        four = [g.tones[i * 4 + LANES * n].lanes() for n in range(4)]
        for n in range(3):
            # Every fourth number of these.
            turns = [(4 * m + n) % (2 * LANES) for m in range(LANES // 2)] * 2
            first, second = (a.shuffled(b, turns) for a, b in (four[:2], four[2:]))
            half = [m if m < LANES // 2 else m + LANES for m in range(LANES)]
            base = first.shuffled(second, half)
            place = g.result[g.strip_step * n + i]
            moved = layers.tanh(place.lanes())
            plain = moved * 0.5 + 0.5
            there = k.whole(0).below(g.nodes)
            place.put(there.choose(base + moved, plain))


def _go_down(k: Kernel, g: _Given, row: Value) -> None:
    """Make what is given of rows of blocks that of one of them."""
    g.top = g.top + row * g.p
    g.ys = g.ys[row * g.places_down * (g.waves * 2 + 1)]
    g.y_low, g.y_part = g.y_low[row * g.p * 2], g.y_part[row * g.p]
    g.table_row = _whole(g.y_low, k.whole(0))
    g.nodes_down = (_whole(g.y_low, g.p - 1) + 2).least(g.table_rows) - g.table_row
    g.coarse_rows = (g.top + g.p).half() + 2 - (g.top + 1).half()


def _block_weights(k: Kernel, g: _Given, block: Value) -> None:
    """A block's matrices."""
    vector, w = g.vectors[block * g.length], g.width
    k.call(g.weighed, vector, g.fan_in, w, g.rank, g.columns, g.basics, g.first)
    after, each = (g.fan_in + w) * g.rank + w, (w + w) * g.rank + w
    with k.loop(g.layers) as n:
        learnt = g.basics[g.fan_in * w + n * w * w]
        into = g.hidden_layers[n * (w + 1) * g.columns]
        k.call(g.weighed, vector[after + n * each], w, w, g.rank, g.columns, learnt, into)


def _square(
    k: Kernel, g: _Given, held: tuple[Variable, Variable], matrices: Value, count: Value,
    pixels: Value,
) -> None:  # fmt: skip
    """`count` layers of a strip, from the first of two arrays to the other, and back."""
    with k.loop(count) as n:
        matrix = matrices[n * (g.width + 1) * g.columns]
        x, y = (one.get() for one in held)
        k.call(
            g.hidden, x, g.strip_step, g.width, pixels, matrix, matrix[g.columns], g.columns, y,
            g.strip_step,
        )  # fmt: skip
        for one, other in zip(held, (y, x), strict=True):
            one.set(other)


def _last(k: Kernel, g: _Given, x: Value, pixels: Value) -> None:
    matrix = g.shared[g.depth * (g.width + 1) * g.columns]
    k.call(
        g.linear, x, g.strip_step, g.width, pixels, matrix, matrix[4], 4, g.result, g.strip_step
    )  # fmt: skip


def _put(k: Kernel, g: _Given, values: Value, count: Value, place: Value, rows: Value) -> None:
    """A strip of `count` channels to the window's pixels from `place` on."""
    with k.loop(count) as n, k.loop(rows) as r:
        line = g.out[n * g.out_plane + r * g.out_line + place]
        line.copy(values[n * g.strip_step + r * g.q], g.q)


def decode() -> tuple[Callable[[int], None], object]:
    """The kernel, compiled: decodes rows of blocks, of which it is given an array's address."""
    module = ir.Module("hinet")
    k = Kernel(module, "decode", [ADDRESS])
    g = _Given(k, k.arguments[0], module)
    g.planes = (k.whole(0).below(g.depth)).choose(k.whole(3), g.width)
    with k.loop(g.places) as b:
        g.x[b * g.x_step].copy(g.x_shares[b * g.q], g.q)
    with k.loop(g.rows) as down:
        _go_down(k, g, down)
        with k.loop(g.blocks) as block:
            _block_weights(k, g, down * g.blocks + block)
            here = block * g.q
            begin, low = g.left + here, _whole(g.x_low, here)
            across = (_whole(g.x_low, here + g.q - 1) + 2).least(g.table_columns) - low
            _placed(k, g, g.xs[block * g.places * (g.waves * 2 + 1)], low, across)
            _functions_of_x(k, g, here, low, across)
            with k.when(k.whole(0).below(g.prior)):
                _prior(k, g, begin)
            with k.loop(g.p, g.strip) as top:
                rows = (g.p - top).least(g.strip)
                pixels, place = rows * g.q, (g.top + top) * g.out_line + begin
                with k.loop(rows) as r:
                    _first_layer(k, g, top + r, r * g.q, begin, across)
                held = Variable(k, g.even), Variable(k, g.odd)
                _square(k, g, held, g.hidden_layers, g.layers, pixels)
                with k.either(k.whole(0).below(g.depth)) as (colours, features):
                    with features:
                        _put(k, g, held[0].get(), g.width, place, rows)
                    with colours:
                        _square(k, g, held, g.shared, g.depth, pixels)
                        _last(k, g, held[0].get(), pixels)
                        _coloured(k, g, pixels)
                        _put(k, g, g.result, k.whole(3), place, rows)
    k.done()
    return compiled(module, "decode")
