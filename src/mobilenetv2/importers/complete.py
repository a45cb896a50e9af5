"""What every import ends with: background, class names, and where the weights came from."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

from mobilenetv2 import files, model_file, spec_fields, zoo
from mobilenetv2.errors import ModelFileError, UsageError, WeightsError
from mobilenetv2.labels import class_names
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import Background, Classifier, Spec
from mobilenetv2.zoo import Entry

_BACKGROUND_NAMES = ("background", "__background__", "???", "dummy")  # as label files of TensorFlow models write it


def complete(
    model: ModelFile, path: Path, *, labels: str | os.PathLike[str] | None, background: Background | None,
    sha256: str, entry: Entry | None,
) -> ModelFile:  # fmt: skip
    """`model`, as a reader made it from `path`, with everything that does not depend on the kind of file.

    `background` None: first of 1001 outputs, else what the reader says. `labels` None: ImageNet's names for
    1000 classes, else none. `entry` is the zoo's, where the file is a published one.

    Raises `UsageError` where labels and classes do not fit, and `WeightsError` where values are not finite.
    """
    info = model.info
    head = info.spec.head
    assert isinstance(head, Classifier), head
    if background is None:
        background = "first" if head.outputs == 1001 else head.background
    head = spec_fields.classifier(outputs=head.outputs, background=background, dropout=head.dropout)
    network = Spec(info.spec.backbone, head)
    notes = list(info.provenance.get("notes", ()))
    ids: tuple[str, ...] = ()
    if labels is not None:
        names = read_labels(labels, network)
    elif head.classes == 1000:
        names, ids = class_names("imagenet").names, class_names("imagenet").ids
        if entry is None:
            notes.append("1000 classes: taken for ImageNet's; --labels FILE names others")
    else:
        names = ()
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


def read_labels(path: str | os.PathLike[str], network: Spec) -> tuple[str, ...]:
    """The names of the real classes in a text file, one per line.

    A name for the background may be among them where the network has one, or where the first line says
    "background" or "???". Raises `FileError`, and `UsageError` for another count of lines or not UTF-8.
    """
    try:
        text = files.read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text file in UTF-8: labels are one name per line") from None
    names = [line.strip() for line in text.rstrip().splitlines()]
    if "" in names:
        raise UsageError(f"{path}: line {names.index('') + 1} is empty: labels are one name per line")
    head = network.head
    if len(names) == head.classes + 1:
        if head.background == "last":
            names.pop()
        elif head.background == "first" or names[0].lower() in _BACKGROUND_NAMES:
            names.pop(0)
    if len(names) != head.classes:
        raise UsageError(f"{path} has {len(names)} labels, the network has {head.classes} classes")
    return tuple(names)


def published(sha256: str) -> Entry | None:
    """The zoo's entry of the file with this hash, where it is published and known."""
    return next((entry for entry in zoo.entries() if entry.sha256 and sha256.startswith(entry.sha256)), None)


def file_sha256(path: Path) -> str:
    """The file's sha256 in hex digits. Raises `FileError`."""
    with files.reading(path) as file, open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
