"""Indices and pointers of the generated code: the same arithmetic for numbers known now and for those known later.

An index known when a kernel is written is a Python int and costs nothing; one known only when it runs is an `Index`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llvmlite import ir as llvmlite_ir

if TYPE_CHECKING:
    from mobilenetv2.engine.ir import Kernel

Value = Any  # a value of the generated code: llvmlite is untyped
Number = Any  # int | Index: an index, known now or later

ir: Any = llvmlite_ir  # untyped: what its source says of its own signatures is not what it takes

INT = ir.IntType(64)
BYTE = ir.IntType(8)
FLOAT = ir.FloatType()


class Index:
    """A 64-bit integer of the generated code, with the arithmetic of indices (none of it negative)."""

    __slots__ = ("_f", "value")

    def __init__(self, f: Kernel, value: Value) -> None:
        self._f = f
        self.value = value

    def __add__(self, other: Number) -> Number:
        return self if _is(other, 0) else Index(self._f, self._f.b.add(self.value, integer(other), flags=["nsw"]))

    def __sub__(self, other: Number) -> Number:
        return self if _is(other, 0) else Index(self._f, self._f.b.sub(self.value, integer(other), flags=["nsw"]))

    def __rsub__(self, other: int) -> Number:
        return Index(self._f, self._f.b.sub(integer(other), self.value, flags=["nsw"]))

    def __mul__(self, other: Number) -> Number:
        if _is(other, 0):
            return 0
        return self if _is(other, 1) else Index(self._f, self._f.b.mul(self.value, integer(other), flags=["nsw"]))

    def __floordiv__(self, other: Number) -> Number:
        return self if _is(other, 1) else Index(self._f, self._f.b.udiv(self.value, integer(other)))

    def __mod__(self, other: Number) -> Number:
        return 0 if _is(other, 1) else Index(self._f, self._f.b.urem(self.value, integer(other)))

    __radd__ = __add__
    __rmul__ = __mul__


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where elements of one type lie, float32 at first; `pointer + index` moves by elements."""

    f: Kernel
    base: Value
    offset: int = 0  # elements beyond `base`, known now: free in every address
    element: Any = FLOAT

    def __add__(self, index: Number) -> Pointer:
        if isinstance(index, int):
            return Pointer(self.f, self.base, self.offset + index, self.element)
        base = self.f.b.gep(self.base, [index.value], inbounds=True, source_etype=self.element)
        return Pointer(self.f, base, self.offset, self.element)

    @property
    def bytes(self) -> Pointer:
        """The same place, its elements uint8."""
        return self._of(BYTE)

    @property
    def words(self) -> Pointer:
        """The same place, its elements 64-bit integers."""
        return self._of(INT)

    def _of(self, element: Any) -> Pointer:
        return Pointer(self.f, self.address, 0, element)

    @property
    def address(self) -> Value:
        if not self.offset:
            return self.base
        return self.f.b.gep(self.base, [integer(self.offset)], inbounds=True, source_etype=self.element)


def integer(value: Number) -> Value:
    """An index as a value of the generated code."""
    return ir.Constant(INT, value) if isinstance(value, int) else value.value


def _is(value: Number, number: int) -> bool:
    return isinstance(value, int) and value == number
