"""The words that kernels are written in: functions, loops, indices, vectors of float32. Nothing runs here.

A `Kernel` is one function being written. Structure comes from Python: `with f.loop(0, 9) as i:` writes a loop
around what the block writes; what can be counted and pointed at stands in `addresses`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mobilenetv2.engine.addresses import BYTE, FLOAT, INT, Index, Number, Pointer, Value, integer, ir
from mobilenetv2.engine.schedule import Cpu, vectors
from mobilenetv2.spec import Activation

_VOID = ir.VoidType()
_POINTER = ir.PointerType()


class Module:
    """What one network's code consists of; `text` is its LLVM assembly."""

    def __init__(self, cpu: Cpu) -> None:
        self.cpu = cpu
        self._ir = ir.Module("engine")
        self._ir.triple = cpu.triple

    def function(self, name: str, pointers: Sequence[str], numbers: Sequence[str], *, public: bool = False) -> Kernel:
        """A function `name` to be written: its arguments are `pointers` to float32, then 64-bit `numbers`."""
        kind = ir.FunctionType(_VOID, [_POINTER] * len(pointers) + [INT] * len(numbers))
        function = ir.Function(self._ir, kind, name)
        function.linkage = "" if public else "internal"
        function.attributes.add("nounwind")
        return Kernel(self, function, pointers, numbers)

    def intrinsic(self, name: str, result: Any, arguments: Sequence[Any]) -> Any:
        """LLVM's built-in function `name`, declared once."""
        return self._ir.globals.get(name) or ir.Function(self._ir, ir.FunctionType(result, arguments), name)

    @property
    def text(self) -> str:
        return str(self._ir)


