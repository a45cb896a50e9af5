"""What this machine can do at most: multiply-adds per second and bytes read per second, on one thread.

python bench/machine.py
"""

from __future__ import annotations

import ctypes
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mobilenetv2.engine import abi, jit
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.ir import Module
from mobilenetv2.engine.link import Code, link
from mobilenetv2.engine.schedule import Cpu

RESULTS = Path(__file__).parent / "results"
TURNS = 100_000


def report_path(theme: str, folder: Path | None = None) -> Path:
    """Where the report of `theme` on this CPU goes: into `folder`, or among the results."""
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    slug = re.sub(r"[^a-z0-9]+", "-", cpus.model_name().lower()).strip("-")
    return folder / f"{theme}_{slug}_{time.strftime('%Y%m')}.md"


def function(module: Module) -> Callable[[int], None]:
    """The module's function, called with one pointer; the code lives as long as this."""
    image = link(jit.object_code(module.text, module.cpu))
    code = Code(image.content)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    entry = kind(code.address + image.entries[abi.ENTRY])

    def call(place: int, hold: Code = code) -> None:
        entry(place)

    return call


def peak(cpu: Cpu) -> float:
    """Multiply-adds per second of one thread: independent sums in registers, nothing read."""
    module = Module(cpu)
    f = module.function(abi.ENTRY, abi.POINTERS, abi.NUMBERS, public=True)
    count = 24 if cpu.registers >= 32 else 12
    a, b = f.load(f.image, cpu.lanes), f.load(f.image + cpu.lanes, cpu.lanes)
    sums = [f.load(f.image + cpu.lanes * i, cpu.lanes) for i in range(count)]
    with f.loop(0, TURNS, carry=sums):
        for i in range(count):
            sums[i] = f.fma(a, b, sums[i])
    for i in range(count):
        f.store(sums[i], f.image + cpu.lanes * i)
    f.end()
    values = np.zeros(cpu.lanes * count, np.float32)
    return TURNS * count * cpu.lanes / least_seconds(function(module), values.ctypes.data, 10)


def read_bandwidth(cpu: Cpu, size: int) -> float:
    """Bytes per second of one thread that reads `size` bytes again and again."""
    module = Module(cpu)
    f = module.function(abi.ENTRY, abi.POINTERS, abi.NUMBERS, public=True)
    sums = [f.constant(0, cpu.lanes) for _ in range(8)]
    times = max(1, (64 << 20) // size)
    with f.loop(0, times, carry=sums), f.loop(0, size // 4, 8 * cpu.lanes, carry=sums) as i:
        for n in range(8):
            sums[n] = f.add(sums[n], f.load(f.image + i + n * cpu.lanes, cpu.lanes))
    for n in range(8):
        f.store(sums[n], f.image + n * cpu.lanes)
    f.end()
    values = np.ones(size // 4, np.float32)  # zeros would all be one page
    return times * size / least_seconds(function(module), values.ctypes.data, 5)


def least_seconds(call: Callable[[int], None], place: int, times: int) -> float:
    def one() -> float:
        start = time.perf_counter()
        call(place)
        return time.perf_counter() - start

    return min(one() for _ in range(times))


def rows() -> list[str]:
    """The lines of the report's table."""
    cpu = cpus.chosen()
    narrower = [replace(named, native=cpu.native) for named in cpus.NAMED.values() if runs(named) and named.fused]
    found = [f"| multiply-adds, {32 * kind.lanes}-bit vectors | {peak(kind) / 1e9:.1f} G/s |" for kind in narrower]
    for size, text in ((16 << 10, "16 KiB"), (512 << 10, "512 KiB"), (8 << 20, "8 MiB"), (256 << 20, "256 MiB")):
        found.append(f"| reading {text} | {read_bandwidth(cpu, size) / 1e9:.0f} GB/s |")
    return found


def runs(named: Cpu) -> bool:
    try:
        cpus.runnable(named.name)
    except cpus.UsageError:
        return False
    return True


def main() -> None:
    cpu = cpus.chosen()
    report = [
        "# The machine",
        "",
        f"{cpus.model_name()}, {os.cpu_count()} CPUs, kernels for {cpu.name}, {time.strftime('%Y-%m-%d')}, one thread. "
        "`python bench/machine.py`",
        "",
        "| at most | |",
        "|---|---|",
        *rows(),
        "",
    ]
    report_path("machine").write_text("\n".join(report))
    print("\n".join(report))


if __name__ == "__main__":
    main()
