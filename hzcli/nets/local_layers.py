"""What HINet's native kernel (local_llvm.py) consists of: layers, weights, and lookups of strips.

Pixels lie side by side in the processor's registers, and a tile of a layer's results, some channels
of some pixels, stays in them while it is summed up.

Letters: C columns of a matrix of weights: channels, and what fills up registers. Matrices have the
bias as their first row.
"""

from __future__ import annotations

from llvmlite import ir

from hzcli.core.llvm import ADDRESS, FLOAT, LANE, LANES, REGISTERS, WHOLE, Kernel, Value, Variable
from hzcli.nets.modulated import LEAK

UNIT = max(LANES, 8)  # C is a multiple of it
CHANNELS = 4  # of a tile
TILE = (4 if REGISTERS == 32 else 2) * LANES  # pixels of one
NARROW = 8  # channels of a tile of LANES pixels
STRIP = 128  # pixels that go through all layers at once, more or less


def tanh(x: Value) -> Value:
    """To 3e-7: Lambert's fraction of a quarter of x, and tanh 2u of tanh u twice."""
    x = x.least(9.0)
    x = (x.below(-9.0)).choose(x * 0 - 9.0, x) * 0.25
    s = x * x
    n = x * (s * (s * (s * (1 / 135135) + 378 / 135135) + 17325 / 135135) + 1.0)
    d = s * (s * (s * (28 / 135135) + 3150 / 135135) + 62370 / 135135) + 1.0
    for _ in range(2):
        n, d = n * d * 2.0, n.fma(n, d * d)
    return n / d


