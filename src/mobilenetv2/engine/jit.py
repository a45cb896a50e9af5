"""Generated code made into machine code. LLVM itself is used here only, and only where no code is cached."""

from __future__ import annotations

import threading
from typing import Any

import llvmlite.binding as llvm

from mobilenetv2.engine.schedule import Cpu

_LOCK = threading.Lock()  # LLVM's own data is shared between compilations


def object_code(text: str, cpu: Cpu) -> bytes:
    """LLVM assembly as an ELF object file for `cpu`."""
    with _LOCK:
        module, machine = _checked(text, cpu)
        return machine.emit_object(module)


def assembly(text: str, cpu: Cpu) -> str:
    """LLVM assembly as the CPU's own, to be read."""
    with _LOCK:
        module, machine = _checked(text, cpu)
        return machine.emit_assembly(module)


def _checked(text: str, cpu: Cpu) -> tuple[Any, Any]:
    """The parsed and verified module, and the machine that compiles it.

    No passes run on LLVM's intermediate code: kernels are written in the form that passes would give them, and
    running those took as long again as compiling (0.8 s more for width 1.0) for the same speed.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # this very CPU: its scheduling model too, and all of its instructions
    name, features = cpu.name, ""
    if cpu.native:
        name, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_triple(cpu.triple).create_target_machine(
        cpu=name, features=features, opt=2, reloc="pic", codemodel="default"
    )
    module = llvm.parse_assembly(text, llvm.create_context())
    module.triple = cpu.triple
    module.verify()
    return module, machine
