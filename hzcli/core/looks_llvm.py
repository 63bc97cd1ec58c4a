"""Native kernels from 16-bit codes to 16-bit codes: rows, masks, and what both do to a colour.

Sixteen pixels go the whole way while registers and a core's nearest cache hold them: to their new
colours (lookups_llvm.py), by the mask between old and new, rounded once. Sixteen that the mask
leaves out cost one look at the mask.

A register holds four pixels of four numbers: red, green, blue and nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hzcli.core.codes import WHITE
from hzcli.core.llvm import BYTE, CODE, FLOAT, LANE, WHOLE, Kernel, Value, Variable, vector

SIDE = 16  # pixels at once
SPAN = 64  # pixels that are passed over at once where the mask leaves all out
GROUP = 4  # pixels of four numbers, red, green, blue and nothing, which fill a register of 16
MASKS = BYTE, CODE  # of which masks are; where there is none, it is one of no bytes
# What a kernel is told: whole numbers, float32 numbers, addresses.
NUMBERS = (
    "height", "width", "line", "mask_line", "mask_bytes", "top", "whole", "steps", "step_r",
    "step_g", "step_b", "bits", "last", "taps", "plane", "grid_line", "grid_rows", "pieces",
    "pieces_after", "strip",
)  # fmt: skip
FLOATS = ("weight", "share", "unit")
ADDRESSES = ("rows", "mask", "table", "places", "numbers", "index", "shares")
NAMES = NUMBERS + FLOATS + ADDRESSES


class Told:
    """What an array of words says, by name."""

    def __init__(self, k: Kernel, array: Value) -> None:
        for n, name in enumerate(NAMES):
            word = array[2 * n]
            value = word.get(FLOAT) if name in FLOATS else word.get(WHOLE)
            if name in ADDRESSES:
                value = Value(k, k.build.inttoptr(value.value, BYTE.as_pointer()))
            setattr(self, name, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Value: ...


def walk(k: Kernel, told: Told, work: Work) -> None:
    """All rows of a strip of columns, strip after strip: from span to span that the mask does not
    leave out."""
    spare = k.room(3 * SIDE, CODE), k.room(2 * SIDE, BYTE)
    for room, count in zip(spare, (6 * SIDE, 2 * SIDE), strict=True):
        room.to_kind(BYTE).put(k.zero_bytes(count))  # what is never there is something, too
    with k.loop(told.width, told.strip) as first, k.loop(told.height) as y:
        end = (first + told.strip).least(told.width)
        row, held = told.rows[y * told.line], told.mask[y * told.mask_line]
        x = Variable(k, first)
        with k.during(lambda: x.get().below(end)):
            for kind in MASKS:
                _pass_over(k, told, held.to_kind(kind), x, end)
            start = x.get()
            here, seen = row[start * 6].to_kind(CODE), held[start * told.mask_bytes]
            work.begin(y, start, first)
            _span(k, told, work, (here, seen, (end - start).least(SPAN)), spare)
            x.set(start + SPAN)


def _pass_over(k: Kernel, told: Told, mask: Value, x: Variable, end: Value) -> None:
    """On to the next span that a mask of this kind does not leave out, or to the last."""
    kind, last = mask.kind.pointee, end - SPAN

    def within() -> Value:
        return x.get().below(last + 1)

    def empty() -> Value:
        return mask[x.get()].get(vector(SPAN, kind)).any().no()

    with k.when(told.mask_bytes.equals(kind.width // 8)), k.during(within, empty):
        x.set(x.get() + SPAN)


def _span(
    k: Kernel,
    told: Told,
    work: Work,
    pixels: tuple[Value, Value, Value],
    spare: tuple[Value, Value],
) -> None:
    """A span, or none, sixteen pixels at a time; fewer in spare memory. pixels: where codes and
    mask lie, how many."""
    codes, mask, count = pixels
    spare_codes, spare_mask = spare
    with k.loop(count, SIDE) as x:
        left = count - x
        short = left.below(SIDE)
        at, seen = codes[x * 3], mask[x * told.mask_bytes]
        work.offset, work.left = x, left
        # The row below: where a mask's part of it begins, nothing else foretells it.
        below = at.to_kind(BYTE)[told.line].to_kind(FLOAT)
        for n in (0, 16):
            k.fetch(below[n], k.whole(1), near=2)
        with k.when(short):
            with k.loop(left * told.mask_bytes) as i:
                spare_mask[i].put(seen[i].get(BYTE))
            with k.loop(left * 3) as i:
                spare_codes[i].put(at[i].get(CODE))
        _block(k, told, work, short.choose(spare_codes, at), short.choose(spare_mask, seen))
        with k.when(short), k.loop(left * 3) as i:
            at[i].put(spare_codes[i].get(CODE))


def _block(k: Kernel, told: Told, work: Work, at: Value, held: Value) -> None:
    """Sixteen pixels in place, as far as the mask holds them."""
    full = k.splat(told.top)
    mask, some = Variable(k, full), Variable(k, k.bit(True))
    for kind in MASKS:
        with k.when(told.mask_bytes.equals(kind.width // 8)):
            found = held.get(vector(SIDE, kind))
            some.set(found.any())
            mask.set(found.wide(LANE))
    with k.when(some.get()):
        inside = mask.get().equals(full)
        codes = Codes(at)
        with k.either(inside.all().both(told.whole.equals(1))) as (whole, partly):
            with whole:
                work.whole(at, codes)
            with partly:
                share = mask.get().real() * told.share.splat(SIDE)
                share = inside.choose(told.weight.splat(SIDE), share)
                old = [codes.of(_pixels(g)).real() for g in range(GROUP)]
                new = work.numbers(at, codes)
                put(at, [_mixed(old[g], new[g], share, g) for g in range(GROUP)])


class Codes:
    """Sixteen pixels' 48 codes, in two registers that overlap: LLVM knows how to pick from two."""

    def __init__(self, at: Value) -> None:
        self._first, self._last = (at[n].get(vector(2 * SIDE, CODE)) for n in (0, SIDE))

    def of(self, places: Sequence[int]) -> Value:
        """Some of them, of 32 bits."""
        order = [n if n < 2 * SIDE else n + SIDE for n in places]
        return self._first.shuffled(self._last, order).wide(LANE)


