"""Which CPU the kernels are made for: this one, or one by name. LLVM is not asked: it would have to be loaded."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.errors import UsageError, unknown_name

_X86, _ARM = "x86_64", "aarch64"
NAMED: dict[str, Cpu] = {
    cpu.name: cpu
    for cpu in (
        # one register for the pixel; without FMA, one more for the product
        Cpu("x86-64", _X86, lanes=4, registers=16, spare=2, fused=False),
        # a projection of 4 x 3 spilled at 513 pixels with nothing held: 4 % of the network's time, 1 % at 224
        Cpu("haswell", _X86, lanes=8, registers=16, spare=1, held=1),
        Cpu("skylake-avx512", _X86, lanes=16, registers=32, spare=1, held=2),
        # LLVM keeps several pixels under way on NEON: 14 x 2 tiles spilled with fewer
        Cpu("neoverse-n1", _ARM, lanes=4, registers=32, spare=4),
    )
}
_AVX512 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}  # together since Skylake's servers


@lru_cache(maxsize=1)
def host() -> Cpu:
    """The CPU that this process runs on. Raises `UsageError` for an architecture or a system without kernels."""
    machine = platform.machine().lower()
    if sys.platform not in ("linux", "darwin"):
        raise UsageError(f"the engine runs on Linux and macOS, not on {sys.platform}: use --backend reference")
    if machine in ("x86_64", "amd64"):
        flags = _flags()
        fused = {"avx2", "fma"} <= flags
        kind = "skylake-avx512" if fused and flags >= _AVX512 else "haswell" if fused else "x86-64"
    elif machine in ("aarch64", "arm64"):
        kind = "neoverse-n1"
    else:
        raise UsageError(f"the engine has no kernels for {machine}: use --backend reference")
    return replace(NAMED[kind], native=identity())


@lru_cache(maxsize=1)
def identity() -> str:
    """What tells this CPU from others for which other code would be made: model and features."""
    kept = ("vendor_id", "cpu family", "model", "model name", "flags", "CPU part", "Features")
    lines = (line.partition(":") for line in _cpuinfo().split("\n\n")[0].splitlines())
    found = [value.strip() for name, _, value in lines if name.strip() in kept]
    return " ".join(found) or f"{platform.machine()} {platform.processor()}"


def model_name() -> str:
    """The processor's name as the system tells it, with what tells it from others of the same name."""
    text = _cpuinfo()
    name = re.search(r"model name\s*:\s*(.+)", text)
    model = re.search(r"cpu family\s*:\s*(\d+)\nmodel\s*:\s*(\d+)", text)
    result = name[1] if name else platform.processor() or platform.machine()
    return f"{result} (family {model[1]}, model {model[2]})" if model else result


def named(name: str) -> Cpu:
    """A CPU by name, wherever the code is to run. Raises `UsageError` for a name that is not in `NAMED`."""
    if name not in NAMED:
        raise unknown_name("CPU", name, NAMED)
    return NAMED[name]


def runnable(name: str | None) -> Cpu:
    """The CPU `name`, or else the one that is here. Raises `UsageError` where this one cannot run that one's code."""
    here = host()
    if name is None:
        return here
    cpu = named(name)
    if cpu.architecture != here.architecture or cpu.lanes > here.lanes or cpu.fused > here.fused:
        raise UsageError(f"this CPU (like {here.name}) cannot run code for {name}")
    return cpu


def chosen() -> Cpu:
    """The CPU that code is made for: `MOBILENETV2_CPU`, or else the one that is here. Raises `UsageError`."""
    return runnable(os.environ.get("MOBILENETV2_CPU"))


def _flags() -> set[str]:
    """The features that the system names, as Linux spells them; none where it names none."""
    for line in _cpuinfo().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return set(value.split())
    return set()


@lru_cache(maxsize=1)
def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: the kernels that every CPU of this architecture runs
        return ""
