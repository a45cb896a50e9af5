"""What every import ends with: background, class names, and where the weights came from."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from pathlib import Path

from mobilenetv2 import files, limits, model_file, spec_fields, zoo
from mobilenetv2.errors import ModelFileError, UsageError, WeightsError
from mobilenetv2.labels import class_names
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import Background, Classifier, DeepLab, Head, Spec
from mobilenetv2.text import quoted
from mobilenetv2.zoo import Entry

_DATA_SETS = {  # by count of classes
    "classification": {1000: "imagenet"},
    "detection": {20: "voc", 80: "coco"},
    "segmentation": {20: "voc"},
}
_CALLED = {"imagenet": "ImageNet's", "voc": "Pascal VOC's", "coco": "COCO's"}
# Each reads any text in time that grows with its length: they begin at a line, an item, a word.
_LABEL_MAP = re.compile(r"^[ \t]*item\s*{", re.MULTILINE)
_LABEL_MAP_ITEM = re.compile(r"item\s*{((?:(?!item\s*{)[^}])*)}")
_LABEL_MAP_FIELD = r"(?<!\w)(\w+)\s*:\s*(?:[\"']([^\"']*)[\"']|(\S+))"
BACKGROUND_NAMES = ("background", "__background__", "???", "dummy")  # as label files of TensorFlow models write it


def complete(
    model: ModelFile, path: Path, *, labels: str | os.PathLike[str] | None, background: Background | None,
    sha256: str, entry: Entry | None,
) -> ModelFile:  # fmt: skip
    """`model`, as a reader made it from `path`, with everything that does not depend on the kind of file.

    `background` None: first of a classifier's 1001 outputs, else what the reader says. `labels` None: the reader's, or
    those of the data set that networks of so many classes are nearly always for, else none. `entry` is the zoo's,
    where the file is a published one.

    Raises `UsageError` where labels and classes do not fit, and `WeightsError` where values are not finite.
    """
    info = model.info
    head = info.spec.head
    if background is None and isinstance(head, Classifier) and head.outputs == 1001 and not info.labels:
        background = "first" if head.background == "none" else None
    if background is not None:
        head = _with_background(head, background)
    network = Spec(info.spec.backbone, head)
    notes = list(info.provenance.get("notes", ()))
    names, ids = info.labels, info.label_ids
    if head != info.spec.head:  # a reader's names leave out what it took for the background
        names, ids = _without_background(names, info.spec.head, head), ()
    data_set = _DATA_SETS[head.task].get(head.classes)
    if labels is not None:
        names, ids = read_labels(labels, network), ()
    elif names:
        pass
    elif data_set is not None and not info.labels:
        names, ids = class_names(data_set).names, class_names(data_set).ids
        if entry is None:
            notes.append(f"{head.classes} classes: taken for {_CALLED[data_set]}; --labels FILE names others")
    else:
        notes.append('class names unknown: shown as "class 0", "class 1", ...; --labels FILE gives them')
    known = {} if entry is None else {"published": entry.name, "url": entry.url, "licence": entry.licence}
    provenance = {**info.provenance, "file": path.name, "sha256": sha256, **known, "notes": notes}
    info = dataclasses.replace(info, spec=network, labels=names, label_ids=ids, provenance=provenance)
    model = ModelFile(info, model.tensors)
    try:
        model_file.check(model, name=os.fspath(path))
    except ModelFileError as error:
        raise WeightsError(str(error)) from None
    return model


def _without_background(names: tuple[str, ...], named: Head, head: Head) -> tuple[str, ...]:
    """The `names` of the classes of `named` as those of `head`, which has another background; () if unknown."""
    if not names or named.background != "none":
        return ()
    return names[1:] if head.background == "first" else names[:-1]


def _with_background(head: Head, background: Background) -> Head:
    """The same outputs with another one of them, or none, as the background. Raises `SpecError`."""
    if isinstance(head, Classifier):
        return spec_fields.classifier(outputs=head.outputs, background=background, dropout=head.dropout)
    fields = {field.name: getattr(head, field.name) for field in dataclasses.fields(head)}
    classes = head.outputs - (background != "none")
    checked = spec_fields.deeplab if isinstance(head, DeepLab) else spec_fields.ssdlite
    return checked(**{**fields, "classes": classes, "background": background})


def read_labels(path: str | os.PathLike[str], network: Spec) -> tuple[str, ...]:
    """The names of the real classes in a text file, one per line, or in a label map (see `_label_map`).

    A name for the background may be among them where the network has one, or where the first line says
    "background" or "???". Raises `FileError`, and `UsageError` for another count of names or not UTF-8.
    """
    try:
        text = files.read_bytes(path, limit=limits.GRAPH_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text file in UTF-8: labels are one name per line") from None
    head = network.head
    if _LABEL_MAP.search(text):
        return _label_map(path, text, head.classes)
    names = [line.strip() for line in text.rstrip().splitlines()]
    if "" in names:
        raise UsageError(f"{path}: line {names.index('') + 1} is empty: labels are one name per line")
    if len(names) == head.classes + 1:
        if head.background == "last":
            names.pop()
        elif head.background == "first" or names[0].lower() in BACKGROUND_NAMES:
            names.pop(0)
    if len(names) != head.classes:
        raise UsageError(f"{path} has {len(names)} labels, the network has {head.classes} classes")
    return tuple(names)


def _label_map(path: str | os.PathLike[str], text: str, classes: int) -> tuple[str, ...]:
    """The names in a label map of Caffe's SSD or of TensorFlow: `item { name: "..." label: 1 display_name: "..." }`.

    Its numbers (`label` or `id`) count from 1, 0 is the background; one that is missing is "class 11".
    """
    names: dict[int, str] = {}
    for item in _LABEL_MAP_ITEM.findall(text):
        fields = {key: text or bare for key, text, bare in re.findall(_LABEL_MAP_FIELD, item)}
        number = fields.get("label", fields.get("id", ""))
        name = fields.get("display_name") or fields.get("name")
        if not number.isdecimal() or len(number) > 9 or not name:
            raise UsageError(f"{path}: an item lacks its number or its name: {quoted(' '.join(item.split()), 60)}")
        names[int(number)] = name
    names.pop(0, None)
    if not names or max(names) > classes:
        raise UsageError(f"{path} has labels up to number {max(names, default=0)}, the network has {classes} classes")
    return tuple(names.get(number, f"class {number - 1}") for number in range(1, classes + 1))


def published(sha256: str) -> Entry | None:
    """The zoo's entry of the file with this hash, where it is published and known."""
    return next((entry for entry in zoo.entries() if entry.sha256 and sha256.startswith(entry.sha256)), None)


def file_sha256(path: Path) -> str:
    """The file's sha256 in hex digits. Raises `FileError`."""
    with files.reading(path) as file, open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
