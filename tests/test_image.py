"""Pictures are read as they look, whatever the file; damaged ones give one line; large ones are decoded smaller."""

from __future__ import annotations

import io
import resource
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from mobilenetv2 import image
from mobilenetv2.errors import Error, FileError, ImageError, UsageError
from mobilenetv2.image import Preprocessing

# Four 16 x 16 blocks side by side, so that JPEG's 8 x 8 blocks each have one colour.
COLOURS = ((255, 0, 0), (0, 200, 30), (20, 40, 250), (128, 128, 128))
GREY_LEVELS = (0, 90, 128, 255)


def blocks(values: Sequence[Any], dtype: type = np.uint8) -> np.ndarray:
    return np.repeat(np.repeat(np.array([values], dtype), 16, axis=1), 16, axis=0)


BLOCKS, GREY_BLOCKS = blocks(COLOURS), blocks(GREY_LEVELS)
NOISE = np.random.default_rng(0).integers(0, 256, (1200, 1200, 3), dtype=np.uint8)


def encode(picture: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, kind, **options)
    return buffer.getvalue()


def in_rgb(levels: tuple[int, ...]) -> list[list[int]]:
    return [[level] * 3 for level in levels]


def blocks_of(rgb: np.ndarray) -> np.ndarray:
    """The colour in the middle of each of the four blocks."""
    assert rgb.shape == (16, 64, 3)
    assert rgb.dtype == np.uint8
    return rgb[8, 8::16].astype(int)


@pytest.mark.parametrize(
    ("kind", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("GIF", {}, 0),
        ("JPEG", {"quality": 95}, 3),
        ("JPEG", {"quality": 95, "progressive": True, "subsampling": 0}, 3),
        ("WEBP", {"quality": 95}, 8),
    ],
)
def test_each_format_gives_the_colours_that_were_saved(kind: str, options: dict[str, object], tolerance: int) -> None:
    found = blocks_of(image.read(encode(BLOCKS, kind, **options)))
    assert np.abs(found - COLOURS).max() <= tolerance


def test_the_file_name_says_nothing_about_the_format(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(encode(BLOCKS, "PNG"))
    for source in (path, str(path), path.read_bytes(), Image.open(io.BytesIO(path.read_bytes())), BLOCKS):
        assert np.array_equal(image.read(source), BLOCKS)


def test_a_stored_picture_is_read_from_its_bytes_and_named_by_its_str() -> None:
    class Member:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def __str__(self) -> str:
            return "x.tar/a.png"

        def read_bytes(self) -> bytes:
            return self.data

    data = encode(BLOCKS, "PNG")
    assert np.array_equal(image.read(Member(data)), BLOCKS)
    recipe = image.recipe("torchvision-v1", 16)
    assert np.array_equal(image.load(Member(data), recipe)[0], image.load(data, recipe)[0])
    with pytest.raises(ImageError, match=r"^x\.tar/a\.png \(PNG\) is damaged or cut short"):
        image.read(Member(data[:60]))
    with pytest.raises(ImageError, match=r"^x\.tar/a\.png is empty"):
        image.read(Member(b""))


def test_an_animation_gives_its_first_picture() -> None:
    second = Image.new("RGB", (64, 16), "yellow")
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        lossless = {"lossless": True} if kind == "WEBP" else {}
        data = encode(BLOCKS, kind, save_all=True, append_images=[second], **lossless)
        assert np.array_equal(image.read(data), BLOCKS), kind


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "JPEG", "GIF"])
def test_grey_has_three_equal_channels(kind: str) -> None:
    assert np.abs(blocks_of(image.read(encode(GREY_BLOCKS, kind))) - in_rgb(GREY_LEVELS)).max() <= 1


def test_a_picture_of_one_bit_is_black_and_white() -> None:
    picture = Image.fromarray(GREY_BLOCKS > 100)
    for kind in ("PNG", "BMP", "TIFF"):
        assert blocks_of(image.read(encode(picture, kind))).tolist() == in_rgb((0, 0, 255, 255))


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    wide = blocks([0, 500, 40_000, 65_535], np.uint16)
    expected = in_rgb((0, 2, 156, 255))  # 255 / 65535 of each: 0, 1.95, 155.64, 255
    for kind in ("PNG", "TIFF"):
        assert blocks_of(image.read(encode(wide, kind))).tolist() == expected
    big_endian = Image.frombytes("I;16B", (64, 16), wide.astype(">u2").tobytes())
    assert blocks_of(image.read(encode(big_endian, "TIFF"))).tolist() == expected
    clear = encode(Image.fromarray(wide), "PNG", transparency=500)
    assert blocks_of(image.read(clear)).tolist() == in_rgb((0, 255, 156, 255))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_without_an_agreed_range_are_refused(dtype: type) -> None:
    with pytest.raises(ImageError, match="16 bits"):
        image.read(encode(np.ones((8, 8), dtype), "TIFF"))


