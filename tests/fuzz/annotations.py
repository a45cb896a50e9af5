"""Data sets whose annotations are text: COCO's JSON with boxes and outlines, VOC's XML, YOLO's lists and data.yaml."""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from data.detection_files import EXAMPLES, NAMES, coco_json, voc_xml, write_labels, write_pictures, yolo_text
from data.segmentation_files import MASKS, write_picture
from data.segmentation_files import coco_json as outlines_json
from fuzz import values
from fuzz.sandbox import Case, WrongAnswerError
from fuzz.targets import Maker, Target

_BOXES = ([0, 0, 10, 10], [1.5, 2.5, 1e9, 3], [-5, -5, 100, 100], [0, 0, 0, 0], [1, 2, 3])
_OUTLINES = (
    [[1, 1, 3, 1, 3, 3]], [[0, 0, 1e6, 0, 3, 3]], {"size": [4, 6], "counts": [2, 3, 19]},
    {"size": [4, 6], "counts": "22C0"}, {"size": [4], "counts": [24]}, {"size": [4, 6], "counts": "o" * 30},
    {"size": "", "counts": ""}, [[1, 1, 3, 1]], [], [[0.1] * 1_000],
)  # fmt: skip
_ALIASES = 9  # of aliases of aliases: nine times nine times ...


def detection(place: Path, *, images: Path | None = None) -> Callable[[], None]:
    """Check the data set, as `mobilenetv2 check` does, and look at the boxes that came through."""
    import numpy as np

    from mobilenetv2.data import detection as opened
    from mobilenetv2.data import detection_check

    def run() -> None:
        places = opened.Places(images=images)
        parts = opened.open_parts(place, places=places)
        for data in parts.values():
            for sample in data.samples:
                x1, y1, x2, y2 = sample.boxes_xyxy.T
                if not (np.isfinite(sample.boxes_xyxy).all() and (x1 < x2).all() and (y1 < y2).all()):
                    raise WrongAnswerError(f"a box that is empty or not finite: {sample.boxes_xyxy}")
        found = detection_check.check(place, parts, places=places)
        found.text()
        json.dumps(found.to_json())

    return run


def segmentation(place: Path) -> Callable[[], None]:
    from mobilenetv2.data import segmentation as opened
    from mobilenetv2.data import segmentation_check

    def run() -> None:
        found = segmentation_check.check(place, opened.open_parts(place))
        found.text()
        json.dumps(found.to_json())

    return run


def _prepare_boxes(folder: Path) -> Maker:
    write_pictures(folder / "images", EXAMPLES)
    tree = coco_json(EXAMPLES)
    hints = (*_BOXES, 1000, 1001, "a.png", "../images/a.png", 1, 8, 15, 60, 40, {"id": 1, "name": "x"})
    return _json_maker(folder, tree, hints, detection)


def _prepare_outlines(folder: Path) -> Maker:
    for name, mask in MASKS.items():
        write_picture(folder / "images" / f"{name}.png", mask)
    return _json_maker(folder, outlines_json(), (*_OUTLINES, 1, 2, 10, 20, 4, 6), segmentation)


def _json_maker(
    folder: Path, tree: dict[str, Any], hints: tuple[Any, ...], ways: Callable[[Path], Callable[[], None]]
) -> Maker:
    (folder / "instances.json").write_text(json.dumps(tree))
    ways(folder / "instances.json")()
    lists = {key: value for key, value in tree.items() if value}

    def make(rng: random.Random, here: Path) -> Case:
        (here / "images").symlink_to(folder / "images")
        if rng.random() < 0.85:  # one object or picture, or the whole
            changed: Any = copy.deepcopy(tree)
            for _ in range(1 + int(rng.expovariate(1.0))):
                entries = changed[rng.choice(list(lists))]
                i = rng.randrange(len(entries))
                entries[i] = values.changed(rng, entries[i], hints=hints, times=1)
        else:
            changed = values.changed(rng, tree, hints=hints)
        data = values.dumps(changed).encode("utf-8", "surrogatepass")
        path = here / "instances.json"
        path.write_bytes(values.bytes_changed(rng, data) if rng.random() < 0.1 else data)
        place = path if rng.random() < 0.5 else here

        def sound() -> bool:
            read = json.loads(path.read_bytes())
            return all(isinstance(read[key], list) for key in tree)

        return Case(ways(place), sound)

    return make


