"""Pascal VOC's form of detection data: an XML file per picture, and text files that list the parts.

Corners are taken as they are written, as the common conversions to COCO and YOLO take them: xmin is the left edge,
xmax the right one, and a box with xmin = xmax has no area. (VOC's own kit counts pixels from 1, both ends included:
read that way, the left and upper edges lie one pixel further out.) Parts of objects, poses and `truncated` are not
looked at.
"""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from mobilenetv2 import files, image, limits
from mobilenetv2.data.annotation import Fault, Layout, StatedBox, StatedPart, StatedPicture, stated_size
from mobilenetv2.data.folders import PARTS, SPLITS, entries, files_with, pictures_in
from mobilenetv2.errors import DatasetError, Error
from mobilenetv2.text import quoted

TRAINVAL = "trainval"
# What XML files are written in. Python has codecs that are no encodings of text, such as unicode_escape.
_ENCODING = re.compile(rb"""^[^<]*<\?xml[^>]*?\bencoding\s*=\s*["']([^"']*)["']""")
_ENCODINGS = re.compile(
    r"utf-?8|utf-?16(le|be)?|iso-10646-ucs-2|(us-)?ascii|iso-?8859-?\d{1,2}|latin-?\d|windows-125\d|cp125\d|koi8-[ru]"
)
_MULTI_BYTE = frozenset(("gb2312", "gbk", "gb18030", "big5", "shift_jis", "shift-jis", "euc-jp", "euc-kr"))
_DECLARATION = 400  # bytes in which it stands
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_PICTURE_FOLDERS = ("jpegimages", "images", "imgs", "img", "pictures", "photos")


def layout(path: Path, *, images: Path | None, labels: Path | None) -> Layout:
    """The parts of a folder that `recognises` knows; `images` and `labels` are the pictures' and XML files' folders.

    `ImageSets/Main` divides it; where that has no train.txt, trainval.txt is the train part.
    """
    folders = {part: folder for folder in entries(path)[0] if (part := SPLITS.get(folder.name.lower()))}
    divided = {part: folders[part] for part in PARTS if part in folders and files_with(folders[part], ".xml")}
    if divided and labels is None:
        return Layout("voc", tuple(divided), lambda part: _read_all(divided[part], images or divided[part]))
    annotations = labels or next((f for f in entries(path)[0] if f.name == "Annotations"), path)
    pictures = images or _picture_folder(path, annotations)
    lists = {part: path / "ImageSets" / "Main" / f"{part}.txt" for part in (*PARTS, TRAINVAL)}
    lists = {part: file for part, file in lists.items() if file.is_file()}
    if not lists:
        return Layout("voc", ("all",), lambda _: _read_all(annotations, pictures))
    if "train" not in lists and TRAINVAL in lists:
        lists["train"] = lists[TRAINVAL]
    return Layout(
        "voc",
        tuple(part for part in PARTS if part in lists),
        lambda part: _read_list(lists[part], annotations, pictures),
        more=(TRAINVAL,) if TRAINVAL in lists else (),
    )


def recognises(folder: Path) -> bool:
    """Whether XML files lie in the folder, its `Annotations`, or the folders of its parts."""
    inner = [f for f in entries(folder)[0] if f.name == "Annotations" or f.name.lower() in SPLITS]
    return any(files_with(place, ".xml") for place in (folder, *inner))


def _picture_folder(path: Path, annotations: Path) -> Path:
    """Beside the XML files, or a folder of pictures near them."""
    if pictures_in(annotations):
        return annotations
    near = [folder for base in dict.fromkeys((path, annotations.parent)) for folder in entries(base)[0]]
    named = [folder for name in _PICTURE_FOLDERS for folder in near if folder.name.lower() == name]
    if not named and not pictures_in(path):
        raise DatasetError(f"{path}: the pictures of its XML files were not found: name their folder with --images")
    return named[0] if named else path


def _read_all(annotations: Path, images: Path) -> StatedPart:
    pictures = _pictures(images)
    documents = {file.stem: file for file in files_with(annotations, ".xml")}
    return _read(sorted(documents.keys() | pictures.keys()), documents, pictures, annotations, images)


