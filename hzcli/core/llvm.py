"""A few words for native kernels: arithmetic, loops and memory, made into machine code by LLVM.

A kernel is a Python function that is run once: what it does to a `Value` is written down, and
compiled for this processor in a fraction of a second. Nothing is kept on disk. The kernel's
numbers are whole (64 bits; codes of 16 or 8 in memory), float32, or several of them side by side:
`LANES` fill a register.

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

from hzcli.core.llvm_values import (
    ADDRESS,
    BIT,
    BYTE,
    CODE,
    FEATURES,
    FLOAT,
    LANE,
    LANES,
    REGISTERS,
    WHOLE,
    Kind,
    Value,
    Variable,
    vector,
)
from hzcli.core.mapped import let_go

__all__ = [
    "ADDRESS",
    "BYTE",
    "CODE",
    "FLOAT",
    "LANE",
    "LANES",
    "REGISTERS",
    "WHOLE",
    "Kernel",
    "Value",
    "Variable",
    "compiled",
    "vector",
]


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

    def bit(self, holds: bool) -> Value:
        return Value(self, BIT(int(holds)))

    def splat(self, number: Value, lanes: int = 16) -> Value:
        """A whole number, cut to 32 bits, side by side with itself."""
        return number.narrow(LANE).splat(lanes)

    def zero_bytes(self, count: int) -> Value:
        return Value(self, ir.Constant(vector(count, BYTE), [BYTE(0)] * count))

    def lanes_of(self, number: float, lanes: int) -> Value:
        return Value(self, ir.Constant(vector(lanes), [ir.Constant(FLOAT, number)] * lanes))

    def joined(self, parts: Sequence[Value]) -> Value:
        """Numbers side by side, of as many parts as a power of 2."""
        while len(parts) > 1:
            count = 2 * parts[0].kind.count
            pairs = zip(parts[::2], parts[1::2], strict=True)
            parts = [a.shuffled(b, range(count)) for a, b in pairs]
        return parts[0]

    def zeros(self) -> Value:
        return Value(self, ir.Constant(vector(), [ir.Constant(FLOAT, 0.0)] * LANES))

    def room(self, count: int, of: Kind = FLOAT) -> Value:
        """An address of numbers that nothing else has, as long as the kernel runs."""
        with self.build.goto_entry_block():
            made = self.build.alloca(of, count)
        made.align = 64
        return Value(self, made)

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

    def fetch(self, address: Value, count: Value, written: bool = False, near: int = 3) -> None:
        """Ask for numbers that will be read, or written, before long. near: 3 for the core's
        nearest cache, 2 for the next one."""
        kinds = [ADDRESS, LANE, LANE, LANE]
        made = self._declared("llvm.prefetch.p0", ir.VoidType(), kinds)
        with self.loop(count + 15, 16) as i:  # to the line of the last, wherever the first begins
            self.build.call(made, [address[i].value, LANE(int(written)), LANE(near), LANE(1)])

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
    def during(self, *conditions: Callable[[], Value]) -> Iterator[None]:
        """Again and again, as long as conditions hold, each of which is looked at if those before
        it do."""
        after = self.function.append_basic_block()
        heads = [self.function.append_basic_block() for _ in (*conditions, None)]
        self.build.branch(heads[0])
        for head, condition, then in zip(heads, conditions, heads[1:], strict=False):
            self.build.position_at_end(head)
            self.build.cbranch(condition().value, then, after)
        self.build.position_at_end(heads[-1])
        yield
        self.build.branch(heads[0])
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
        cpu=llvm.get_host_cpu_name(), features=FEATURES.flatten(), opt=3, jit=True
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
    let_go("libllvmlite")
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address), engine
