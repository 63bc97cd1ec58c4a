"""What native kernels make of colours: tables, curves, maps of both, and colours ready made.

Of a table: places side by side, corners and weights too; then pixel by pixel what lies at the
corners, four numbers to a node.

    p = code (n - 1),  q, f = divmod(p, 65535)     as in tetra.py: nothing is rounded

Only native.py imports this: llvm.py needs llvmlite.

Shapes: n nodes a side.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from hzcli.core.codes import WHITE
from hzcli.core.llvm import (
    ADDRESS,
    BYTE,
    CODE,
    FLOAT,
    LANE,
    WHOLE,
    Kernel,
    Value,
    Variable,
    compiled,
    vector,
)
from hzcli.core.looks_llvm import GROUP, SIDE, Codes, Told, Work, each, walk


def made(kind: str) -> tuple[Callable[[int], None], object]:
    """The kernel of a kind, one of WORKS; and what to keep."""
    module = ir.Module(kind)
    k = Kernel(module, kind, [ADDRESS])
    told = Told(k, k.arguments[0])
    walk(k, told, WORKS[kind](k, told))
    return compiled(k.done().module, kind)


class _Table(Work):
    """What tables have in common: places."""

    def __init__(self, k: Kernel, told: Told) -> None:
        super().__init__(k, told)
        self.at = k.room(4 * SIDE, LANE)
        self.found = k.room(3 * SIDE, LANE)
        self.table = told.table.to_kind(FLOAT)

    def placed(self, at: Value, codes: Codes) -> tuple[Value, list[Value]]:
        """Where a colour's cell begins in the table, in bytes, and what is left over of each
        channel, 0 to 65535."""
        k, told = self.k, self.told
        cells, rest = [Variable(k, k.splat(told.last)) for _ in range(3)], []
        parts = [Variable(k, k.splat(told.last).real()) for _ in range(3)]
        with k.either(told.bits.equals(0)) as (plain, shaped):
            with plain:
                for c in range(3):
                    place = codes.of(range(c, 3 * SIDE, 3)) * k.splat(told.steps)
                    # p // 65535 without a division. At a node it gives the cell below, with all of
                    # a cell as remainder: the same place.
                    cell = ((place >> 16) + place) >> 16
                    cells[c].set(cell)
                    parts[c].set((place - (cell << 16) + cell).real())
            with shaped:
                places = told.places.to_kind(LANE)
                with k.loop(SIDE) as i:
                    for c in range(3):
                        code = at[i * 3 + c].get(CODE).wide()
                        self.found[i + c * SIDE].put(places[code + c * (WHITE + 1)].get(LANE))
                bits = k.splat(told.bits)
                for c in range(3):
                    place = self.found[c * SIDE].get(vector(SIDE, LANE))
                    cell = (place >> bits).least(k.splat(told.last))
                    cells[c].set(cell)
                    parts[c].set((place - (cell << bits)).real() * told.unit.splat(SIDE))
        rest = [part.get() for part in parts]
        r, g, b = (cell.get() for cell in cells)
        first = r * k.splat(told.step_r) + g * k.splat(told.step_g) + (b << 4)
        return first, rest

    def corner(self, base: Value, at: Value, lanes: int = 4) -> Value:
        """Nodes of the table so many bytes on."""
        return base.to_kind(BYTE)[at].get(vector(lanes))


class _Tetrahedral(_Table):
    def numbers(self, at: Value, codes: Codes) -> list[Value]:
        k, told = self.k, self.told
        first, (r, g, b) = self.placed(at, codes)
        red, green, blue = (k.splat(x) for x in (told.step_r, told.step_g, told.step_b))
        greener = r.below(g)
        high, low = r.most(g), r.least(g)
        high_step = greener.choose(green, red)
        low_step = greener.choose(red, green)
        bluest, blue_least = high.below(b), b.below(low)
        most, middle, least = high.most(b), low.most(high.least(b)), low.least(b)
        second = first + bluest.choose(blue, high_step)
        third = first + (red + green + blue) - blue_least.choose(blue, low_step)
        weights = [k.lanes_of(float(WHITE), SIDE) - most, most - middle, middle - least, least]
        for n, corner in enumerate((first, second, third)):
            self.at[n * SIDE].put(corner)
        far = told.table[told.step_r + told.step_g + told.step_b]
        found = []
        for group in range(GROUP):
            total: Value | None = None
            for n, weight in enumerate(weights):
                base, which = (far, 0) if n == 3 else (told.table, n)
                nodes = [
                    self.corner(base, self.at[which * SIDE + GROUP * group + p].get(LANE).wide())
                    for p in range(GROUP)
                ]
                part, all_four = weight.shuffled(weight, each(group)), k.joined(nodes)
                total = part * all_four if total is None else part.fma(all_four, total)
            assert total is not None
            found.append(total)
        return found


class _Trilinear(_Table):
    def numbers(self, at: Value, codes: Codes) -> list[Value]:
        k, told = self.k, self.told
        first, (r, g, b) = self.placed(at, codes)
        self.at.put(first)
        unit = 1 / WHITE
        far, right, part = r * unit, g * 1.0, b * unit
        near, left = 1.0 - far, float(WHITE) - right
        weights = [near * left, near * right, far * left, far * right]
        bases = [told.table, told.table[told.step_g], told.table[told.step_r]]
        bases.append(bases[2][told.step_g])
        found = []
        for group in range(GROUP):
            pairs = []
            for pair in range(GROUP * group, GROUP * (group + 1), 2):
                starts = [self.at[pair + p].get(LANE).wide() for p in range(2)]
                total: Value | None = None
                for base, weight in zip(bases, weights, strict=True):
                    nodes = k.joined([self.corner(base, start, 8) for start in starts])
                    share = weight.shuffled(weight, [pair] * 8 + [pair + 1] * 8)
                    total = share * nodes if total is None else share.fma(nodes, total)
                assert total is not None
                pairs.append(total)
            dark, light = (
                pairs[0].shuffled(pairs[1], [n + 8 * m + s for m in range(4) for n in range(4)])
                for s in (0, 4)
            )
            found.append(dark.to(light, part.shuffled(part, each(group))))
        return found


class _Curves(Work):
    """Every code of every channel has its answer ready: as a code, and as a number."""

    def __init__(self, k: Kernel, told: Told) -> None:
        super().__init__(k, told)
        self.found = k.room(4 * SIDE)

    def whole(self, at: Value, codes: Codes) -> None:
        # One after the other: a loop takes a fifth longer.
        table = self.told.table.to_kind(CODE)
        for n in range(0, 3 * SIDE, 4):
            four = at[n].get(vector(4, CODE)).as_whole()
            for m in range(n, n + 4):
                code = (four >> 16 * (m - n)).narrow(CODE).wide()
                at[m].put(table[code + m % 3 * (WHITE + 1)].get(CODE))

    def numbers(self, at: Value, codes: Codes) -> list[Value]:
        k, table = self.k, self.told.numbers.to_kind(FLOAT)
        with k.loop(SIDE) as i:
            for c in range(3):
                code = at[i * 3 + c].get(CODE).wide()
                self.found[i * 4 + c].put(table[code + c * (WHITE + 1)].get())
        return [self.found[4 * GROUP * g].lanes(4 * GROUP) for g in range(GROUP)]


class _Placed(Work):
    """What hangs on the place of a pixel."""

    def begin(self, row: Value, column: Value, first: Value) -> None:
        self.row, self.column, self.first = row, column, first

    def _joined(self, planes: list[Value]) -> list[Value]:
        """Red, green and blue of sixteen pixels by groups, and anything behind them."""
        found = []
        for group in range(GROUP):
            pixels = list(range(group * GROUP, (group + 1) * GROUP))
            two = planes[0].shuffled(planes[1], [p + c for p in pixels for c in (0, SIDE, 0, 0)])
            turns = [n if n % 4 < 2 else SIDE + pixels[n // 4] for n in range(4 * GROUP)]
            found.append(two.shuffled(planes[2], turns))
        return found


class _Planes(_Placed):
    """Colours ready made, 1 for white, each channel by itself."""

    def __init__(self, k: Kernel, told: Told) -> None:
        super().__init__(k, told)
        self.few = k.room(3 * SIDE)

    def numbers(self, at: Value, codes: Codes) -> list[Value]:
        k, told = self.k, self.told
        short = self.left.below(SIDE)
        line = told.table.to_kind(FLOAT)[self.row * told.grid_line + self.column + self.offset]
        new = []
        for c in range(3):
            there, few = line[told.plane * c], self.few[c * SIDE]
            with k.when(short), k.loop(self.left) as i:  # nothing may lie behind the last ones
                few[i].put(there[i].get())
            value = short.choose(few, there).lanes(SIDE)
            new.append(value.fma(k.lanes_of(float(WHITE), SIDE), k.lanes_of(0.5, SIDE)))
        return self._joined(new)


class _Maps(_Placed):
    """Affine maps: 3x4 matrices a column, from some rows of a grid, in shares that a row has."""

    def numbers(self, at: Value, codes: Codes) -> list[Value]:
        k, told = self.k, self.told
        maps, column = told.table.to_kind(FLOAT), self.column + self.offset
        index, shares = told.index.to_kind(WHOLE), told.shares.to_kind(FLOAT)
        sums = [Variable(k, k.lanes_of(0.0, SIDE)) for _ in range(12)]
        with k.loop(told.taps) as tap:
            one = self.row * told.taps + tap
            line = maps[index[one].get(WHOLE) * told.grid_line + column]
            share = shares[one].get().splat(SIDE)
            for n, total in enumerate(sums):
                total.set(share.fma(line[told.plane * n].lanes(SIDE), total.get()))
        old = [codes.of(range(c, 3 * SIDE, 3)).real() for c in range(3)]
        new = []
        for c in range(3):
            value = sums[4 * c + 3].get()
            for n in range(3):
                value = sums[4 * c + n].get().fma(old[n], value)
            new.append(value)
        return self._joined(new)


class _CurveMaps(_Placed):
    """Two curves a channel, one after the other, between two rows of a grid.

    A curve is the sum of ramps, max(0, x - j) times what its slope grows by at j: with a curve for
    each pixel that is less than to look a piece up. The curves of a strip of columns lie together,
    so that a core's nearest cache holds those of two rows of the grid.
    """

    def numbers(self, at: Value, codes: Codes) -> list[Value]:
        k, told = self.k, self.told
        index, shares = told.index.to_kind(WHOLE), told.shares.to_kind(FLOAT)
        taps = [self.row * 2 + tap for tap in range(2)]
        strip = told.table.to_kind(FLOAT)[self.first * told.grid_rows]
        here = strip[self.column - self.first + self.offset]
        lines = [here[index[tap].get(WHOLE) * told.grid_line] for tap in taps]
        near, far = (shares[tap].get().splat(SIDE) for tap in taps)
        unit = told.unit.splat(SIDE)
        values = [codes.of(range(c, 3 * SIDE, 3)).real() * unit for c in range(3)]
        both = told.pieces + told.pieces_after + 2
        for begin, pieces in ((k.whole(0), told.pieces), (told.pieces + 1, told.pieces_after)):
            most = pieces.narrow(LANE).splat(SIDE).real()
            starts = [[line[(both * c + begin) * told.plane] for line in lines] for c in range(3)]
            sums = [[Variable(k, place.lanes(SIDE)) for place in two] for two in starts]
            rest = [Variable(k, value.least(most)) for value in values]
            with k.loop(pieces) as piece:
                step = (piece + 1) * told.plane
                for c in range(3):
                    ramp = rest[c].get().most(0.0)
                    for place, total in zip(starts[c], sums[c], strict=True):
                        total.set(place[step].lanes(SIDE).fma(ramp, total.get()))
                    rest[c].set(rest[c].get() - 1.0)
            values = [one.get().fma(near, other.get() * far) for one, other in sums]
        return self._joined(values)


WORKS: dict[str, Callable[[Kernel, Told], Work]] = {
    "tetrahedral": _Tetrahedral,
    "trilinear": _Trilinear,
    "curves": _Curves,
    "maps": _Maps,
    "curve maps": _CurveMaps,
    "planes": _Planes,
}
