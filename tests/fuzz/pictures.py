"""Pictures of every format that is read: fields, chunks and segments changed in files that stay well formed."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fuzz.archives import deflated_zeros
from fuzz.sandbox import Case, WrongAnswerError
from fuzz.targets import Maker, Target
from fuzz.values import bytes_changed

_MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "jpeg": ("L", "RGB", "CMYK"), "gif": ("L", "P", "RGB"),
    "bmp": ("1", "L", "P", "RGB"), "webp": ("RGB", "RGBA"),
    "tiff": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "LAB", "F"),
}  # fmt: skip
_OF_MODES = {"jpeg": ("L", "RGB", "CMYK"), "group4": ("1",)}  # TIFF's codecs that are for these alone
_WAYS: dict[str, tuple[dict[str, Any], ...]] = {
    "jpeg": ({}, {"progressive": True}, {"progressive": True, "quality": 90}, {"quality": 5, "subsampling": 2}),
    "png": ({}, {"compress_level": 0}),
    "gif": ({}, {"save_all": True}),
    "webp": ({"lossless": True}, {"quality": 10}),
    "bmp": ({},),
    "tiff": tuple({"compression": name} for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", *_OF_MODES)),
    "avif": ({"quality": 30},),
}
_SIDES = (
    0,
    1,
    2,
    3,
    255,
    4_000,
    9_999,
    10_000,
    16_384,
    30_000,
    65_535,
    99_999_999,
    100_000_001,
    (1 << 31) - 1,
    (1 << 32) - 1,
)


def small(mode: str = "RGB", size: tuple[int, int] = (23, 17)) -> Image.Image:
    """A picture with edges, noise and a smooth part, the same at every call."""
    width, height = size
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width))
    pixels = np.stack([rows * 9 + noise, columns * 7, (rows // 4 + columns // 4) % 2 * 180], 2) % 256
    rgb = Image.fromarray(pixels.astype(np.uint8))
    if mode in ("I;16", "F"):
        return Image.fromarray(
            (np.asarray(rgb.convert("L")) * 257.0).astype(np.uint16 if mode == "I;16" else np.float32)
        )
    if mode == "LAB":
        return Image.frombytes("LAB", rgb.size, rgb.tobytes())
    return rgb.convert("RGBA").convert(mode) if mode in ("LA", "RGBA") else rgb.convert(mode)


def seeds() -> dict[str, list[bytes]]:
    """Small files by format. AVIF is written where this Pillow can."""
    made: dict[str, list[bytes]] = {}
    for kind, modes in {**_MODES, "avif": ("RGB",)}.items():
        for mode in modes:
            for way in _WAYS[kind]:
                if mode not in _OF_MODES.get(way.get("compression", ""), modes):
                    continue  # libtiff would say so on stderr
                data = io.BytesIO()
                try:
                    more = (
                        {"append_images": [small(mode).transpose(Image.Transpose.ROTATE_180)]}
                        if way.get("save_all")
                        else {}
                    )
                    small(mode).save(data, kind, exif=_exif(kind), **way, **more)
                except (KeyError, OSError, ValueError, SystemError):
                    continue  # a mode that this codec does not write
                made.setdefault(kind, []).append(data.getvalue())
    return made


def _exif(kind: str) -> bytes:
    exif = Image.Exif()
    if kind in ("jpeg", "png", "webp"):
        exif[0x0112] = 6
    return exif.tobytes()


def _prepare(folder: Path) -> Maker:
    from mobilenetv2 import image
    from mobilenetv2.data.masks import read_mask

    good = seeds()
    recipes = [image.recipe(name, 32) for name in ("torchvision-v1", "slim", "deeplab", "ssd")]
    for name in recipes:
        image.load(good["png"][0], name)

    def make(rng: random.Random, here: Path) -> Case:
        kind = rng.choice(sorted(good))
        data = rng.choice(good[kind])
        changed = changed_picture(rng, kind, data)
        path = here / f"picture.{kind}"
        path.write_bytes(changed)
        recipe = rng.choice(recipes)
        way = rng.choice(("read", "load", "mask", "bytes"))

        def run() -> None:
            height, width = image.size(path)
            if way == "load":
                image.load(path, recipe)
            elif way == "mask":
                read_mask(path)
            else:
                pixels = image.read(path if way == "read" else changed)
                if pixels.shape[:2] != (height, width) and kind != "png":  # a PNG's EXIF may stand behind its pixels
                    raise WrongAnswerError(f"size says {height} x {width}, read gives {pixels.shape}")

        return Case(run, lambda: _opens(path), f"{kind}, {way}")

    return make


def _opens(path: Path) -> bool:
    with Image.open(path) as picture:
        return picture.width * picture.height > 0


def changed_picture(rng: random.Random, kind: str, data: bytes) -> bytes:
    """By the format's own structure, mostly; else by bytes, behind what says what it is."""
    by_structure: dict[str, Callable[[random.Random, bytes], bytes]] = {
        "png": _png, "jpeg": _jpeg, "tiff": _tiff, "gif": _gif, "bmp": _bmp, "webp": _webp,
    }  # fmt: skip
    changed = data
    if kind in by_structure and rng.random() < 0.7:
        changed = by_structure[kind](rng, data)
    if changed is data or rng.random() < 0.15:
        changed = changed[:16] + bytes_changed(rng, changed[16:])
    return changed


