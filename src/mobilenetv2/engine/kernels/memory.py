"""Filling and copying runs of memory, and dealing work out to threads."""

from __future__ import annotations

from collections.abc import Callable

from mobilenetv2.engine.addresses import Number, Pointer
from mobilenetv2.engine.ir import Kernel
from mobilenetv2.engine.schedule import vectors


def each_vector(f: Kernel, size: int, body: Callable[[Number, int], None]) -> None:
    """`body(offset, width)` over `size` elements: a loop of whole vectors, then the narrower ones."""
    widths = vectors(size, f.cpu.lanes)
    whole = widths.count(f.cpu.lanes) * f.cpu.lanes
    if whole:
        with f.loop(0, whole, f.cpu.lanes) as i:
            body(i, f.cpu.lanes)
    at = whole
    for width in widths[whole // f.cpu.lanes :]:
        body(at, width)
        at += width


def zero(f: Kernel, place: Pointer, size: int) -> None:
    if size:
        each_vector(f, size, lambda i, width: f.store(f.constant(0, width), place + i))


def share(f: Kernel, total: Number) -> tuple[Number, Number]:
    """This thread's part of `total` equal pieces of work, from first to beyond the last."""
    return (f.thread * total) // f.threads, ((f.thread + 1) * total) // f.threads