# -- VOC


def _prepare_voc(folder: Path) -> Maker:
    write_pictures(folder / "JPEGImages", EXAMPLES)
    documents = {example.name: voc_xml(example) for example in EXAMPLES}
    (folder / "Annotations").mkdir()
    for name, text in documents.items():
        (folder / "Annotations" / f"{name}.xml").write_text(text)
    detection(folder)()

    def make(rng: random.Random, here: Path) -> Case:
        (here / "JPEGImages").symlink_to(folder / "JPEGImages")
        (here / "Annotations").mkdir()
        for name, text in documents.items():
            changed = _xml_changed(rng, text) if rng.random() < 0.6 else text.encode()
            (here / "Annotations" / f"{name}.xml").write_bytes(changed)
        if rng.random() < 0.2:
            lists = here / "ImageSets" / "Main"
            lists.mkdir(parents=True)
            for part in rng.sample(("train", "val", "trainval", "test"), 2):
                content = values.text_changed(rng, "a\nb 1\nc -1\n", separators=r"[\s]+")
                (lists / f"{part}.txt").write_bytes(content.encode("utf-8", "surrogatepass"))

        def sound() -> bool:
            return any(_parses(file) for file in sorted((here / "Annotations").iterdir()))

        return Case(detection(here), sound)

    return make


def _parses(file: Path) -> bool:
    """Whether another reader takes the document; one with entities of its own, which could take it for ever, is no."""

    def refuse(*_: object) -> None:
        raise ValueError

    parser = expat.ParserCreate()
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(file.read_bytes(), True)
    except (expat.ExpatError, ValueError, LookupError):
        return False
    return True


def _xml_changed(rng: random.Random, text: str) -> bytes:
    """The tree with elements and texts changed; then, at times, what a tree does not show: the declaration, an
    encoding, entities, nesting, bytes."""
    root = ElementTree.fromstring(text)
    for _ in range(1 + int(rng.expovariate(1.0))):
        nodes = list(root.iter())
        node, roll = rng.choice(nodes), rng.random()
        if roll < 0.6:
            node = rng.choice([one for one in nodes if one.text])
            number = re.fullmatch(r"\d+(\.\d+)?", node.text or "", re.ASCII)
            value = values.near(rng, float(node.text or 0) if number else node.text or "")
            node.text = "".join(
                letter
                for letter in _shown(value)
                if letter in "\t\n\r" or " " <= letter < "\ud800" or letter > "\ue000"
            )
        elif roll < 0.75:
            node.append(copy.deepcopy(rng.choice(nodes)))
        elif roll < 0.9:
            parent = next((one for one in nodes if node in list(one)), None)
            if parent is not None:
                parent.remove(node)
        elif roll < 0.95:
            node.tag = rng.choice(("name", "bndbox", "xmin", "object", "size", "width", "x"))
        elif len(nodes) < 300:  # once: again, it would grow to millions
            node.extend(copy.deepcopy(list(root)) * rng.choice((1, 10, 300)))
    data = ElementTree.tostring(root)
    if rng.random() < 0.25:
        encoding = rng.choice(
            ("utf-8", "utf-16", "latin-1", "unicode_escape", "utf-7", "rot13", "idna", "hex", "punycode", "cp037", "x")
        )
        declaration = f'<?xml version="1.0" encoding="{encoding}"?>'.encode()
        bomb = (
            b'<!DOCTYPE a [<!ENTITY a "ha">'
            + b"".join(b'<!ENTITY %c "&%c;&%c;">' % (98 + i, 97 + i, 97 + i) for i in range(24))
            + b"]>"
        )
        nested = b"<annotation>" * rng.choice((100, 100_000))
        data = rng.choice(
            (
                declaration + data,
                bomb + data,
                b"<!-- -->" * 1_000 + data,
                nested + data,
                declaration + data + b"\\x4" * 9,
            )
        )
    return values.bytes_changed(rng, data) if rng.random() < 0.15 else data