def _tile(
    sources: tuple[Value, Value, Value], weights: tuple[Value, Value], start: Value | None,
    into: tuple[Value, Value], shape: tuple[int, int], leaky: bool,
) -> None:  # fmt: skip
    """A tile of a layer: channels by registers of pixels. sources: inputs, floats from one to the
    next, how many. weights: of the first channel, floats from input to input. start: numbers with
    which sums begin; else with what is there. into: results, floats from one to the next."""
    (x, x_step, inputs), (w, w_step), (y, y_step) = sources, weights, into
    k, (channels, registers) = x.kernel, shape
    places = [[y[y_step * o + LANES * j] for j in range(registers)] for o in range(channels)]
    sums = []
    for o in range(channels):
        for place in places[o]:
            sums.append(Variable(k, place.lanes() if start is None else start[o].get().splat()))
    with k.loop(inputs) as i:
        line, row = x[i * x_step], w[i * w_step]
        pixels = [line[LANES * j].lanes() for j in range(registers)]
        for o in range(channels):
            weight = row[o].get().splat()
            for j in range(registers):
                one = sums[o * registers + j]
                one.set(weight.fma(pixels[j], one.get()))
    for n, one in enumerate(sums):
        value = one.get()
        value = (value * LEAK).below(value).choose(value, value * LEAK) if leaky else value
        places[n // registers][n % registers].put(value)


def layer(module: ir.Module, name: str, leaky: bool) -> Kernel:
    """One layer: inputs x, `x_step` apart, by a matrix of C columns, to y, `y_step` apart."""
    k = Kernel(
        module, name, [ADDRESS, WHOLE, WHOLE, WHOLE, ADDRESS, ADDRESS, WHOLE, ADDRESS, WHOLE]
    )
    x, x_step, inputs, pixels, start, weights, columns, y, y_step = k.arguments
    with k.loop(pixels, TILE) as i, k.loop(columns, CHANNELS) as o:
        _tile(
            (x[i], x_step, inputs), (weights[o], columns), start[o], (y[y_step * o + i], y_step),
            (CHANNELS, TILE // LANES), leaky,
        )  # fmt: skip
    return k.done()


def row(module: ir.Module) -> Kernel:
    """The first layer of a row of pixels, onto what is in y."""
    k = Kernel(module, "row", [ADDRESS, WHOLE, WHOLE, WHOLE, ADDRESS, WHOLE, ADDRESS, WHOLE])
    x, x_step, inputs, pixels, weights, columns, y, y_step = k.arguments
    with k.loop(pixels, TILE) as i:
        left = pixels - i
        with k.either((k.whole(TILE // 2)).below(left)) as (wide, narrow):
            with wide, k.loop(columns, CHANNELS) as o:
                _tile(
                    (x[i], x_step, inputs), (weights[o], columns), None,
                    (y[y_step * o + i], y_step), (CHANNELS, TILE // LANES), True,
                )  # fmt: skip
            with narrow, k.loop(left, LANES) as j, k.loop(columns, NARROW) as o:
                _tile(
                    (x[i + j], x_step, inputs), (weights[o], columns), None,
                    (y[y_step * o + i + j], y_step), (NARROW, 1), True,
                )  # fmt: skip
    return k.done()


def weights(module: ir.Module) -> Kernel:
    """A layer's bias and weights, tanh(A B) * basic, (1 + inputs, C), from its parameters."""
    k = Kernel(module, "weights", [ADDRESS, WHOLE, WHOLE, WHOLE, WHOLE, ADDRESS, ADDRESS])
    a, inputs, outputs, rank, columns, basic, out = k.arguments
    b = a[inputs * rank]
    bias = b[rank * outputs]
    with k.loop(columns, LANES) as o:
        out[o].put(bias[o].lanes())
        with k.loop(inputs) as i:
            total = Variable(k, k.zeros())
            with k.loop(rank) as r:
                total.set(
                    a[i * rank + r].get().splat().fma(b[r * outputs + o].lanes(), total.get())
                )
            learnt = basic[i * outputs + o].lanes()
            out[(i + 1) * columns + o].put(tanh(total.get()) * learnt)
    return k.done()


def enlarged(module: ir.Module) -> Kernel:
    """A row of the prior between two coarser ones, `line` apart, at twice their width."""
    kinds = [ADDRESS, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, ADDRESS, WHOLE]
    k = Kernel(module, "enlarged", kinds)
    x, x_step, line, low, odd, channels, pixels, y, y_step = k.arguments
    share = low.odd().choose(k.whole(1), 3)
    part = Value(k, k.build.sitofp(share.value, FLOAT)) * 0.25
    with k.loop(channels) as c:
        upper, into = x[c * x_step], y[c * y_step]
        with k.either(odd.odd()) as (uneven, even):
            with even, k.loop(pixels, 2 * LANES) as i:
                here = upper[i.half()]
                near, middle, far = (
                    here[j].lanes().to(here[line + j].lanes(), part.splat()) for j in range(3)
                )
                middle = middle * 0.75
                quarter = k.zeros() + 0.25
                first, second = near.fma(quarter, middle), far.fma(quarter, middle)
                for half in range(2):
                    turns = [n // 2 + n % 2 * LANES + half * LANES // 2 for n in range(LANES)]
                    into[i + half * LANES].put(first.shuffled(second, turns))
            with uneven, k.loop(pixels) as i:  # blocks of an odd width: of small pictures
                here = upper[i.half()]
                a, b = (here[j].get().to(here[line + j].get(), part) for j in range(2))
                further = i.odd().choose(a * 0 + 0.75, 0.25)
                into[i].put(a.to(b, further))
    return k.done()


def tones(module: ir.Module) -> Kernel:
    """Colours, three rows, onto which table's corner and how far from it; then the table's tones,
    4 to a pixel. Where a colour is not a number, as if it were 0."""
    k = Kernel(module, "tones", [ADDRESS, WHOLE, WHOLE, ADDRESS, WHOLE, ADDRESS, ADDRESS])
    x, x_step, pixels, lut, nodes, out, places = k.arguments
    last, parts = nodes - 1, places[LANES]
    with k.loop(pixels, LANES) as i:
        at = Variable(k, k.zeros().cut())
        for c in range(3):
            top = Value(k, k.build.sitofp(last.value, FLOAT))
            place = (x[x_step * c + i].lanes().most(0.0) * top.splat()).least(top.splat())
            low = place.least((top - 1.0).splat()).cut()
            parts[LANES * c].put(place - low.real())
            step = Value(k, k.build.trunc(nodes.value, LANE)).splat()
            at.set(at.get() * step + low)
        places.put(at.get() * 4)
        on, down = nodes * 4, nodes * nodes * 4
        with k.loop(LANES) as n:
            corner = places[n].get(LANE)
            here = lut[Value(k, k.build.sext(corner.value, WHOLE))]
            r, g, b = (parts[LANES * c + n].get() for c in range(3))
            near = here.lanes(8).to(here[on].lanes(8), g.splat(8))
            far = here[down].lanes(8).to(here[down + on].lanes(8), g.splat(8))
            both = near.to(far, r.splat(8))
            low, high = (both.shuffled(both, range(o, o + 4)) for o in (0, 4))
            out[(i + n) * 4].put(low.to(high, b.splat(4)))
    return k.done()
