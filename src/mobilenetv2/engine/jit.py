"""Generated code made into machine code, and machine code into something to call. LLVM itself is used here only."""

from __future__ import annotations

import ctypes
import os
import threading
from dataclasses import replace
from functools import lru_cache
from typing import Any

import llvmlite.binding as llvm

from mobilenetv2.engine.schedule import Cpu
from mobilenetv2.errors import UsageError, unknown_name

# CPUs that code can be asked for by name, and the kinds of CPU that this one may be
NAMED: dict[str, Cpu] = {
    cpu.name: cpu
    for cpu in (
        # one register for the pixel; without FMA, one more for the product
        Cpu("x86-64", "", "x86_64-unknown-linux-gnu", lanes=4, registers=16, spare=2, fused=False),
        Cpu("haswell", "", "x86_64-unknown-linux-gnu", lanes=8, registers=16, spare=1),
        Cpu("skylake-avx512", "", "x86_64-unknown-linux-gnu", lanes=16, registers=32, spare=1, held=2),
        # LLVM keeps several pixels under way on NEON: 14 x 2 tiles spilled with fewer
        Cpu("neoverse-n1", "", "aarch64-unknown-linux-gnu", lanes=4, registers=32, spare=4),
    )
}
_ENTRY_TYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5, *[ctypes.c_int64] * 3)
_LOCK = threading.Lock()  # LLVM's own data is shared between compilations


def llvm_version() -> str:
    return ".".join(map(str, llvm.llvm_version_info))


@lru_cache(maxsize=1)
def host() -> Cpu:
    """The CPU that this process runs on. Raises `UsageError` for an architecture without kernels."""
    triple, features = llvm.get_process_triple(), llvm.get_host_cpu_features()
    if triple.startswith("x86_64"):
        fused = features.get("avx2") and features.get("fma")
        kind = "skylake-avx512" if features.get("avx512f") else "haswell" if fused else "x86-64"
    elif triple.startswith(("aarch64", "arm64")):
        kind = "neoverse-n1"
    else:
        raise UsageError(f"the engine has no kernels for {triple}: use another backend")
    return replace(NAMED[kind], name=llvm.get_host_cpu_name(), features=features.flatten(), triple=triple)


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
    alike = cpu.triple.partition("-")[0] == here.triple.partition("-")[0].replace("arm64", "aarch64")
    if not alike or cpu.lanes > here.lanes or cpu.fused > here.fused:
        raise UsageError(f"this CPU ({here.name}) cannot run code for {name}")
    return replace(cpu, triple=here.triple)


def chosen() -> Cpu:
    """The CPU that code is made for: `MOBILENETV2_CPU`, or else the one that is here. Raises `UsageError`."""
    return runnable(os.environ.get("MOBILENETV2_CPU"))


def object_code(text: str, cpu: Cpu) -> bytes:
    """LLVM assembly as an object file for `cpu`."""
    with _LOCK:
        module, machine = _checked(text, cpu)
        return machine.emit_object(module)


def assembly(text: str, cpu: Cpu) -> str:
    """LLVM assembly as the CPU's own, to be read."""
    with _LOCK:
        module, machine = _checked(text, cpu)
        return machine.emit_assembly(module)


class Code:
    """Machine code in memory; `run` is its entry (`kernels.network.emit`). Calling it releases the GIL."""

    def __init__(self, object_file: bytes, cpu: Cpu, entry: str) -> None:
        with _LOCK:
            module, machine = _checked("", cpu)
            # the engine owns the machine code: it must live as long as its address is called
            self._engine: Any = llvm.create_mcjit_compiler(module, machine)
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(object_file))
            self._engine.finalize_object()
            self.run = _ENTRY_TYPE(self._engine.get_function_address(entry))


def _checked(text: str, cpu: Cpu) -> tuple[Any, Any]:
    """The parsed and verified module, and the machine that compiles it.

    No passes run on LLVM's intermediate code: kernels are written in the form that passes would give them, and
    running those took as long again as compiling (0.8 s more for width 1.0) for the same speed.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(cpu.triple).create_target_machine(
        cpu=cpu.name, features=cpu.features, opt=2, reloc="pic", codemodel="default"
    )
    module = llvm.parse_assembly(text)
    module.triple = cpu.triple
    module.verify()
    return module, machine
