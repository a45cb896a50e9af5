"""Data sets that are files in folders: a folder per class, lists of files, pictures with masks, shards of tar."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from data.segmentation_files import MASKS, NAMES, write_mask, write_picture
from fuzz import values
from fuzz.annotations import segmentation
from fuzz.archives import tar_changed, tar_member
from fuzz.pictures import changed_picture, seeds, small
from fuzz.sandbox import Case
from fuzz.targets import Maker, Target

_NAMES = (
    "a.jpg", "b.png", "c.JPG", "d.heic", "e.txt", "f.jpg.png", ".g.jpg", "h\x1b[31m.png", "i\nj.jpg", "k\u202e.png",
    "l" * 240 + ".png", " m .jpg", "n.jpg ", "Thumbs.db", "o", "-p.png", "q%s.jpg", "人.png", "r\udcff.png",
)  # fmt: skip
_FOLDERS = (
    "cat",
    "dog",
    "train",
    "val",
    "test",
    "images",
    "masks",
    "0",
    "1",
    "10",
    "background",
    "x\x1b]0;t\x07y",
    "e\u0301",
    "Cat",
    "a b",
    ".hidden",
)


def classification(place: str | Path) -> Callable[[], None]:
    """Check the data set, as `mobilenetv2 check` does."""
    from mobilenetv2.data import check

    def run() -> None:
        parts = check.open_parts(place)
        for data in parts.values():
            _ = data.notes
        found = check.check(place, parts)
        found.text()
        json.dumps(found.to_json())

    return run


# -- a folder per class, and lists


def _prepare_folders(folder: Path) -> Maker:
    good = {kind: files[0] for kind, files in seeds().items()}
    (folder / "set" / "cat").mkdir(parents=True)
    (folder / "set" / "cat" / "a.png").write_bytes(good["png"])
    classification(folder / "set")()

    def make(rng: random.Random, here: Path) -> Case:
        root = here / "set"
        root.mkdir()
        written: list[str] = []
        for _ in range(rng.randint(1, 4)):
            place = root.joinpath(*rng.choices(_FOLDERS, k=rng.choice((1, 1, 1, 2, 3))))
            place.mkdir(parents=True, exist_ok=True)
            for _ in range(rng.randint(0, 3)):
                path = place / rng.choice(_NAMES)
                if not os.path.lexists(path):
                    _put(rng, path, rng.choice(sorted(good.items())))
                    written.append(os.path.relpath(path, root))
        if rng.random() < 0.6:
            return Case(classification(root), lambda: any(root.iterdir()))
        rows = "".join(f"{name},{rng.choice(_FOLDERS)}\n" for name in written) or "a.jpg,cat\n"
        rows = rng.choice(("", "path,label\n", "filename,label\n")) + rows
        content = values.text_changed(rng, rows, separators=r"[\n,]+") if rng.random() < 0.8 else rows
        data = content.encode("utf-8", "surrogatepass")
        path = root / rng.choice(("list.csv", "list.txt"))
        path.write_bytes(values.bytes_changed(rng, data) if rng.random() < 0.2 else data)
        return Case(classification(path), lambda: "," in path.read_text("utf-8-sig"))

    return make


def _put(rng: random.Random, path: Path, picture: tuple[str, bytes]) -> None:
    """A picture, a damaged one, or what else may lie in a folder: links, pipes, sockets, folders, empty files."""
    kind, data = picture
    roll = rng.random()
    if roll < 0.6:
        path.write_bytes(data)
    elif roll < 0.8:
        path.write_bytes(changed_picture(rng, kind, data))
    elif roll < 0.84:
        path.write_bytes(rng.choice((b"", b"\0", rng.randbytes(50))))
    elif roll < 0.88:
        os.mkfifo(path)
    elif roll < 0.92:
        path.mkdir()
    else:
        path.symlink_to(rng.choice(("/dev/zero", "/nothing", ".", "..", path.name, "a.jpg", "/proc/self/environ")))


# -- masks


def _prepare_masks(folder: Path) -> Maker:
    for name, mask in MASKS.items():
        write_picture(folder / "images" / f"{name}.png", mask)
        write_mask(folder / "masks" / f"{name}.png", mask)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    segmentation(folder)()
    masks = {name: (folder / "masks" / f"{name}.png").read_bytes() for name in MASKS}
    others = [io.BytesIO() for _ in range(5)]
    for stream, (mode, kind) in zip(
        others, (("P", "png"), ("RGB", "png"), ("L", "bmp"), ("I;16", "tiff"), ("RGBA", "png")), strict=True
    ):
        small(mode, (6, 4)).save(stream, kind)

    def make(rng: random.Random, here: Path) -> Case:
        shutil.copytree(folder / "images", here / "images")
        voc = rng.random() < 0.3
        place = here / ("SegmentationClass" if voc else "masks")
        if voc:
            (here / "images").rename(here / "JPEGImages")
        place.mkdir()
        for name, data in masks.items():
            path, roll = place / f"{name}{rng.choice(('', '', '', '_mask', 'x'))}.png", rng.random()
            if roll < 0.5:
                path.write_bytes(changed_picture(rng, "png", data))
            elif roll < 0.6:
                path.write_bytes(rng.choice(others).getvalue())
            elif roll < 0.65:
                _put(rng, path, ("png", data))
            elif roll < 0.95:
                path.write_bytes(data)
        roll = rng.random()
        if roll < 0.5:
            lines = rng.choice(
                (
                    "\n".join(NAMES),
                    "name,r,g,b\nbackground,0,0,0\ncat,128,0,0\n",
                    "0 background\n1 cat\n2 dog\n255 void\n",
                )
            )
            content = values.text_changed(rng, lines) if rng.random() < 0.7 else lines
            (here / rng.choice(("classes.txt", "labelmap.txt", "class_dict.csv"))).write_bytes(
                content.encode("utf-8", "surrogatepass")
            )
        elif roll < 0.6:
            tree = values.changed(rng, [{"name": "cat", "id": 1, "color": [1, 2, 3]}], hints=(NAMES, [0, 0, 0]))
            (here / "classes.json").write_bytes(values.dumps(tree).encode("utf-8", "surrogatepass"))
        return Case(segmentation(here), lambda: any(place.iterdir()))

    return make


# -- shards


def _prepare_shards(folder: Path) -> Maker:
    picture = seeds()["png"][0]
    members = [
        tar_member(f"{i}.{suffix}", content)
        for i, label in enumerate(("cat", "dog"))
        for suffix, content in (("png", picture), ("cls", label.encode()))
    ]
    members += [tar_member("2.jpg", seeds()["jpeg"][0]), tar_member("2.json", b'{"label": "cat", "cls": 1}')]
    (folder / "good.tar").write_bytes(b"".join(members) + bytes(1024))
    classification(folder / "good.tar")()

    def make(rng: random.Random, here: Path) -> Case:
        shards = [here / f"{part}-{i}.tar" for i, part in enumerate(rng.choice((("x",), ("train", "val"), ("x", "x"))))]
        for shard in shards:
            changed = list(members)
            if rng.random() < 0.3:
                tree = values.changed(rng, {"label": "cat", "cls": 1}, gentle=0.3)
                changed[-1] = tar_member("2.json", values.dumps(tree).encode("utf-8", "surrogatepass"))
            if rng.random() < 0.3:
                changed[1] = tar_member("0.cls", rng.choice(values.TEXTS).encode("utf-8", "surrogatepass"))
            shard.write_bytes(tar_changed(rng, changed))
        if rng.random() < 0.2:
            (here / "classes.txt").write_bytes(
                values.text_changed(rng, "cat\ndog\nowl").encode("utf-8", "surrogatepass")
            )
        names = (
            str(shards[0]),
            str(here),
            f"{here}/{{train,x,val}}-{{0..1}}.tar",
            f"{here}/x-{{0..99999999}}.tar",
            f"{here}/{{",
        )
        place = rng.choice((*names[:2] * 4, *names[2:]))

        def sound() -> bool:
            with tarfile.open(shards[0]) as tar:
                return tar.next() is not None

        return Case(classification(place), sound)

    return make


TARGETS = (
    Target("folder", _prepare_folders, 1.2),
    Target("masks", _prepare_masks, 1.0),
    Target("shards", _prepare_shards, 1.2),
)
