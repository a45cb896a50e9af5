"""A relocatable object file made into one image that runs wherever it is loaded, and into something to call.

LLVM's own loader is not used: it needs LLVM in every process, and it may place code and constants further apart than
their 32-bit references reach. Here they are one piece of memory.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_ALLOC, _WRITE = 2, 1  # section flags: part of the image, changed as it runs
_SYMTAB, _RELA = 2, 4  # section types
_X86_64, _AARCH64 = 62, 183
_PROT_READ_EXEC = 5
_MOST_ENTRIES = 4_096  # bytes of the line that names the functions; it has about 60


@dataclass(frozen=True, slots=True)
class Image:
    """Code and constants in one piece, and where each public function begins in it."""

    content: bytes
    entries: Mapping[str, int]

    def to_bytes(self) -> bytes:
        """The entries as one line of JSON, and the content."""
        return json.dumps(dict(self.entries)).encode() + b"\n" + self.content

    @classmethod
    def from_bytes(cls, data: bytes) -> Image:
        """What `to_bytes` made. Raises `ValueError` for anything else."""
        line, _, content = data.partition(b"\n")
        try:
            entries = json.loads(line) if len(line) < _MOST_ENTRIES else None
        except RecursionError:
            entries = None
        if not isinstance(entries, dict) or not all(type(at) is int for at in entries.values()):
            raise ValueError("the first line names no functions")
        return cls(content, entries)


@dataclass(frozen=True, slots=True)
class _Section:
    kind: int
    flags: int
    content: bytes
    size: int
    link: int
    info: int
    alignment: int


def link(object_file: bytes) -> Image:
    """The image of a 64-bit little-endian ELF object that refers to nothing outside itself.

    What generated code never has (outside symbols, variables, other kinds of references) is a bug of ours: asserted.
    """
    machine, sections = _sections(object_file)
    image = bytearray()
    starts: dict[int, int] = {}
    for number, section in enumerate(sections):
        if section.flags & _ALLOC and section.size:
            assert not section.flags & _WRITE, "generated code has no variables"
            image += bytes(-len(image) % max(section.alignment, 64))
            starts[number] = len(image)
            image += section.content
    (symtab,) = (section for section in sections if section.kind == _SYMTAB)
    names = sections[symtab.link].content
    places: list[int | None] = []  # of each symbol in the image
    entries: dict[str, int] = {}
    for name, info, _, number, value, _ in struct.iter_unpack("<IBBHQQ", symtab.content):
        places.append(starts[number] + value if number in starts else None)
        if info >> 4 == 1 and number in starts:  # global
            entries[names[name : names.index(0, name)].decode()] = starts[number] + value
    for section in sections:
        if section.kind == _RELA and section.info in starts:
            for offset, info, addend in struct.iter_unpack("<QQq", section.content):
                place = places[info >> 32]
                assert place is not None, "generated code refers to nothing outside itself"
                _relocate(image, machine, info & 0xFFFFFFFF, starts[section.info] + offset, place + addend)
    return Image(bytes(image), entries)


def _sections(elf: bytes) -> tuple[int, list[_Section]]:
    assert elf[:6] == b"\x7fELF\x02\x01", "a 64-bit little-endian ELF object"
    machine = struct.unpack_from("<H", elf, 18)[0]
    (offset,) = struct.unpack_from("<Q", elf, 40)
    size, count = struct.unpack_from("<HH", elf, 58)
    sections: list[_Section] = []
    for i in range(count):
        _, kind, flags, _, start, length, linked, info, alignment, _ = struct.unpack_from(
            "<IIQQQQIIQQ", elf, offset + i * size
        )
        sections.append(_Section(kind, flags, elf[start : start + length], length, linked, info, alignment))
    return machine, sections


def _relocate(image: bytearray, machine: int, kind: int, at: int, target: int) -> None:
    """Write the reference at `at` to `target`, both counted from the image's start: pages of 4 KiB stay pages."""
    if machine == _X86_64 and kind in (2, 4):  # PC32, PLT32
        struct.pack_into("<i", image, at, target - at)
        return
    assert machine == _AARCH64, f"relocation {kind} of machine {machine}"
    (word,) = struct.unpack_from("<I", image, at)
    if kind in (282, 283):  # JUMP26, CALL26
        word |= (target - at) >> 2 & 0x3FFFFFF
    elif kind == 275:  # ADR_PREL_PG_HI21
        pages = (target >> 12) - (at >> 12)
        word |= (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    elif kind in _LOW12:
        word |= (target & 0xFFF) >> _LOW12[kind] << 10
    else:
        raise AssertionError(f"AArch64 relocation {kind}")
    struct.pack_into("<I", image, at, word)


# ADD_ABS_LO12_NC and LDST8, 16, 32, 64, 128_ABS_LO12_NC: how far the low 12 bits are shifted right
_LOW12 = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}


class Code:
    """An image in executable memory, which lives as long as this object."""

    def __init__(self, content: bytes) -> None:
        # written, then made executable: never both. Linux brings AArch64's instruction caches up to date with that.
        self._memory = mmap.mmap(-1, len(content))
        self._memory.write(content)
        self._hold = ctypes.c_char.from_buffer(self._memory)  # while it exists, the memory cannot be unmapped
        self.address = ctypes.addressof(self._hold)
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        if protect(self.address, len(content), _PROT_READ_EXEC):
            raise OSError(ctypes.get_errno(), "this system lets no program run code that it has made")