def _pixels(group: int) -> list[int]:
    """Where the codes of a group's pixels lie, with anything for the fourth number."""
    return [3 * p + min(c, 2) for p in range(GROUP * group, GROUP * (group + 1)) for c in range(4)]


def each(group: int) -> list[int]:
    """A number of each pixel of a group, four times."""
    return [p for p in range(GROUP * group, GROUP * (group + 1)) for _ in range(4)]


def _mixed(old: Value, new: Value, share: Value, group: int) -> Value:
    """Between old and new codes, half a code more."""
    part = share.shuffled(share, each(group))
    soft = old.to((new - 0.5).most(0.0).least(float(WHITE)), part) + 0.5
    return part.equals(1.0).choose(new, soft)


def put(at: Value, groups: Sequence[Value]) -> None:
    """Numbers to codes, cut off, to memory."""
    codes = [x.most(0.0).least(float(WHITE)).cut().narrow(CODE) for x in groups]
    threes = [n for n in range(8 * GROUP) if n % 4 != 3]
    for half in range(2):
        at[6 * GROUP * half].put(codes[2 * half].shuffled(codes[2 * half + 1], threes))


class Work(ABC):
    """Sixteen pixels' new colours. offset: of the first of them in the span. left: how many there
    are from it on, of which sixteen count at most."""

    offset: Value
    left: Value

    def __init__(self, k: Kernel, told: Told) -> None:
        self.k, self.told = k, told

    def begin(self, row: Value, column: Value, first: Value) -> None:  # noqa: B027 (few care where)
        """A span begins there, of a strip that begins in column `first`."""

    def whole(self, at: Value, codes: Codes) -> None:
        """In place."""
        put(at, self.numbers(at, codes))

    @abstractmethod
    def numbers(self, at: Value, codes: Codes) -> list[Value]:
        """In codes and half a code more, neither rounded nor cut off, by groups of pixels."""
