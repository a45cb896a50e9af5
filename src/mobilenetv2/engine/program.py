"""A plan's machine code, compiled and loaded."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from mobilenetv2.engine import abi
from mobilenetv2.engine.link import Code, Image

if TYPE_CHECKING:
    from mobilenetv2.engine.plan import Plan

_RUN = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(abi.POINTERS), *[ctypes.c_int64] * len(abi.NUMBERS))
_OF_TEAM = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)


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