class Kernel:
    """One function being written. `f.weights` is its pointer argument "weights", `f.first` its number "first"."""

    def __init__(self, module: Module, function: Any, pointers: Sequence[str], numbers: Sequence[str]) -> None:
        self.module = module
        self.cpu = module.cpu
        self.function = function
        self.b = ir.IRBuilder(function.append_basic_block("entry"))
        arguments = function.args
        self._arguments: dict[str, Any] = {
            name: Pointer(self, value) for name, value in zip(pointers, arguments[: len(pointers)], strict=True)
        }
        self._arguments.update(
            (name, Index(self, value)) for name, value in zip(numbers, arguments[len(pointers) :], strict=True)
        )

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_arguments"][name]  # not by its name: what copies or inspects asks before it is there
        except KeyError:
            raise AttributeError(name) from None

    # control

    @contextmanager
    def loop(
        self, start: Number, stop: Number, step: int = 1, *, carry: list[Value] | None = None, turns: bool = False
    ) -> Iterator[Number]:
        """for i in range(start, stop, step). The block updates the values in `carry`, which flow through the turns.

        Bounds known now must allow one turn, and one turn is no loop at all; with bounds known later there may
        be none, and then nothing can be carried, unless the caller knows that there are `turns`.
        """
        if isinstance(start, int) and isinstance(stop, int):
            assert start < stop
            if start + step >= stop:
                yield start
                return
            with self._turns(start, stop, step, carry if carry is not None else []) as i:
                yield i
        elif turns:
            with self._turns(start, stop, step, carry if carry is not None else []) as i:
                yield i
        else:
            assert carry is None
            with self.when(self.less(start, stop)), self._turns(start, stop, step, []) as i:
                yield i

    @contextmanager
    def _turns(self, start: Number, stop: Number, step: int, carry: list[Value]) -> Iterator[Index]:
        before = self.b.block
        body = self.function.append_basic_block("turn")
        self.b.branch(body)
        self.b.position_at_end(body)
        counter = self.b.phi(INT)
        counter.add_incoming(integer(start), before)
        flowing = [self.b.phi(value.type) for value in carry]
        for phi, value in zip(flowing, carry, strict=True):
            phi.add_incoming(value, before)
        carry[:] = flowing
        yield Index(self, counter)
        following = self.b.add(counter, integer(step), flags=["nsw"])
        end = self.b.block
        counter.add_incoming(following, end)
        for phi, value in zip(flowing, carry, strict=True):
            phi.add_incoming(value, end)
        after = self.function.append_basic_block("after")
        self.b.cbranch(self.b.icmp_signed("<", following, integer(stop)), body, after)
        self.b.position_at_end(after)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """The block runs where `condition` holds."""
        inside, after = (self.function.append_basic_block(name) for name in ("when", "after"))
        self.b.cbranch(condition, inside, after)
        self.b.position_at_end(inside)
        yield
        self.b.branch(after)
        self.b.position_at_end(after)

    @contextmanager
    def loop_until(self) -> Iterator[tuple[Index, list[Value]]]:
        """The block runs until the condition that it appends to the list holds; its turns are counted from 0."""
        before = self.b.block
        body, after = (self.function.append_basic_block(name) for name in ("turn", "after"))
        self.b.branch(body)
        self.b.position_at_end(body)
        turn = self.b.phi(INT)
        turn.add_incoming(integer(0), before)
        until: list[Value] = []
        yield Index(self, turn), until
        turn.add_incoming(self.b.add(turn, integer(1)), self.b.block)
        self.b.cbranch(until[0], after, body)
        self.b.position_at_end(after)

    def call(self, kernel: Kernel, *arguments: Pointer | Number) -> None:
        """Call another function with its pointers and numbers."""
        self.b.call(kernel.function, [a.address if isinstance(a, Pointer) else integer(a) for a in arguments])

    def end(self) -> None:
        self.b.ret_void()

    # indices

    def less(self, left: Number, right: Number) -> Value:
        return self.b.icmp_signed("<", integer(left), integer(right))

    def equal(self, left: Number, right: Number) -> Value:
        return self.b.icmp_signed("==", integer(left), integer(right))

    def choose(self, condition: Value, yes: Number, no: Number) -> Index:
        return Index(self, self.b.select(condition, integer(yes), integer(no)))

    def least(self, left: Number, right: Number) -> Number:
        if isinstance(left, int) and isinstance(right, int):
            return min(left, right)
        return self.choose(self.less(left, right), left, right)

    def most(self, left: Number, right: Number) -> Number:
        if isinstance(left, int) and isinstance(right, int):
            return max(left, right)
        return self.choose(self.less(left, right), right, left)

    def both(self, left: Value, right: Value) -> Value:
        return self.b.and_(left, right)

    def either(self, left: Value, right: Value) -> Value:
        return self.b.or_(left, right)

    def no(self, condition: Value) -> Value:
        return self.b.not_(condition)

    # vectors of float32

    def constant(self, value: float, width: int) -> Value:
        return ir.Constant(_vector(width), [ir.Constant(FLOAT, float(value))] * width)

    def counting(self, width: int) -> Value:
        """The number of each lane, from 0."""
        return ir.Constant(_vector(width), [ir.Constant(FLOAT, float(i)) for i in range(width)])

    def load(self, place: Pointer, width: int) -> Value:
        return self.b.load(place.address, typ=_vector(width), align=4)

    def load_bytes(self, place: Pointer, width: int) -> Value:
        """uint8 elements as float32."""
        bytes_ = self.b.load(place.address, typ=ir.VectorType(BYTE, width), align=1)
        return self.b.uitofp(bytes_, _vector(width))

    def store(self, value: Value, place: Pointer, lanes: int | None = None) -> None:
        """All of `value`, or the first `lanes` of it."""
        if lanes is None or lanes == value.type.count:
            self.b.store(value, place.address, align=4)
            return
        at = 0
        for width in vectors(lanes, self.cpu.lanes):
            these = ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(at, at + width)))
            self.b.store(self.b.shuffle_vector(value, value, these), (place + at).address, align=4)
            at += width

    def splat(self, place: Pointer, width: int) -> Value:
        """One element in every lane."""
        return self.lanes(self.b.load(place.address, typ=FLOAT, align=4), width)

    def ratio(self, part: Number, whole: int) -> Value:
        """The number part / whole."""
        return self.b.fdiv(self.b.sitofp(integer(part), FLOAT), ir.Constant(FLOAT, float(whole)))

    def lanes(self, number: Value, width: int) -> Value:
        """One number in every lane."""
        nothing = ir.Constant(ir.VectorType(number.type, width), ir.Undefined)
        first = self.b.insert_element(nothing, number, ir.Constant(ir.IntType(32), 0))
        return self.b.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width))

    def prefetch(self, place: Pointer) -> None:
        """Ask for the cache line at `place` to come to L2. The place need not be memory: then nothing happens."""
        number = ir.IntType(32)
        ask = self.module.intrinsic("llvm.prefetch.p0", _VOID, [_POINTER, number, number, number])
        self.b.call(ask, [place.address, *(ir.Constant(number, n) for n in (0, 2, 1))])  # to read, L2, data

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a x b + c; rounded once where the CPU can, twice where it cannot."""
        if not self.cpu.fused:
            return self.b.fadd(self.b.fmul(a, b), c)
        kind = c.type
        fused = self.module.intrinsic(f"llvm.fma.v{kind.count}f32", kind, [kind] * 3)
        return self.b.call(fused, [a, b, c])

    def add(self, a: Value, b: Value) -> Value:
        return self.b.fadd(a, b)

    def subtract(self, a: Value, b: Value) -> Value:
        return self.b.fsub(a, b)

    def multiply(self, a: Value, b: Value) -> Value:
        return self.b.fmul(a, b)

    def divide(self, a: Value, b: Value) -> Value:
        return self.b.fdiv(a, b)

    def times_power_of_two(self, value: Value, exponents: Value) -> Value:
        """value x 2^n, where n stands in the lowest bits of the float32 `exponents`; both ends must be normal."""
        whole = ir.VectorType(ir.IntType(32), value.type.count)
        n, bits = (self.b.bitcast(x, whole) for x in (exponents, value))
        return self.b.bitcast(self.b.add(bits, self.b.shl(n, self.labels(23, value.type.count))), value.type)

    def activate(self, x: Value, activation: Activation) -> Value:
        """relu6: min(max(x, 0), 6); relu: max(x, 0); linear: x."""
        if activation == "linear":
            return x
        zero, six = self.constant(0, x.type.count), self.constant(6, x.type.count)
        x = self.b.select(self.b.fcmp_ordered(">", x, zero, flags=["nsz"]), x, zero)  # one maxps
        return x if activation == "relu" else self.b.select(self.b.fcmp_ordered("<", x, six, flags=["nsz"]), x, six)

    def greater(self, a: Value, b: Value) -> Value:
        """Lane by lane."""
        return self.b.fcmp_ordered(">", a, b)

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        return self.b.select(condition, yes, no)

    # bytes and words

    def labels(self, value: Number, width: int) -> Value:
        """A small integer in every lane."""
        number = ir.IntType(32)
        if isinstance(value, Index):
            return self.lanes(self.b.trunc(value.value, number), width)
        return ir.Constant(ir.VectorType(number, width), [ir.Constant(number, value)] * width)

    def store_labels(self, labels: Value, place: Pointer) -> None:
        """Small integers as uint8."""
        narrow = self.b.trunc(labels, ir.VectorType(BYTE, labels.type.count))
        self.b.store(narrow, place.address, align=1)

    def copy_byte(self, source: Pointer, target: Pointer) -> None:
        self.b.store(self.b.load(source.address, typ=BYTE, align=1), target.address, align=1)

    def word(self, place: Pointer) -> Index:
        """A 64-bit integer, as an index."""
        return Index(self, self.b.load(place.address, typ=INT, align=8))

    # other threads

    def atomic_load(self, place: Pointer) -> Index:
        return Index(self, self.b.load_atomic(place.address, "acquire", 8, typ=INT))

    def atomic_exchange(self, value: Number, place: Pointer) -> Index:
        """Writes a 64-bit integer and gives what was there."""
        return Index(self, self.b.atomic_rmw("xchg", place.address, integer(value), "acq_rel"))

    def atomic_add(self, place: Pointer, value: Number) -> Index:
        """Adds to a 64-bit integer and gives what it was."""
        return Index(self, self.b.atomic_rmw("add", place.address, integer(value), "acq_rel"))

    def pause(self) -> None:
        """Tells the core that this is a spin loop."""
        if self.cpu.triple.startswith("x86_64"):
            self.b.call(self.module.intrinsic("llvm.x86.sse2.pause", _VOID, []), [])
        else:
            number = ir.IntType(32)
            self.b.call(self.module.intrinsic("llvm.aarch64.hint", _VOID, [number]), [ir.Constant(number, 1)])  # YIELD

    def pointer(self, place: Pointer) -> Pointer:
        """The pointer to float32 that lies at `place` as a 64-bit integer."""
        return Pointer(self, self.b.inttoptr(self.b.load(place.address, typ=INT, align=8), _POINTER))

    def call_address(self, place: Pointer, argument: int) -> None:
        """Call the C function whose address lies at `place` and which takes one 32-bit integer."""
        number = ir.IntType(32)
        address = self.b.load(place.address, typ=INT, align=8)
        function = self.b.inttoptr(address, ir.FunctionType(_VOID, [number]).as_pointer())
        self.b.call(function, [ir.Constant(number, argument)])


def _vector(width: int) -> Any:
    return ir.VectorType(FLOAT, width)