def test_transparent_parts_are_shown_on_white() -> None:
    alpha = blocks([255, 0, 128, 0])
    half = [round(128 / 255 * c + 127 / 255 * 255) for c in COLOURS[2]]
    expected = [list(COLOURS[0]), [255] * 3, half, [255] * 3]
    rgba = np.dstack([BLOCKS, alpha])
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        assert np.abs(blocks_of(image.read(encode(rgba, kind, **options))) - expected).max() <= 1, kind
    grey = Image.merge("LA", [Image.fromarray(GREY_BLOCKS), Image.fromarray(alpha)])
    assert np.abs(blocks_of(image.read(encode(grey, "PNG"))) - in_rgb((0, 255, 191, 255))).max() <= 1


def test_a_palette_picture_has_its_palette_s_colours_and_its_clear_entry_is_white() -> None:
    palette = Image.fromarray(blocks(range(4)), mode="P")
    palette.putpalette([part for colour in COLOURS for part in colour])
    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        assert blocks_of(image.read(encode(palette, kind))).tolist() == [list(c) for c in COLOURS], kind
    expected = [list(COLOURS[0]), [255] * 3, list(COLOURS[2]), list(COLOURS[3])]
    for kind in ("PNG", "GIF"):
        assert blocks_of(image.read(encode(palette, kind, transparency=1))).tolist() == expected, kind
    several = encode(palette, "PNG", transparency=bytes((255, 0, 255, 255)))
    assert blocks_of(image.read(several)).tolist() == expected
    colour_key = encode(BLOCKS, "PNG", transparency=COLOURS[1])
    assert blocks_of(image.read(colour_key)).tolist() == expected


def test_cmyk_is_ink_on_white_in_tiff_and_inverted_in_adobe_s_jpeg() -> None:
    inks = np.dstack([255 - BLOCKS, np.zeros((16, 64), np.uint8)])  # cyan = 255 - red, no black
    inks[:, 48:, 3] = 255  # the last block is all black
    picture = Image.frombytes("CMYK", (64, 16), inks.tobytes())
    jpeg = encode(picture, "JPEG", quality=98)
    assert b"Adobe" in jpeg
    for data in (encode(picture, "TIFF"), jpeg):
        assert np.abs(blocks_of(image.read(data)) - [*COLOURS[:3], (0, 0, 0)]).max() <= 3


