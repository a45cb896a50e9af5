"""Zip archives and tars that stay readable while what they say is changed: names, sizes, kinds, checksums, order."""

from __future__ import annotations

import bz2
import dataclasses
import io
import lzma
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from fuzz.values import TEXTS, bytes_changed

_MIB = 1 << 20
_UTF8 = 0x800  # the flag that says how a name is written


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a zip. `size` and `crc` are what its directory says of the unpacked content."""

    name: bytes
    packed: bytes
    size: int
    crc: int
    method: int = 0
    flags: int = _UTF8
    version: int = 20

    @staticmethod
    def of(name: str | bytes, content: bytes, *, deflated: bool = False) -> Member:
        raw = name if isinstance(name, bytes) else name.encode(errors="surrogatepass")
        packed = _deflated(content) if deflated else content
        return Member(raw, packed, len(content), zlib.crc32(content), 8 if deflated else 0)

    @property
    def content(self) -> bytes:
        if self.size > 64 * _MIB:
            raise zlib.error("more than the fuzzer itself unpacks")
        return zlib.decompress(self.packed, -15) if self.method == 8 else self.packed


def unzip(data: bytes) -> list[Member]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [
            Member.of(info.filename, archive.read(info), deflated=info.compress_type == 8)
            for info in archive.infolist()
        ]


def zipped(members: list[Member]) -> bytes:
    """The archive, as its members say: directory and headers agree, whatever is in them."""
    data, directory = bytearray(), bytearray()
    for one in members:
        size, packed = one.size & 0xFFFFFFFF, len(one.packed) & 0xFFFFFFFF
        fields = (one.version, one.flags, one.method, 0, 33, one.crc, packed, size, len(one.name))
        directory += (
            struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, *fields[:5], *fields[5:], 0, 0, 0, 0, 0, len(data)) + one.name
        )
        data += struct.pack("<4s5H3I2H", b"PK\3\4", *fields, 0) + one.name + one.packed
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(members), len(members), len(directory), len(data), 0)
    return bytes(data + directory + end)


def zip_changed(
    rng: random.Random, members: list[Member], change: Callable[[random.Random, str, bytes], bytes] | None = None
) -> list[Member]:
    """Other members. `change(rng, name, content)` gives another content of a member, else its bytes are changed."""
    members = list(members)
    for _ in range(1 + int(rng.expovariate(1.5))):
        i = rng.randrange(len(members))
        roll = rng.random()
        if roll < 0.6:
            members[i] = _with_content(rng, members[i], change)
        elif roll < 0.94:
            members[i] = _otherwise(rng, members[i])
        elif roll < 0.96 and len(members) > 1:
            del members[i]
        elif roll < 0.98:
            members.insert(rng.randrange(len(members) + 1), members[i])
        else:
            rng.shuffle(members)
    return members


def _with_content(
    rng: random.Random, one: Member, change: Callable[[random.Random, str, bytes], bytes] | None
) -> Member:
    try:
        content = one.content
    except zlib.error:
        return one
    name = one.name.decode(errors="replace")
    content = bytes_changed(rng, content) if change is None else change(rng, name, content)
    return Member.of(one.name, content, deflated=one.method == 8)


def _otherwise(rng: random.Random, one: Member) -> Member:
    """The member as another writer, or nobody, would store it."""
    wide = rng.choice((0, 1, 1 << 31, 0xFFFFFFFF, one.size + 1, one.size * 1000))
    ways: list[Callable[[], Member]] = [
        lambda: dataclasses.replace(one, name=rng.choice(TEXTS).encode(errors="surrogatepass")[:60_000]),
        lambda: dataclasses.replace(one, name=one.name[:-1] + bytes([rng.choice((0x80, 0xFF, 0x1B))])),
        lambda: dataclasses.replace(one, version=rng.choice((45, 63, 99, 255))),
        lambda: dataclasses.replace(one, flags=one.flags ^ rng.choice((1, 8, 0x20, 0x40, _UTF8))),
        lambda: dataclasses.replace(one, size=wide),
        lambda: dataclasses.replace(one, method=rng.choice((1, 8, 9, 12, 14, 93, 99))),
        lambda: dataclasses.replace(one, crc=rng.getrandbits(32)),
        lambda: Member.of(one.name, one.content, deflated=True),
        lambda: dataclasses.replace(one, packed=bz2.compress(one.content), method=12),
        lambda: dataclasses.replace(one, packed=_lzma(one.content), method=14),
        lambda: zeros(one.name, rng.choice((1, 64, 600, 1_600, 3_500))),
    ]
    try:
        return rng.choice(ways)()
    except zlib.error:
        return one


def zeros(name: bytes, mebibytes: int) -> Member:
    """A member that unpacks to so many MiB: 1 KB in the archive for each of them."""
    packed = deflated_zeros(mebibytes * _MIB)
    crc = 0
    for _ in range(mebibytes if mebibytes <= 64 else 0):  # who unpacks more than that has failed before the sum counts
        crc = zlib.crc32(bytes(_MIB), crc)
    return Member(name, packed, mebibytes * _MIB, crc, 8)


def deflated_zeros(count: int) -> bytes:
    """So many zeros, packed without packing them all: one block of them, again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(_MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * (count // _MIB) + packer.compress(bytes(count % _MIB)) + packer.flush()


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def _lzma(content: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
    raw = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)
    return struct.pack("<2BHBI", 9, 4, 5, 0x5D, 1 << 16) + raw.compress(content) + raw.flush()


# -- tars

BLOCK = 512
_FIELDS = {  # of a header: where, how long
    "name": (0, 100), "mode": (100, 8), "uid": (108, 8), "size": (124, 12), "mtime": (136, 12), "type": (156, 1),
    "link": (157, 100), "magic": (257, 8), "prefix": (345, 155),
}  # fmt: skip
_TYPES = b"0123456789LKxgSVMDNX\x00"


def tar_member(name: str | bytes, content: bytes, *, kind: bytes = b"0", size: int | None = None) -> bytes:
    """A header with its content, padded. `size` is what the header says where that is not the content's own."""
    raw = (name if isinstance(name, bytes) else name.encode(errors="surrogateescape"))[:100]
    header = bytearray(BLOCK)
    stated = len(content) if size is None else size
    values = {"name": raw, "mode": b"0000644\0", "uid": b"0000000\0", "mtime": b"00000000000\0", "type": kind}
    for field, value in {**values, "size": _octal(stated), "magic": b"ustar\00000"}.items():
        _put(header, field, value)
    return summed(header) + content + bytes(-len(content) % BLOCK)


def summed(header: bytes | bytearray) -> bytes:
    """The header with the checksum that it needs."""
    changed = bytearray(header)
    changed[148:156] = b" " * 8
    changed[148:156] = f"{sum(changed):06o}\0 ".encode()
    return bytes(changed)


def tar_changed(rng: random.Random, members: list[bytes]) -> bytes:
    """A tar of other members, with an end. Its headers keep a right checksum, almost always."""
    members = list(members)
    for _ in range(1 + int(rng.expovariate(1.2))):
        i = rng.randrange(len(members))
        header, content = members[i][:BLOCK], members[i][BLOCK:]
        roll = rng.random()
        if roll < 0.35:
            members[i] = _header_changed(rng, header) + content
        elif roll < 0.5:
            members[i:i] = [_extended(rng)] * rng.choice((1, 1, 2, 50, 400, 2_000))
        elif roll < 0.75 and content:
            changed = bytes_changed(rng, content)[: len(content)]
            members[i] = header + changed.ljust(len(content), b"\0")
        elif roll < 0.85:
            del members[i]
            members = members or [tar_member("a", b"")]
        elif roll < 0.95:
            members.insert(rng.randrange(len(members) + 1), members[i])
        else:
            rng.shuffle(members)
    data = b"".join(members) + rng.choice((bytes(2 * BLOCK),) * 6 + (b"", bytes(BLOCK), b"\1" * BLOCK))
    return bytes_changed(rng, data) if rng.random() < 0.1 else data


def _header_changed(rng: random.Random, header: bytes) -> bytes:
    changed = bytearray(header)
    field = rng.choice(list(_FIELDS))
    if field == "type":
        _put(changed, field, bytes([rng.choice(_TYPES)]))
    elif field in ("size", "uid", "mtime", "mode"):
        _put(changed, field, _number(rng)[: _FIELDS[field][1]])
    else:
        _put(changed, field, rng.choice(TEXTS).encode(errors="surrogatepass"))
    return bytes(changed) if rng.random() < 0.1 else summed(changed)


def _extended(rng: random.Random) -> bytes:
    """A header that says more of the next one: a long name, or pax records, with a size of its own."""
    key, value = rng.choice(("path", "size", "GNU.sparse.map", "linkpath", "hdrcharset", "mtime")), rng.choice(TEXTS)
    record = f" {key}={value[:5000]}\n".encode(errors="surrogatepass")
    length = len(record)
    while len(f"{length}".encode() + record) != length:
        length += 1
    kind = rng.choice((b"L", b"K", b"x", b"g", b"X"))
    content = f"{length}".encode() + record if kind in b"xgX" else value[:5000].encode(errors="surrogatepass") + b"\0"
    member = tar_member("././@LongLink", content, kind=kind)
    if rng.random() < 0.25:
        header = bytearray(member[:BLOCK])
        _put(header, "size", _number(rng)[:12])
        return summed(header) + member[BLOCK:]
    return member


def _number(rng: random.Random) -> bytes:
    """Octal digits, or the binary form for what is too large for them."""
    number = rng.choice((0, 1, 511, 513, 10**6, 1 << 31, 8 << 30, 1 << 60, (1 << 63) - 1, -1))
    return _octal(number) if rng.random() < 0.8 else rng.choice((b"", b"99999999999", b" 7 ", b"\xff" * 12, b"x" * 12))


def _octal(number: int) -> bytes:
    if 0 <= number < 8**11:
        return f"{number:011o}\0".encode()
    return (b"\x80" if number >= 0 else b"\xff") + number.to_bytes(11, "big", signed=True)


def _put(header: bytearray, field: str, value: bytes) -> None:
    at, length = _FIELDS[field]
    header[at : at + length] = value[:length].ljust(length, b"\0")
