"""Which formats of pictures are read, by what their files begin with, and what to do with those that are not.

Not read, though Pillow can: EPS, PDF and other pages (a program would have to run them), SVG (the same), ICO and ICNS
(decoded while opened, before their size can be checked), QOI, SGI, FITS and the like (decoders written in Python, a
second or more a megapixel), PSD (its layers are not the picture).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from mobilenetv2 import signatures

LONGEST_START = max(64, signatures.LONGEST)  # bytes that `find` looks at


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """A format that is read: `plugin` is the module and the class that Pillow, or an extension of it, has for it."""

    name: str
    endings: tuple[str, ...]
    plugin: tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Unread:
    """A format that is not: what a file of it is, and the way out, which begins with a verb."""

    what: str
    endings: tuple[str, ...]
    way_out: str


JPEG = PictureFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), ("PIL.JpegImagePlugin", "JpegImageFile"))
PNG = PictureFormat("PNG", (".png",), ("PIL.PngImagePlugin", "PngImageFile"))
WEBP = PictureFormat("WebP", (".webp",), ("PIL.WebPImagePlugin", "WebPImageFile"))
BMP = PictureFormat("BMP", (".bmp",), ("PIL.BmpImagePlugin", "BmpImageFile"))
TIFF = PictureFormat("TIFF", (".tif", ".tiff"), ("PIL.TiffImagePlugin", "TiffImageFile"))
GIF = PictureFormat("GIF", (".gif",), ("PIL.GifImagePlugin", "GifImageFile"))
AVIF = PictureFormat("AVIF", (".avif",), ("PIL.AvifImagePlugin", "AvifImageFile"))
JPEG2000 = PictureFormat("JPEG 2000", (".jp2", ".j2k"), ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"))
PNM = PictureFormat("PPM", (".ppm", ".pgm", ".pbm", ".pnm"), ("PIL.PpmImagePlugin", "PpmImageFile"))
TGA = PictureFormat("TGA", (".tga",), ("PIL.TgaImagePlugin", "TgaImageFile"))  # no signature: known by its name
HEIF = PictureFormat("HEIC", (".heic", ".heif", ".hif"), ("pillow_heif", "HeifImageFile"))

_HEIC = _Unread("a HEIC photo", HEIF.endings, "convert to JPEG, or pip install pillow-heif")
_SVG = _Unread("an SVG drawing", (".svg", ".svgz"), "export as PNG")
_PAGES = _Unread("a PDF document", (".pdf",), "export its pages as PNG")
_POSTSCRIPT = _Unread("a PostScript drawing", (".eps", ".ps", ".ai"), "export as PNG")
_VIDEO = _Unread(
    "a video", (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v"), "extract its frames: ffmpeg -i VIDEO %06d.jpg"
)
_RAW = _Unread(
    "a camera's raw photo",
    (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"),
    "develop to JPEG",
)
_JXL = _Unread("a JPEG XL photo", (".jxl",), "convert to JPEG")
_PSD = _Unread("a Photoshop file", (".psd", ".psb"), "export as PNG")
_ICON = _Unread("an icon", (".ico", ".icns"), "convert to PNG")
_QOI = _Unread("a QOI picture", (".qoi",), "convert to PNG")

HEIC_IS_READ = importlib.util.find_spec("pillow_heif") is not None
_READ = (JPEG, PNG, WEBP, BMP, TIFF, GIF, AVIF, JPEG2000, PNM, TGA, *((HEIF,) if HEIC_IS_READ else ()))
_UNREAD = (
    *(() if HEIC_IS_READ else (_HEIC,)), _SVG, _PAGES, _POSTSCRIPT, _VIDEO, _RAW, _JXL, _PSD, _ICON, _QOI,
)  # fmt: skip

# Endings of names, in small letters, with their dot: of what is read, and of photos that are not, with the way out.
ENDINGS: frozenset[str] = frozenset(ending for one in _READ for ending in one.endings)
UNREAD_PHOTOS: Mapping[str, str] = MappingProxyType(
    {ending: one.way_out for one in _UNREAD for ending in one.endings}
)  # fmt: skip

_STARTS: tuple[tuple[bytes, PictureFormat], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF8", GIF),
    (b"BM", BMP),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
    (b"II+\0", TIFF),
    (b"MM\0+", TIFF),
    (b"\xff\x4f\xff\x51", JPEG2000),
    (b"\0\0\0\x0cjP  \r\n\x87\n", JPEG2000),
)
_PNM_START = re.compile(rb"P[1-6][\s#]")
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
_UNREAD_STARTS: tuple[tuple[bytes, _Unread], ...] = (
    (b"%PDF", _PAGES),
    (b"%!PS", _POSTSCRIPT),
    (b"\xc5\xd0\xd3\xc6", _POSTSCRIPT),
    (b"8BPS", _PSD),
    (b"\xff\x0a", _JXL),
    (b"\0\0\0\x0cJXL ", _JXL),
    (b"\0\0\x01\0", _ICON),
    (b"icns", _ICON),
    (b"qoif", _QOI),
    (b"\x1aE\xdf\xa3", _VIDEO),  # Matroska, WebM
    (b"FUJIFILMCCD-RAW", _RAW),
    (b"IIRO", _RAW),
    (b"IIU\0", _RAW),
)


def find(start: bytes, ending: str = "") -> PictureFormat | None:
    """The format of a file that begins so; `ending` is its name's, where it has one. None where it is not read."""
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return WEBP
    if brands := _brands(start):
        if brands & {b"avif", b"avis"}:
            return AVIF
        return HEIF if HEIC_IS_READ and brands & _HEIC_BRANDS else None
    for signature, known in _STARTS:
        if start.startswith(signature):
            return known
    if _PNM_START.match(start):
        return PNM
    return TGA if ending.lower() in TGA.endings and unread(start) is None else None


def unread(start: bytes, ending: str = "") -> tuple[str, str] | None:
    """What a file is that begins so and is a photo, a drawing or a video all the same, and the way out."""
    found = _unread(start)
    if found is None and signatures.kind(start) is None:  # no text, archive or the like under a wrong name
        found = next((one for one in _UNREAD if ending.lower() in one.endings), None)
    return None if found is None else (found.what, found.way_out)


def _unread(start: bytes) -> _Unread | None:
    if brands := _brands(start):
        if brands & _HEIC_BRANDS:
            return _HEIC
        return _RAW if b"crx " in brands else _VIDEO
    if start.startswith(b"RIFF") and start[8:12] == b"AVI ":
        return _VIDEO
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return _SVG
    return next((one for signature, one in _UNREAD_STARTS if start.startswith(signature)), None)


def _brands(start: bytes) -> frozenset[bytes]:
    """What an ISO media file (AVIF, HEIC, MP4) says it is: its own brand and those it can be read as."""
    if start[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(start[:4], "big"), len(start))
    return frozenset((start[8:12], *(start[at : at + 4] for at in range(16, end - 3, 4))))