# EXIF's definition: what the stored rows and columns are in the upright picture.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def turned(upright: np.ndarray, orientation: int, kind: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(np.ascontiguousarray(STORED[orientation](upright)), kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", STORED)
def test_a_photo_is_turned_upright_as_its_exif_says(orientation: int) -> None:
    upright = NOISE[:5, :9]
    for kind, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})):
        assert np.array_equal(image.read(turned(upright, orientation, kind, **options)), upright), kind
    jpeg = turned(BLOCKS, orientation, "JPEG", quality=95)
    assert np.abs(blocks_of(image.read(jpeg)) - COLOURS).max() <= 3
    assert np.array_equal(image.read(Image.open(io.BytesIO(jpeg))), image.read(jpeg))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_the_size_from_the_header_is_the_upright_picture_s(kind: str, orientation: int, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(turned(NOISE[:5, :9], orientation, kind))
    assert image.size(tmp_path / "photo") == image.read(tmp_path / "photo").shape[:2]


def test_the_size_of_what_is_no_picture_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.png").write_bytes(encode(BLOCKS, "PNG")[:20])
    for name in ("text.jpg", "empty.jpg", "cut.png"):
        with pytest.raises(ImageError, match=name):
            image.size(tmp_path / name)
    with pytest.raises(FileError, match="does not exist"):
        image.size(tmp_path / "none.jpg")


def test_an_animation_announced_behind_the_pixels_does_not_warn() -> None:
    data = io.BytesIO()
    Image.new("RGB", (2, 2), "red").save(data, "png")
    body = b"acTL" + bytes(8)
    chunk = struct.pack(">I", 8) + body + struct.pack(">I", zlib.crc32(body))
    pixels, end = data.getvalue()[:-12], data.getvalue()[-12:]
    assert image.read(pixels + chunk + end).tolist() == [[[255, 0, 0]] * 2] * 2


def test_damaged_exif_neither_warns_nor_hides_the_picture() -> None:
    junk = b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x07\0\0\0junk"
    assert np.abs(blocks_of(image.read(encode(BLOCKS, "JPEG", quality=95, exif=junk))) - COLOURS).max() <= 3


def test_a_pil_picture_is_not_changed() -> None:
    picture = Image.open(io.BytesIO(turned(BLOCKS, 6, "PNG")))
    image.read(picture)
    assert (picture.size, picture.getexif()[0x0112]) == ((16, 64), 6)


def test_arrays_are_rgb_or_grey_bytes() -> None:
    assert image.read(BLOCKS) is BLOCKS
    assert np.array_equal(image.read(GREY_BLOCKS)[..., 1], GREY_BLOCKS)
    wrongs: tuple[Any, ...] = (BLOCKS / 255, BLOCKS[..., :2], BLOCKS[None], BLOCKS[:0])
    for wrong in wrongs:
        with pytest.raises(UsageError, match=r"uint8 \[H, W, 3\]"):
            image.read(wrong)
    with pytest.raises(UsageError, match="got int"):
        image.read(7)  # pyright: ignore[reportArgumentType]


def test_what_is_no_picture_gives_one_line_that_names_the_file(tmp_path: Path) -> None:
    cases = {
        "empty.jpg": (b"", "is empty"),
        "text.jpg": (b"these are not the pixels you are looking for", "is not a JPEG, PNG"),
        "cut.jpg": (encode(NOISE, "JPEG")[:-400], "damaged or cut short"),
        "head.jpg": (encode(BLOCKS, "JPEG")[:30], "damaged or cut short"),
        "cut.png": (encode(BLOCKS, "PNG")[:60], "damaged or cut short"),
        "cut.bmp": (encode(BLOCKS, "BMP")[:-9], "damaged or cut short"),
    }
    for name, (data, reason) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError, match=reason) as caught:
            image.read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    opened = Image.open(tmp_path / "cut.jpg")
    with opened, pytest.raises(ImageError, match=r"the picture \(JPEG\) is damaged or cut short"):
        image.read(opened)
    for missing, reason in ((tmp_path / "none.jpg", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(FileError, match=reason):
            image.read(missing)


def with_size(width: int, height: int) -> dict[str, bytes]:
    """Small files whose headers tell of a picture of width x height."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    jpeg, gif, bmp = (bytearray(encode(BLOCKS, kind)) for kind in ("JPEG", "GIF", "BMP"))
    struct.pack_into(">HH", jpeg, jpeg.index(b"\xff\xc0") + 5, height, width)
    struct.pack_into("<HH", gif, 6, width, height)
    struct.pack_into("<ii", bmp, 18, width, height)
    png += chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return {"PNG": png, "JPEG": bytes(jpeg), "GIF": bytes(gif), "BMP": bytes(bmp)}


def test_a_header_of_too_many_pixels_is_refused_before_any_memory_is_taken() -> None:
    peak_KiB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for data in with_size(60_000, 60_000).values():
        with pytest.raises(ImageError, match="60000 x 60000 pixels: the limit is 130,000,000"):
            image.read(data)
        with pytest.raises(ImageError, match=r"60000 x 60000 pixels: the limit is (130|500),000,000"):
            image.load(data, image.recipe("hf", 96))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_KiB < 50_000  # the pixels would be 10.8 GB


def test_the_limit_on_pixels_is_the_caller_s() -> None:
    for source in (encode(BLOCKS, "PNG"), Image.fromarray(BLOCKS)):
        assert image.read(source, max_pixels=64 * 16).shape == (16, 64, 3)
        with pytest.raises(ImageError, match="64 x 16 pixels: the limit is 1,023"):
            image.read(source, max_pixels=64 * 16 - 1)


def test_pillow_s_own_limit_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image.open warns from 89 million pixels on, and warnings are errors here."""
    for data in with_size(10_000, 9_500).values():
        with pytest.raises(ImageError, match="10000 x 9500 pixels: the limit is 94,999,999"):
            image.read(data, max_pixels=94_999_999)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert np.array_equal(image.read(encode(BLOCKS, "PNG")), BLOCKS)


def test_every_pixel_of_a_tall_picture_is_read_where_it_is() -> None:
    """Pixels are converted some rows at a time."""
    assert np.array_equal(image.read(encode(NOISE[:, :300], "PNG")), NOISE[:, :300])
    assert np.array_equal(image.read(turned(NOISE[:513, :7], 6, "PNG")), NOISE[:513, :7])


SOUND = [
    turned(BLOCKS, 6, "JPEG"),
    encode(BLOCKS, "JPEG", progressive=True),
    encode(Image.fromarray(BLOCKS).quantize(4), "PNG"),
    encode(BLOCKS, "GIF"),
    turned(BLOCKS, 3, "TIFF"),
    encode(BLOCKS, "BMP"),
    turned(BLOCKS, 2, "WEBP"),
]


@settings(deadline=None)
@given(st.sampled_from(SOUND), st.data())
def test_bytes_changed_at_random_give_a_picture_or_one_line(sound: bytes, data: st.DataObject) -> None:
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(1, len(damaged)))]
    answer: object = None
    try:
        answer = image.read(bytes(damaged)).shape[2]
    except Error as error:
        answer = len(str(error).splitlines())
    assert answer in (3, 1)