# -- PNG: chunks, each with its sum


def _png(rng: random.Random, data: bytes) -> bytes:
    chunks: list[tuple[bytes, bytes]] = []
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    for _ in range(1 + int(rng.expovariate(1.5))):
        i = rng.randrange(len(chunks))
        name, body = chunks[i]
        roll = rng.random()
        if roll < 0.08:
            chunks = _fitting(rng)
        elif roll < 0.4 and chunks[0][0] == b"IHDR":
            chunks[0] = (b"IHDR", _with_number(rng, chunks[0][1], ">", (0, 4), (8, 9, 10, 11, 12)))
        elif roll < 0.65:
            chunks[i] = (name, bytes_changed(rng, body))
        elif roll < 0.75:
            chunks[i:i] = [(name, body)] * rng.choice((1, 2, 1_000))
        elif roll < 0.85:
            kind = rng.choice(
                (b"tRNS", b"PLTE", b"eXIf", b"iCCP", b"zTXt", b"acTL", b"fcTL", b"gAMA", b"abcd", b"IEND")
            )
            chunks.insert(
                i, (kind, rng.choice((b"", bytes(3), rng.randbytes(30), b"a\0\0" + zlib.compress(bytes(10**7)))))
            )
        elif len(chunks) > 1:
            del chunks[i]
    return data[:8] + b"".join(_chunk(*chunk) for chunk in chunks)


def _fitting(rng: random.Random) -> list[tuple[bytes, bytes]]:
    """A PNG of any sides whose pixels are all there, zeros: long rows, long columns, large squares."""
    depth, kind, bits = rng.choice(((1, 0, 1), (8, 0, 8), (1, 3, 1), (8, 2, 24), (8, 6, 32), (16, 0, 16), (16, 6, 64)))
    long = rng.choice((1, 300, 9_000, 10_000, 100_000, 10**6, 99_999_999))
    width, height = rng.sample((long, max(1, min(rng.choice((1, 2, 10_000)), 10**8 // long))), 2)
    rows = (width * bits + 7) // 8 + 1
    total = rows * height
    pixels = b"\x78\xda" + deflated_zeros(total) + struct.pack(">2H", total % 65_521, 1)  # the sum is Adler's
    palette = [(b"PLTE", bytes(6))] if kind == 3 else []
    return [
        (b"IHDR", struct.pack(">2I5B", width, height, depth, kind, 0, 0, 0)),
        *palette,
        (b"IDAT", pixels),
        (b"IEND", b""),
    ]


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _with_number(
    rng: random.Random, body: bytes, order: str, wide: tuple[int, ...], narrow: tuple[int, ...], size: int = 4
) -> bytes:
    """The bytes with one of their numbers changed: a side at `wide`, or a byte at `narrow`."""
    changed = bytearray(body)
    at = rng.choice((*wide, *wide, *narrow))
    if at in wide:
        changed[at : at + size] = (rng.choice(_SIDES) % (1 << 8 * size)).to_bytes(
            size, "big" if order == ">" else "little"
        )
    else:
        changed[at : at + 1] = bytes([rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 32, 255))])
    return bytes(changed)


# -- JPEG: segments; a scan goes on to the next one


def _jpeg(rng: random.Random, data: bytes) -> bytes:
    segments = _segments(data)
    for _ in range(1 + int(rng.expovariate(1.5))):
        frames = [i for i, part in enumerate(segments) if 0xC0 <= part[1] <= 0xC2]
        scans = [i for i, part in enumerate(segments) if part[1] == 0xDA]
        i, roll = rng.randrange(len(segments)), rng.random()
        if roll < 0.1 and frames and scans:  # sides and scans together: each scan goes over all of the picture
            sides = b"".join(rng.choice((4_000, 9_999)).to_bytes(2, "big") for _ in range(2))
            segments[frames[0]] = segments[frames[0]][:5] + sides + segments[frames[0]][9:]
            at = rng.choice(scans)
            segments[at:at] = [segments[at]] * rng.choice((300, 3_000))
        elif roll < 0.3 and frames:
            segments[frames[0]] = _with_number(rng, segments[frames[0]], ">", (5, 7), (1, 4, 9, 10, 11, 12, 14), 2)
        elif roll < 0.45 and scans:
            at = rng.choice(scans)
            segments[at:at] = [segments[at]] * rng.choice((1, 1, 3, 3, 100, 2_000))
        elif roll < 0.65:
            segments[i] = segments[i][:4] + bytes_changed(rng, segments[i][4:])
        elif roll < 0.75:
            segments[i:i] = [segments[i]] * rng.choice((1, 2, 500))
        elif roll < 0.85:
            rng.shuffle(segments)
        elif roll < 0.93 and len(segments) > 2:
            del segments[i]
        else:
            segments.insert(i, b"\xff" + bytes([rng.randrange(0xC0, 0xFF)]) + b"\0\x08" + rng.randbytes(6))
    return b"\xff\xd8" + b"".join(segments) + b"\xff\xd9"


def _segments(data: bytes) -> list[bytes]:
    """What stands between the first marker and the last, each with its own marker; a scan with its pixels."""
    segments: list[bytes] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDA:
            while end + 1 < len(data) and not (data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))):
                end += 1
        segments.append(data[at:end])
        at = end
    return segments