def _shown(value: Any) -> str:
    try:
        return str(value)
    except ValueError:
        return "9" * 5_000


# -- YOLO


def _prepare_yolo(folder: Path) -> Maker:
    import yaml

    write_pictures(folder / "images", EXAMPLES)
    write_labels(folder / "labels", EXAMPLES)
    plan = {"path": ".", "train": "images", "val": "images", "nc": len(NAMES), "names": list(NAMES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(plan))
    detection(folder)()
    labels = {example.name: yolo_text(example) for example in EXAMPLES}

    def make(rng: random.Random, here: Path) -> Case:
        (here / "images").symlink_to(folder / "images")
        (here / "labels").mkdir()
        for name, text in labels.items():
            changed = values.text_changed(rng, text) if rng.random() < 0.4 else text
            (here / "labels" / f"{name}.txt").write_bytes(changed.encode("utf-8", "surrogatepass"))
        roll = rng.random()
        path = here / "data.yaml"
        if roll < 0.8:
            path.write_bytes(_yaml_changed(rng, plan))
        elif roll < 0.9:
            (here / "classes.txt").write_bytes(
                values.text_changed(rng, "\n".join(NAMES)).encode("utf-8", "surrogatepass")
            )
        else:
            path = here / "obj.data"
            text = "classes = 3\ntrain = train.txt\nvalid = train.txt\nnames = obj.names\n"
            for name, content in (
                ("obj.data", text),
                ("train.txt", "images/a.png\nimages/b.png\n"),
                ("obj.names", "\n".join(NAMES)),
            ):
                changed = values.text_changed(rng, content) if rng.random() < 0.6 else content
                (here / name).write_bytes(changed.encode("utf-8", "surrogatepass"))

        def sound() -> bool:
            return (
                path.suffix != ".yaml"
                or not path.exists()
                or isinstance(yaml.load(path.read_bytes(), yaml.BaseLoader), dict)
            )

        return Case(detection(here if rng.random() < 0.7 or not path.exists() else path), sound)

    return make


def _yaml_changed(rng: random.Random, plan: dict[str, Any]) -> bytes:
    """The plan as JSON, which is YAML too, a line for each key, so that any value may stand there, and aliases too."""
    tree: dict[str, Any] = dict(plan)
    if rng.random() < 0.3:
        tree["names"] = dict(enumerate(NAMES))
    keys = list(tree)
    for _ in range(1 + int(rng.expovariate(1.0))):
        key = rng.choice(keys)
        if rng.random() < 0.12:
            tree.pop(key, None)
        elif key in tree:
            tree[key] = values.changed(
                rng, [tree[key]], times=1, hints=("images", ["images"], 3, list(NAMES), {"0": "x"})
            )
            tree[key] = tree[key][0] if isinstance(tree[key], list) and tree[key] else tree[key]
    lines = [f"{key}: {values.dumps(value)}" for key, value in tree.items()]
    if rng.random() < 0.15:
        lines[0:0] = _growing(rng)
        i = rng.randrange(_ALIASES, len(lines))
        lines[i] = lines[i].partition(":")[0] + rng.choice((": *i", ": [*i]", ": {0: *i}", ": [x, *i, y]"))
    if rng.random() < 0.1:
        lines.append(
            rng.choice(
                ("a: &x [*x]", "? [1, 2]\n: 3", "!!python/object:os.system [x]", "<<: *x", "---", "a: b: c", "\tx: 1")
            )
        )
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    return values.bytes_changed(rng, data) if rng.random() < 0.1 else data


def _growing(rng: random.Random) -> list[str]:
    """Lists of aliases of the list before, so that a few lines stand for any number of values."""
    times = rng.choice((1, 2, 9, 30))
    names = "abcdefghi"
    first = f"a0: &a [{', '.join(['x'] * times)}]"
    return [
        first,
        *(f"{name}0: &{name} [{', '.join([f'*{before}'] * times)}]" for before, name in itertools.pairwise(names)),
    ]


TARGETS = (
    Target("coco", _prepare_boxes, 1.5),
    Target("outlines", _prepare_outlines, 1.5),
    Target("voc", _prepare_voc, 1.5),
    Target("yolo", _prepare_yolo, 1.5),
)
