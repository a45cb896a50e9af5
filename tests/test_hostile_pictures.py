"""Pictures that ask for too much are refused in one line before they are decoded; streams end; sources are many."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import image, limits, picture_formats, picture_guard
from mobilenetv2.errors import ImageError, UsageError

PIXELS = np.kron(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))


def encode(kind: str, picture: np.ndarray = PIXELS, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def scans(times: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = encode("JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * times + data[-2:]


def test_scans_of_a_progressive_jpeg_are_counted_before_it_is_decoded() -> None:
    few, _ = picture_guard.jpeg_scans(scans(0), 1000)
    assert 5 < few < 20
    assert image.read(scans(limits.JPEG_SCANS - few)).shape == PIXELS.shape
    with pytest.raises(ImageError, match="is a JPEG of more than 100 scans: save it again"):
        image.read(scans(limits.JPEG_SCANS - few + 1))
    start = time.process_time()
    with pytest.raises(ImageError, match="more than 100 scans"):
        image.read(scans(20_000))
    assert time.process_time() - start < 1
    assert picture_guard.jpeg_scans(encode("JPEG"), 100) == (1, 0)
    assert picture_guard.jpeg_scans(encode("JPEG", progressive=True, subsampling=0), 100)[1] == 3


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((-(-width // 8) + 1) * height)) if width * height < 10**7 else zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(1, 99_999_999), (99_999_999, 1), (1, limits.PICTURE_SIDE + 1)])
def test_a_side_beyond_the_limit_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="the limit of a side is 1,000,000"):
        image.read(png(*size))


def test_a_side_at_the_limit_is_read_and_too_narrow_to_be_resized() -> None:
    data = png(1, limits.PICTURE_SIDE)
    assert image.read(data).shape == (limits.PICTURE_SIDE, 1, 3)
    for name in ("hf", "torchvision-v1"):
        with pytest.raises(ImageError, match="too narrow"):
            image.load(data, image.recipe(name, 96))


def test_memory_is_estimated_by_the_format() -> None:
    for kind, side in (("WEBP", 9_500), ("AVIF", 8_000)):
        picture = Image.new("RGB", (side, side))
        known: Any = picture
        known.format, known.tile = kind, []
        with pytest.raises(ImageError, match="MB to decode as"):
            picture_guard.check_cost(known, io.BytesIO(), "x")


def test_running_out_of_memory_is_an_error_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(image, "prepare", fail)
    with pytest.raises(ImageError, match="not enough memory for this picture"):
        image.load(encode("PNG"), image.recipe("hf", 96))


def tiff(entries: list[tuple[int, int, int, int]]) -> bytes:
    table = b"".join(struct.pack("<HHLL", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + table + bytes(4)


def test_a_tiff_s_directory_is_looked_at_before_pillow_reads_all_of_it() -> None:
    with pytest.raises(ImageError, match="its directory points at"):
        image.read(tiff([(60_000 + i, 1, 1 << 30, 8) for i in range(9)]))
    with pytest.raises(ImageError, match=r"has 5,000 entries in its directory: the limit is 4,096"):
        image.read(tiff([(i, 3, 1, 1) for i in range(5000)]))
    with pytest.raises(ImageError, match="300,000 strips or tiles"):
        image.read(tiff([(273, 4, 300_000, 8)]) + bytes(1_300_000))
    assert image.read(encode("TIFF", np.repeat(PIXELS, 40, axis=0), compression="tiff_lzw")).shape[0] == 1280


def test_a_photo_of_108_megapixels_is_read_smaller_where_the_network_needs_less(tmp_path: Path) -> None:
    path = tmp_path / "telephone.jpg"
    Image.new("L", (16_384, 12_288), 90).save(path, quality=30)  # 201
    found, geometry = image.load(path, image.recipe("torchvision-v1", 224))
    assert found.shape == (224, 224, 3)
    assert (geometry.photo_height, geometry.photo_width) == image.size(path) == (12_288, 16_384)
    with pytest.raises(ImageError, match="16384 x 12288 pixels: the limit is 130,000,000"):
        image.read(path)


@pytest.mark.parametrize(
    ("kind", "ending", "tolerance"),
    [("AVIF", ".avif", 12), ("JPEG2000", ".jp2", 1), ("PPM", ".ppm", 0), ("TGA", ".tga", 0)],
)
def test_more_formats_are_read(kind: str, ending: str, tolerance: int, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    options: dict[str, Any] = {"quality": 95} if kind == "AVIF" else {}
    path.write_bytes(encode(kind, **options))
    assert ending in image.ENDINGS
    assert np.abs(image.read(path).astype(int) - PIXELS)[4::8, 4::8].max() <= tolerance
    assert image.size(path) == PIXELS.shape[:2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC photo, which is not read: convert to JPEG, or pip install"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "is a video, which is not read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
        (b"%PDF-1.7", "is a PDF document"),
        (b"\0\0\x01\0\x01\0", "is an icon"),
    ],
)
def test_photos_that_are_not_read_are_named_with_the_way_out(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        image.read(data)


def test_what_is_read_and_what_is_not_have_no_ending_in_common() -> None:
    assert not image.ENDINGS & image.UNREAD_PHOTOS.keys()
    assert all(ending.startswith(".") and ending == ending.lower() for ending in (*image.ENDINGS, *image.UNREAD_PHOTOS))
    assert (".heic" in image.ENDINGS) == picture_formats.HEIC_IS_READ


def test_a_pipe_is_read_to_its_end_and_an_endless_device_is_not(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(encode("PNG")))
    writer.start()
    assert np.array_equal(image.read(pipe), PIXELS)
    writer.join()
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="is not a JPEG"):
        image.read(tmp_path / "zero.jpg")


def test_buffers_and_open_files_are_sources(tmp_path: Path) -> None:
    data = encode("PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with open(path, "rb") as opened:
        for source in (bytearray(data), memoryview(data), io.BytesIO(data), opened):
            assert np.array_equal(image.read(source), PIXELS), type(source)
    with open(path, encoding="latin-1") as text, pytest.raises(UsageError, match="open it with 'rb'"):
        image.read(text)  # pyright: ignore[reportArgumentType]


def test_arrays_of_one_and_four_channels_are_grey_and_rgba() -> None:
    grey = PIXELS[..., :1]
    assert np.array_equal(image.read(grey), image.read(PIXELS[..., 0]))
    alpha = np.concatenate([PIXELS, np.full_like(grey, 255)], axis=2)
    assert np.array_equal(image.read(alpha), PIXELS)
    alpha[..., 3] = 0
    assert (image.read(alpha) == 255).all()
    assert np.array_equal(image.read(alpha), image.read(Image.fromarray(alpha)))


def test_tensors_are_sources_with_the_channels_first_or_last() -> None:
    torch = pytest.importorskip("torch")
    assert np.array_equal(image.read(torch.from_numpy(PIXELS.copy())), PIXELS)
    assert np.array_equal(image.read(torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)), PIXELS)
    with pytest.raises(UsageError, match="must be uint8"):
        image.read(torch.zeros(3, 4, 5))
