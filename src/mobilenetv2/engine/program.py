"""A plan's machine code, compiled and loaded."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mobilenetv2.engine import abi, cache, memory
from mobilenetv2.engine.link import Code, Image
from mobilenetv2.errors import Error
from mobilenetv2.limits import MIB
from mobilenetv2.text import plain

if TYPE_CHECKING:
    from mobilenetv2.engine.plan import Plan

_ENTRIES = (abi.ENTRY, abi.LEAD, abi.PART, abi.SERVE)
# LLVM and a network of width 1.4 at 224 take 203 MiB; where LLVM gets no memory it ends the process
COMPILER_BYTES = 224 * MIB
_RUN = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(abi.POINTERS), *[ctypes.c_int64] * len(abi.NUMBERS))
_OF_TEAM = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)


def machine_code(key: str, build: Callable[[], bytes]) -> bytes:
    """The linked code that `build` compiles, or has compiled before for this `key`; what was kept and cannot be called
    is compiled anew. Raises `Error` where there is no compiler."""

    def built() -> bytes:
        if "llvmlite.binding" not in sys.modules and (left := memory.of_process()) < COMPILER_BYTES:
            raise Error(
                f"compiling the engine's code needs {memory.shown(COMPILER_BYTES)} of address space, "
                f"{memory.shown(left)} is left (ulimit -v): raise the limit, or use the reference backend"
            )
        try:
            return build()
        except (ImportError, OSError) as error:
            if "llvmlite" not in str(error):
                raise
            raise Error(
                f"compiling the engine's code needs llvmlite, which does not load ({plain(error)}): "
                "pip install llvmlite, or use the reference backend"
            ) from None

    return cache.machine_code(key, built, usable=_callable)


def _callable(code: bytes) -> bool:
    try:
        image = Image.from_bytes(code)
    except ValueError:
        return False
    return all(0 <= image.entries.get(name, -1) < len(image.content) for name in _ENTRIES)


def compiled(plan: Plan) -> bytes:
    """The linked machine code of `plan` (`link.Image.to_bytes`)."""
    from mobilenetv2.engine import jit
    from mobilenetv2.engine.kernels import network
    from mobilenetv2.engine.link import link

    return link(jit.object_code(network.emit(plan).text, plan.cpu)).to_bytes()


class Program:
    """What `compiled` made, to be called. The functions take the addresses and numbers that `abi` names, as ints."""

    def __init__(self, code: bytes) -> None:
        image = Image.from_bytes(code)
        self._code = Code(image.content)
        self.run = _RUN(self._code.address + image.entries[abi.ENTRY])
        self.lead, self.part, self.serve = (
            _OF_TEAM(self._code.address + image.entries[name]) for name in (abi.LEAD, abi.PART, abi.SERVE)
        )