def test_threads_read_the_same_and_leave_pillow_and_the_warnings_as_they_were() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    sources = SOUND * 6
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(image.read, sources))
    assert all(np.array_equal(one, image.read(source)) for one, source in zip(together, sources, strict=True))
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)) == before


@pytest.fixture(scope="module")
def large_photo(grace_hopper: Path) -> np.ndarray:
    """Upright pixels of 2001 x 1515, in real detail; no multiple of a JPEG block."""
    return np.tile(image.read(grace_hopper), (4, 3, 1))[:2001, :1515]


def mean_difference(source: image.Source, preprocessing: Preprocessing) -> float:
    """Of what `load` gives and the full decode gives, in levels of 255; both see the whole photo."""
    quick, geometry = image.load(source, preprocessing)
    photo = image.read(source)
    full, full_geometry = image.prepare(photo, preprocessing)
    difference = np.abs(quick.astype(int) - full.astype(int))
    assert geometry == full_geometry
    assert (geometry.photo_height, geometry.photo_width) == photo.shape[:2]
    assert 0 < difference.max() <= 12
    return float(difference.mean())


@pytest.mark.parametrize("orientation", STORED)
def test_a_large_jpeg_is_decoded_smaller_and_stays_within_the_tolerance(
    large_photo: np.ndarray, orientation: int
) -> None:
    data = turned(large_photo, orientation, "JPEG", quality=90)
    for name, size in (("hf", 96), ("timm", 56), ("timm", 32)):  # at 1/2, 1/4 and 1/8
        assert mean_difference(data, image.recipe(name, size)) <= 0.5


def test_noise_too_stays_within_the_tolerance() -> None:
    for subsampling in (0, 2):
        data = encode(NOISE, "JPEG", quality=95, subsampling=subsampling)
        preprocessing = image.override(image.recipe("timm", 100), resize=120)
        assert mean_difference(data, preprocessing) <= 1.5


def test_nothing_is_decoded_smaller_where_single_pixels_or_all_of_them_count(large_photo: np.ndarray) -> None:
    data = encode(large_photo, "JPEG")
    as_it_is = image.override(image.recipe("hf", 32), resize="none")
    # 1515 / 256 leaves a margin of 2.9 at one half
    for preprocessing in (image.recipe("slim", 32), image.recipe("keras", 32), image.recipe("hf", 224), as_it_is):
        loaded, geometry = image.load(data, preprocessing)
        prepared, expected = image.prepare(image.read(data), preprocessing)
        assert np.array_equal(loaded, prepared)
        assert geometry == expected


def test_real_photos_load_within_the_tolerance(real_data: Path) -> None:
    for path in sorted((real_data / "photos").glob("*.jpg")):
        # 36 pixels: each photo is at least 10 times larger
        assert mean_difference(path, image.recipe("torchvision-v1", 32)) <= 0.5, path
