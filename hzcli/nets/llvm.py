"""A few words for native kernels: arithmetic, loops and memory, made into machine code by LLVM.

A kernel is a Python function that is run once: what it does to a `Value` is written down, and
compiled for this processor in a fraction of a second. Nothing is kept on disk. The kernel's
numbers are whole (64 bits), float32, or `LANES` float32 side by side.

This needs llvmlite, and only what a kernel needs imports it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

_FEATURES = llvm.get_host_cpu_features()
_X86 = llvm.get_process_triple().startswith(("x86_64", "i"))
# Numbers in a register; and how many registers there are for them.
LANES = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx") else 4
REGISTERS = 16 if _X86 and LANES < 16 else 32

WHOLE, FLOAT, BIT = ir.IntType(64), ir.FloatType(), ir.IntType(1)
LANE = ir.IntType(32)  # a whole number side by side with others
Kind = Any  # of a value, as llvmlite has it


def vector(lanes: int = LANES, of: Kind = FLOAT) -> Kind:
    return ir.VectorType(of, lanes)


ADDRESS = FLOAT.as_pointer()


class Value:
    """A number, a vector of them, or an address of float32 numbers, known when the kernel runs."""

    def __init__(self, kernel: Kernel, value: Any) -> None:
        self.kernel, self.value = kernel, value

    @property
    def kind(self) -> Kind:
        return self.value.type

    def _with(self, other: Value | float, whole: str, real: str) -> Value:
        number = self.kernel.like(self, other)
        build = self.kernel.build
        if self.kind == WHOLE or isinstance(getattr(self.kind, "element", None), ir.IntType):
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

    def half(self) -> Value:
        """A whole number's, rounded down."""
        return Value(self.kernel, self.kernel.build.ashr(self.value, WHOLE(1)))

    def odd(self) -> Value:
        """Whether a whole number is."""
        return Value(self.kernel, self.kernel.build.trunc(self.value, BIT))

    def below(self, other: Value | float) -> Value:
        number, build = self.kernel.like(self, other), self.kernel.build
        if self.kind == WHOLE:
            return Value(self.kernel, build.icmp_signed("<", self.value, number))
        return Value(self.kernel, build.fcmp_ordered("<", self.value, number))

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
        return Value(self.kernel, self.kernel.build.fptosi(self.value, vector(LANES, LANE)))

    def real(self) -> Value:
        return Value(self.kernel, self.kernel.build.sitofp(self.value, vector()))

    # Addresses.

    def __getitem__(self, index: Value | int) -> Value:
        """The address so many numbers on."""
        number = self.kernel.like_whole(index)
        return Value(self.kernel, self.kernel.build.gep(self.value, [number]))

    def get(self, kind: Kind = FLOAT) -> Value:
        build = self.kernel.build
        at = build.bitcast(self.value, kind.as_pointer())
        return Value(self.kernel, build.load(at, align=8 if kind == WHOLE else 4))

    def lanes(self, count: int = LANES) -> Value:
        return self.get(vector(count))

    def put(self, value: Value) -> None:
        build = self.kernel.build
        build.store(value.value, build.bitcast(self.value, value.kind.as_pointer()), align=4)

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


class Kernel:
    """A function while it is written down."""

    def __init__(self, module: ir.Module, name: str, kinds: Sequence[Kind]) -> None:
        self.module = module
        self.function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        self.function.attributes.add("noinline")
        self.build = ir.IRBuilder(self.function.append_basic_block())
        self.arguments = [Value(self, argument) for argument in self.function.args]

    def like(self, value: Value, number: Value | float) -> Any:
        """A number of the same kind."""
        if isinstance(number, Value):
            return number.value
        kind, lanes = value.kind, 0
        if isinstance(kind, ir.VectorType):
            kind, lanes = kind.element, kind.count
        rounded = int(number) if isinstance(kind, ir.IntType) else float(np.float32(number))
        one = ir.Constant(kind, rounded)
        return ir.Constant(value.kind, [one] * lanes) if lanes else one

    def like_whole(self, number: Value | int) -> Any:
        return number.value if isinstance(number, Value) else WHOLE(number)

    def whole(self, number: int) -> Value:
        return Value(self, WHOLE(number))

    def zeros(self) -> Value:
        return Value(self, ir.Constant(vector(), [ir.Constant(FLOAT, 0.0)] * LANES))

    def intrinsic(self, name: str, *values: Value) -> Value:
        kind = values[0].kind
        suffix = f"v{kind.count}f32" if isinstance(kind, ir.VectorType) else "f32"
        made = self._declared(f"llvm.{name}.{suffix}", kind, [kind] * len(values))
        return Value(self, self.build.call(made, [v.value for v in values]))

    def copy(self, to: Value, source: Value, count: Value) -> None:
        whole = Value(self, self.build.and_(count.value, WHOLE(-LANES)))
        with self.loop(whole, LANES) as i:
            to[i].put(source[i].lanes())
        with self.loop(count - whole) as i:
            to[whole + i].put(source[whole + i].get())

    def fetch(self, address: Value, count: Value, written: bool = False) -> None:
        """Ask for numbers that will be read, or written, before long."""
        kinds = [ADDRESS, LANE, LANE, LANE]
        made = self._declared("llvm.prefetch.p0", ir.VoidType(), kinds)
        with self.loop(count, 16) as i:
            self.build.call(made, [address[i].value, LANE(int(written)), LANE(3), LANE(1)])

    def _declared(self, name: str, result: Kind, kinds: Sequence[Kind]) -> Any:
        if name in self.module.globals:
            return self.module.globals[name]
        return ir.Function(self.module, ir.FunctionType(result, kinds), name)

    def call(self, other: Kernel, *values: Value | int) -> None:
        self.build.call(other.function, [self.like_whole(v) for v in values])  # type: ignore[arg-type]

    @contextmanager
    def loop(self, end: Value | int, step: Value | int = 1) -> Iterator[Value]:
        """0, step, .. below `end`."""
        count = Variable(self, self.whole(0))
        head, body, after = (self.function.append_basic_block() for _ in range(3))
        self.build.branch(head)
        self.build.position_at_end(head)
        index = count.get()
        self.build.cbranch(index.below(end).value, body, after)
        self.build.position_at_end(body)
        yield index
        count.set(index + step)
        self.build.branch(head)
        self.build.position_at_end(after)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        with self.build.if_then(condition.value):
            yield

    @contextmanager
    def either(self, condition: Value) -> Iterator[tuple[Any, Any]]:
        with self.build.if_else(condition.value) as parts:
            yield parts

    def done(self) -> Kernel:
        self.build.ret_void()
        return self


def compiled(module: ir.Module, name: str) -> tuple[Callable[[int], None], object]:
    """A kernel of one address as a Python function, which lets other threads go on; and what must
    be kept as long as it is used."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=_FEATURES.flatten(), opt=3, jit=True
    )
    parsed = llvm.parse_assembly(str(module))
    # Kernels are written as they should run: variables into registers, and tidying, is enough.
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_loop_rotate_pass()
    passes.add_new_gvn_pass()
    passes.run(parsed, llvm.create_pass_builder(machine, llvm.PipelineTuningOptions()))
    engine = llvm.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    address = engine.get_function_address(name)
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address), engine
