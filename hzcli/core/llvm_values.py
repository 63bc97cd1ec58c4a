"""What native kernels (llvm.py) reckon with: numbers, several side by side, addresses of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import llvmlite.binding as llvm
from llvmlite import ir

if TYPE_CHECKING:
    from hzcli.core.llvm import Kernel

FEATURES = llvm.get_host_cpu_features()
_X86 = llvm.get_process_triple().startswith(("x86_64", "i"))
# Numbers in a register; and how many registers there are for them.
LANES = 16 if FEATURES.get("avx512f") else 8 if FEATURES.get("avx") else 4
REGISTERS = 16 if _X86 and LANES < 16 else 32

WHOLE, FLOAT, BIT = ir.IntType(64), ir.FloatType(), ir.IntType(1)
LANE = ir.IntType(32)  # a whole number side by side with others
CODE, BYTE = ir.IntType(16), ir.IntType(8)
Kind = Any  # of a value, as llvmlite has it


def vector(lanes: int = LANES, of: Kind = FLOAT) -> Kind:
    return ir.VectorType(of, lanes)


ADDRESS = FLOAT.as_pointer()


def _aligned(kind: Kind) -> int:
    """At which multiples of bytes numbers lie: those side by side where the first does."""
    one = getattr(kind, "element", kind)
    return one.width // 8 if isinstance(one, ir.IntType) else 4


class Value:
    """A number, a vector of them, or an address of float32 numbers, known when the kernel runs."""

    def __init__(self, kernel: Kernel, value: Any) -> None:
        self.kernel, self.value = kernel, value

    @property
    def kind(self) -> Kind:
        return self.value.type

    @property
    def is_whole(self) -> bool:
        return isinstance(getattr(self.kind, "element", self.kind), ir.IntType)

    def _with(self, other: Value | float, whole: str, real: str) -> Value:
        number = self.kernel.like(self, other)
        build = self.kernel.build
        if self.is_whole:
            return Value(self.kernel, getattr(build, whole)(self.value, number))
        return Value(self.kernel, getattr(build, real)(self.value, number, flags=("contract",)))

    def __add__(self, other: Value | float) -> Value:
        return self._with(other, "add", "fadd")

    def __sub__(self, other: Value | float) -> Value:
        return self._with(other, "sub", "fsub")

    def __mul__(self, other: Value | float) -> Value:
        return self._with(other, "mul", "fmul")

    def __truediv__(self, other: Value | float) -> Value:
        return self._with(other, "sdiv", "fdiv")

    __radd__, __rmul__ = __add__, __mul__

    def __rsub__(self, other: float) -> Value:
        return Value(self.kernel, self.kernel.like(self, other)) - self

    def __lshift__(self, bits: Value | int) -> Value:
        return self._with(bits, "shl", "")

    def __rshift__(self, bits: Value | int) -> Value:
        return self._with(bits, "ashr", "")

    def half(self) -> Value:
        """A whole number's, rounded down."""
        return Value(self.kernel, self.kernel.build.ashr(self.value, WHOLE(1)))

    def odd(self) -> Value:
        """Whether a whole number is."""
        return Value(self.kernel, self.kernel.build.trunc(self.value, BIT))

    def below(self, other: Value | float) -> Value:
        number, build = self.kernel.like(self, other), self.kernel.build
        if self.is_whole:
            return Value(self.kernel, build.icmp_signed("<", self.value, number))
        return Value(self.kernel, build.fcmp_ordered("<", self.value, number))

    def equals(self, other: Value | float) -> Value:
        number, build = self.kernel.like(self, other), self.kernel.build
        if self.is_whole:
            return Value(self.kernel, build.icmp_signed("==", self.value, number))
        return Value(self.kernel, build.fcmp_ordered("==", self.value, number))

    def any(self) -> Value:
        """Whether one of several whole numbers is not 0."""
        bits = self._bits()
        return Value(self.kernel, self.kernel.build.icmp_unsigned("!=", bits, bits.type(0)))

    def all(self) -> Value:
        """Whether several conditions hold."""
        bits = self._bits()
        return Value(self.kernel, self.kernel.build.icmp_unsigned("==", bits, bits.type(-1)))

    def _bits(self) -> Any:
        width = self.kind.count * self.kind.element.width
        return self.kernel.build.bitcast(self.value, ir.IntType(width))

    def no(self) -> Value:
        """Of a condition."""
        return Value(self.kernel, self.kernel.build.not_(self.value))

    def both(self, other: Value) -> Value:
        """Of two conditions."""
        return Value(self.kernel, self.kernel.build.and_(self.value, other.value))

    def choose(self, yes: Value, no: Value | float) -> Value:
        """Of a condition: `yes` where it holds."""
        number = self.kernel.like(yes, no)
        return Value(self.kernel, self.kernel.build.select(self.value, yes.value, number))

    def least(self, other: Value | float) -> Value:
        """The lesser; where this is not a number, this."""
        number = Value(self.kernel, self.kernel.like(self, other))
        return number.below(self).choose(number, self)

    def most(self, other: Value | float) -> Value:
        """The greater; where this is not a number, the other."""
        number = Value(self.kernel, self.kernel.like(self, other))
        return number.below(self).choose(self, number)

    def fma(self, factor: Value, addend: Value) -> Value:
        """This times `factor`, plus `addend`, rounded once."""
        return self.kernel.intrinsic("fma", self, factor, addend)

    def to(self, other: Value, part: Value) -> Value:
        """Between this and another, `part` of the way."""
        return (other - self).fma(part, self)

    def splat(self, lanes: int = LANES) -> Value:
        """Side by side with itself."""
        none = ir.Constant(vector(lanes, self.kind), ir.Undefined)
        one = Value(self.kernel, self.kernel.build.insert_element(none, self.value, LANE(0)))
        return one.shuffled(one, [0] * lanes)

    def shuffled(self, other: Value, order: Sequence[int]) -> Value:
        """Lanes of this and, counted on, of another."""
        turns = ir.Constant(vector(len(order), LANE), list(order))
        return Value(self.kernel, self.kernel.build.shuffle_vector(self.value, other.value, turns))

    def cut(self) -> Value:
        """Real numbers' whole parts, of 32 bits each."""
        kind = vector(self.kind.count, LANE)
        return Value(self.kernel, self.kernel.build.fptosi(self.value, kind))

    def real(self) -> Value:
        return Value(self.kernel, self.kernel.build.sitofp(self.value, vector(self.kind.count)))

    def wide(self, of: Kind = WHOLE) -> Value:
        """Whole numbers from 0, in more bits."""
        kind = vector(self.kind.count, of) if isinstance(self.kind, ir.VectorType) else of
        return Value(self.kernel, self.kernel.build.zext(self.value, kind))

    def as_whole(self) -> Value:
        """Bits of several whole numbers as one, the first one's lowest (on most processors)."""
        return Value(self.kernel, self._bits())

    def narrow(self, of: Kind) -> Value:
        """Whole numbers' lowest bits."""
        kind = vector(self.kind.count, of) if isinstance(self.kind, ir.VectorType) else of
        return Value(self.kernel, self.kernel.build.trunc(self.value, kind))

    # Addresses.

    def __getitem__(self, index: Value | int) -> Value:
        """The address so many numbers on."""
        number = self.kernel.like_whole(index)
        return Value(self.kernel, self.kernel.build.gep(self.value, [number]))

    def to_kind(self, of: Kind) -> Value:
        """The same address, as one of other numbers."""
        return Value(self.kernel, self.kernel.build.bitcast(self.value, of.as_pointer()))

    def get(self, kind: Kind = FLOAT) -> Value:
        build = self.kernel.build
        at = build.bitcast(self.value, kind.as_pointer())
        return Value(self.kernel, build.load(at, align=_aligned(kind)))

    def lanes(self, count: int = LANES) -> Value:
        return self.get(vector(count))

    def put(self, value: Value) -> None:
        build = self.kernel.build
        at = build.bitcast(self.value, value.kind.as_pointer())
        build.store(value.value, at, align=_aligned(value.kind))

    def copy(self, source: Value, count: Value) -> None:
        """`count` numbers from another address."""
        self.kernel.copy(self, source, count)


class Variable:
    """What changes while the kernel runs."""

    def __init__(self, kernel: Kernel, first: Value) -> None:
        with kernel.build.goto_entry_block():
            self._at = kernel.build.alloca(first.kind)
        self._kernel = kernel
        self.set(first)

    def set(self, value: Value) -> None:
        self._kernel.build.store(value.value, self._at)

    def get(self) -> Value:
        return Value(self._kernel, self._kernel.build.load(self._at))
