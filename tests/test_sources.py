"""What a name stands for: a photo, a folder, a pattern, a list, a pipe or an address."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mobilenetv2 import image, sources
from mobilenetv2.errors import DownloadError, Error, FileError, UsageError
from mobilenetv2.sources import Brought, Photo


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def names(*named: str) -> list[str]:
    return [photo.name for photo in sources.find(named).photos]


def problems(*named: str) -> list[str]:
    return [str(photo.problem) for photo in sources.find(named).photos if photo.problem is not None]


def test_a_folder_is_the_pictures_in_it_and_below_it_sorted_and_what_is_left_out_is_counted(here: Path) -> None:
    touch("p/b.PNG", "p/a.jpg", "p/sub/z.webp", "p/.hidden.jpg", "p/.git/x.jpg", "p/notes.md", "p/x.xmp", "p/y.xmp")
    found = sources.find(["p"])
    assert [photo.name for photo in found.photos] == ["p/a.jpg", "p/b.PNG", "p/sub/z.webp"]
    assert found.notes == ["p: 3 pictures; 4 files left out: 2 .xmp, 1 hidden, 1 .md"]


def test_photos_in_a_form_that_is_not_read_are_named_with_the_way_out(here: Path) -> None:
    touch("p/a.jpg", "p/b.psd", "p/c.PSD")
    assert "p: 2 .psd files cannot be read: export as PNG" in sources.find(["p"]).notes


def test_a_folder_is_not_followed_in_circles_and_its_pipes_are_not_opened(here: Path) -> None:
    touch("p/a.jpg")
    os.symlink(here / "p", "p/again")
    os.mkdir("elsewhere")
    touch("elsewhere/b.jpg")
    os.symlink(here / "elsewhere", "p/other")
    os.mkfifo("p/pipe.jpg")
    found = sources.find(["p"])
    assert [photo.name for photo in found.photos] == ["p/a.jpg", "p/other/b.jpg"]
    assert found.notes == ["p: 2 pictures; 1 file left out: 1 no regular files"]
    assert names("p/**/*.jpg") == ["p/a.jpg", "p/other/b.jpg"]


def test_a_folder_without_pictures_says_what_is_in_it(here: Path) -> None:
    touch("p/a.txt", "p/b.txt")
    assert problems("p")[0].startswith("p has no pictures but 2 .txt; endings that are read: ")


def test_a_pattern_matches_as_in_a_shell(here: Path) -> None:
    touch("p/a.jpg", "p/b.png", "p/.c.jpg", "p/d/e.jpg", "p/d/f/g.jpg", "q/h.jpg", "p/notes.md")
    assert names("p/*.jpg") == ["p/a.jpg"]
    assert names("p/?.*") == ["p/a.jpg", "p/b.png"]
    assert names("p/[ab].*") == ["p/a.jpg", "p/b.png"]
    assert names("*/*.jpg") == ["p/a.jpg", "q/h.jpg"]
    assert names("**/*.jpg") == ["p/a.jpg", "p/d/e.jpg", "p/d/f/g.jpg", "q/h.jpg"]
    assert names(str(here / "p" / "**")) == [
        str(here / "p" / name) for name in ("a.jpg", "b.png", "d/e.jpg", "d/f/g.jpg")
    ]
    assert sources.find(["p/*"]).notes == ["p/*: 2 pictures; 1 file left out: 1 .md"]
    assert problems("p/*.gif", "x/*.jpg") == [
        "p/*.gif does not exist, and no file matches it",
        "x/*.jpg does not exist, and no file matches it",
    ]


def test_an_ending_that_a_pattern_names_is_taken_whatever_it_is(here: Path) -> None:
    touch("p/a.dat", "p/b.dat", "p/c.jpg")
    assert names("p/*.dat") == ["p/a.dat", "p/b.dat"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(here: Path) -> None:
    touch("a[1].jpg", "a1.jpg")
    assert names("a[1].jpg") == ["a[1].jpg"]
    assert sources.one("a[1].jpg") == "a[1].jpg"


def test_a_list_has_a_path_per_line_relative_to_itself_or_to_here(here: Path) -> None:
    touch("lists/a.jpg", "b.jpg", "lists/b c.jpg")
    Path("lists/all.txt").write_bytes(
        b"\xef\xbb\xbf# mine\r\n\r\na.jpg\r\n b c.jpg \nb.jpg\nhttps://x.org/c.jpg\nd.jpg\n"
    )
    found = names("lists/all.txt")
    assert found == ["lists/a.jpg", "lists/b c.jpg", "b.jpg", "https://x.org/c.jpg", "lists/d.jpg"]


def test_a_list_that_lists_nothing_or_is_no_text_is_an_error(here: Path) -> None:
    Path("empty.txt").write_text("# nothing\n\n")
    Path("photo.txt").write_bytes(b"\x89PNG\0")
    assert problems("empty.txt", "photo.txt") == [
        "empty.txt lists no photos: the path of a photo is expected on each line",
        "photo.txt is no text: a list has the path of a photo on each line",
    ]


def test_what_stands_for_many_photos_is_none_of_them(here: Path) -> None:
    touch("p/a.jpg", "list.txt", "m.safetensors")
    for name, words in (
        ("p", "p is a folder: predictor.many('p') answers for each photo in it"),
        ("list.txt", "list.txt is a list: predictor.many('list.txt')"),
        ("p/*.jpg", "predictor.many takes patterns"),
        ("m.safetensors", "are the model and the photo swapped?"),
        ("", "the name of a photo is empty"),
        ("0", "cameras are not read"),
        ("/dev/video7", "cameras are not read"),
        ("rtsp://camera/1", "addresses of rtsp are not fetched"),
    ):
        with pytest.raises(UsageError) as caught:
            sources.one(name)
        assert words in str(caught.value)
    with pytest.raises(UsageError, match="cameras are not read"):
        sources.one(0)  # pyright: ignore[reportArgumentType]


def test_a_pipe_that_is_named_is_read_once_and_kept(here: Path) -> None:
    os.mkfifo("pipe")
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save("a.png")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(Path("a.png").read_bytes()))
    writer.start()
    (photo,) = sources.find(["pipe"]).photos
    source = photo.source()
    assert isinstance(source, Brought)
    assert image.read(source).shape == image.read(source).shape == (4, 5, 3)
    writer.join()


def test_an_address_is_fetched_and_what_is_not_there_is_one_error(here: Path, serve) -> None:
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save("a.png")
    Path("page.html").write_text("<html>")
    url = serve(here).url
    assert image.read(sources.one(f"{url}/a.png?size=1")).shape == (4, 5, 3)
    for name in ("none.png", "page.html"):
        with pytest.raises(DownloadError) as caught:
            image.read(sources.one(f"{url}/{name}"))
        assert f"{url}/{name}" in str(caught.value)
    with pytest.raises(Error, match="is no address"):
        image.read(sources.one("http://[::1/a.png"))


def test_a_very_large_file_behind_an_address_is_not_fetched(here: Path, serve, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.png").write_bytes(bytes(100))
    monkeypatch.setattr("mobilenetv2.limits.PICTURE_BYTES", 99)
    served = serve(here)
    with pytest.raises(FileError, match="has 100 bytes: the limit of a picture is 99"):
        image.read(sources.one(f"{served.url}/a.png"))
    assert served.requests == ["HEAD /a.png"]


@pytest.mark.parametrize(
    ("photo", "place"),
    [
        (Photo("p/a/x.jpg", base="p"), "a/x"),
        (Photo("../p/a.b.jpg", base="../p"), "a.b"),
        (Photo("some/where/x.jpg"), "x"),
        (Photo("/x.jpg"), "x"),
        (Photo("-"), "stdin"),
        (Photo("https://x.org/a/cat.jpg?w=1#b"), "cat"),
        (Photo("https://x.org/..%2f..%2fetc"), "2f"),
        (Photo("https://x.org"), "photo"),
        (Photo("https://[::1"), "photo"),
    ],
)
def test_what_is_made_of_a_photo_is_called_like_it_and_lies_within_its_folder(photo: Photo, place: str) -> None:
    assert ".." not in photo.place.parts
    assert not photo.place.is_absolute()
    assert photo.place.as_posix() == place