def _read_list(file: Path, annotations: Path, images: Path) -> StatedPart:
    documents = {document.stem: document for document in files_with(annotations, ".xml")}
    stems: list[str] = []
    for line in files.read_bytes(file, limit=limits.LIST_BYTES).decode("utf-8", "replace").splitlines():
        if line.strip():
            whole = line.strip()
            stems.append(whole if whole in documents else whole.split()[0])
    return _read(list(dict.fromkeys(stems)), documents, _pictures(images), annotations, images)


def _pictures(folder: Path) -> dict[str, Path]:
    return {file.stem: file for file in reversed(pictures_in(folder))}


def _read(
    stems: list[str], documents: Mapping[str, Path], pictures: Mapping[str, Path], annotations: Path, images: Path
) -> StatedPart:
    found: list[StatedPicture] = []
    faults: list[Fault] = []
    for stem in stems:
        document, picture = documents.get(stem), pictures.get(stem)
        if document is None:
            value = f"{stem}.xml is not in {annotations}"
            kind, where = ("no picture", images / stem) if picture is None else ("no annotation", picture)
            faults.append(Fault(kind, str(where), value, "left out"))
            continue
        try:
            one = _stated(document, picture, images, faults)
        except Error as error:
            faults.append(Fault("malformed", str(document), str(error).removeprefix(f"{document}: "), "left out"))
            continue
        if one is not None:
            found.append(one)
    if not found:
        reason = f", {faults[0]}" if faults else ""
        raise DatasetError(
            f"{annotations} and {images}: no picture has an XML file of its name{reason}: "
            "name the folders with --images and --labels"
        )
    return StatedPart(found, (), faults)


def _stated(document: Path, picture: Path | None, images: Path, faults: list[Fault]) -> StatedPicture | None:
    root = _parse(document)
    if picture is None:  # the file's own name counts first: `filename` is often forgotten when files are renamed
        name = (root.findtext("filename") or "").replace("\\", "/").rpartition("/")[2].strip()
        picture = images / name
        if not os.path.isfile(picture):
            faults.append(Fault("no picture", str(document), f"{name or document.stem} is not in {images}", "left out"))
            return None
    boxes: list[StatedBox] = []
    for number, one in enumerate(root.findall("object"), start=1):
        label = " ".join((one.findtext("name") or "").split())
        corners = one.find("bndbox")
        try:
            x1, y1, x2, y2 = (float(corners.findtext(key, "")) for key in _CORNERS)  # pyright: ignore[reportOptionalMemberAccess]
        except (AttributeError, ValueError):
            label = ""
        else:
            difficult = (one.findtext("difficult") or "").strip() == "1"
            boxes.append(StatedBox(number, label, (x1, y1, x2, y2), difficult))
        if not label:
            value = f"object {number}: a name, and a bndbox with {', '.join(_CORNERS)} are expected"
            faults.append(Fault("malformed", str(document), value, "left out"))
    size = _size(root)
    try:
        size = size or image.size(picture)
    except Error as error:
        faults.append(Fault("unreadable", str(picture), str(error), "left out"))
        return None
    return StatedPicture(picture, str(document), size, [box for box in boxes if box.label])


def _size(root: ET.Element) -> tuple[int, int] | None:
    """Height and width as they are stated."""
    try:
        height, width = (int(float(root.findtext(f"size/{key}", ""))) for key in ("height", "width"))
    except (OverflowError, ValueError):
        return None
    return stated_size(height, width)


class _Tree(ET.TreeBuilder):
    """Refuses declarations: entities can blow a file of a few hundred bytes up to gigabytes."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        raise DatasetError("has a DOCTYPE, which no annotation needs: remove it")


def _parse(document: Path) -> ET.Element:
    parser = ET.XMLParser(target=_Tree())
    content = files.read_bytes(document, limit=limits.XML_BYTES)
    stated = _ENCODING.search(content[:_DECLARATION].replace(b"\0", b""))
    encoding = stated[1].decode("ascii", "replace").lower() if stated is not None else "utf-8"
    if not _ENCODINGS.fullmatch(encoding) and encoding not in _MULTI_BYTE:
        raise DatasetError(f"{document}: is in the encoding {quoted(encoding)}: save it as UTF-8")
    try:
        parser.feed(content.decode(encoding) if encoding in _MULTI_BYTE else content)
        root = parser.close()
    except (ET.ParseError, LookupError, ValueError) as error:
        raise DatasetError(f"{document}: is not XML: {error}") from None
    return root