# -- the others: numbers at known places


def _tiff(rng: random.Random, data: bytes) -> bytes:
    """An entry of the directory, which is 12 bytes: tag, type, count, value or place."""
    changed = bytearray(data)
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    for _ in range(1 + int(rng.expovariate(1.5))):
        entry, roll = at + 2 + 12 * rng.randrange(max(count, 1)), rng.random()
        number = rng.choice(
            (0, 1, 2, 4, 8, 16, 32, 255, 1_000, 9_999, 65_535, 10**6, 10**8, (1 << 31) - 1, (1 << 32) - 1)
        )
        if roll < 0.65:
            changed[entry + 8 : entry + 12] = number.to_bytes(4, "little")
        elif roll < 0.8:
            changed[entry + 4 : entry + 8] = number.to_bytes(4, "little")
        elif roll < 0.9:
            changed[entry + 2 : entry + 4] = rng.choice((1, 2, 3, 4, 5, 7, 12, 13, 16, 99)).to_bytes(2, "little")
        elif roll < 0.95:
            changed[entry : entry + 2] = rng.choice(
                (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 324, 339)
            ).to_bytes(2, "little")
        else:
            changed[at + 2 + 12 * count : at + 6 + 12 * count] = rng.choice((at, 8, 0, 1 << 31)).to_bytes(4, "little")
    return bytes(changed)


def _gif(rng: random.Random, data: bytes) -> bytes:
    changed = data
    descriptor = data.find(b"\x2c\0\0\0\0")
    places = (6, 8, *((descriptor + 1, descriptor + 3, descriptor + 5, descriptor + 7) if descriptor > 0 else ()))
    for _ in range(1 + int(rng.expovariate(1.5))):
        changed = _with_number(
            rng, changed, "<", places, (10, 11, 12, max(descriptor + 9, 13), max(descriptor + 10, 13)), 2
        )
    return changed


def _bmp(rng: random.Random, data: bytes) -> bytes:
    changed = data
    for _ in range(1 + int(rng.expovariate(1.5))):
        changed = _with_number(rng, changed, "<", (10, 14, 18, 22, 34, 46), (26, 28, 30))
    return changed


def _webp(rng: random.Random, data: bytes) -> bytes:
    """Its chunks, whose lengths stay right; what the codec has packed is changed as bytes."""
    chunks: list[tuple[bytes, bytes]] = []
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        chunks.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    i = rng.randrange(len(chunks))
    roll = rng.random()
    if roll < 0.7:
        name, body = chunks[i]
        chunks[i] = (name, bytes_changed(rng, body, times=1))
    elif roll < 0.85:
        chunks[i:i] = [chunks[i]] * rng.choice((1, 2, 200))
    else:
        chunks.insert(i, (rng.choice((b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"EXIF", b"ICCP")), rng.randbytes(10)))
    body = b"".join(name + struct.pack("<I", len(part)) + part + bytes(len(part) % 2) for name, part in chunks)
    return data[:4] + struct.pack("<I", len(body) + 4) + b"WEBP" + body


TARGETS = (Target("picture", _prepare, 2.0),)
