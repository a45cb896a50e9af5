"""A plan's machine code, compiled and loaded, and the memory that it works in."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import numpy as np

from mobilenetv2.engine import abi
from mobilenetv2.engine.link import Code

if TYPE_CHECKING:
    from mobilenetv2.engine.plan import Plan

_HEAD = 8
_ENTRY_TYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(abi.POINTERS), *[ctypes.c_int64] * len(abi.NUMBERS))


def compiled(plan: Plan) -> bytes:
    """The machine code of `plan`, and before it where its entry is, in `_HEAD` bytes."""
    from mobilenetv2.engine import jit
    from mobilenetv2.engine.kernels import network
    from mobilenetv2.engine.link import link

    image = link(jit.object_code(network.emit(plan).text, plan.cpu))
    return image.entries[abi.ENTRY].to_bytes(_HEAD, "little") + image.content


class Program:
    """What `compiled` made, in memory. `run` takes the addresses and numbers that `abi` names, as ints."""

    def __init__(self, code: bytes) -> None:
        self._code = Code(code[_HEAD:])
        self.run = _ENTRY_TYPE(self._code.address + int.from_bytes(code[:_HEAD], "little"))


class Workspace:
    """The memory of one inference: its arena, and where its threads meet."""

    def __init__(self, plan: Plan) -> None:
        from mobilenetv2.engine import pack

        self.arena = pack.aligned_zeros(plan.arena)
        self.team = np.zeros(abi.TEAM_WORDS, np.int64)
        usleep = ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p)
        self.team[abi.USLEEP] = usleep.value or 0
