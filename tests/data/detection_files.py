"""One small detection data set, written in each of the three forms, and what was read of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilenetv2.data.annotation import DetectionSample
from mobilenetv2.data.detection import DetectionData

Box = tuple[float, float, float, float]

NAMES = ("person", "dog", "tv monitor")


@dataclass(frozen=True)
class Example:
    """A picture to write: its name without a suffix, and its objects (label, box, difficult)."""

    name: str
    height: int
    width: int
    objects: tuple[tuple[str, Box, bool], ...] = ()


EXAMPLES = (
    Example("a", 40, 60, (("dog", (1, 2, 31, 22), False), ("person", (0, 0, 60, 40), True))),
    Example("b", 50, 30, (("tv monitor", (10.5, 20.25, 12.5, 49.75), False), ("dog", (3, 4, 9, 8), False))),
    Example("c", 20, 20),
)


def write_pictures(folder: Path, examples: Sequence[Example], suffix: str = ".png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, example in enumerate(examples):
        pixels = np.random.default_rng(i).integers(0, 256, (example.height, example.width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{example.name}{suffix}")


def coco_json(examples: Sequence[Example], names: Sequence[str] = NAMES, *, gap: int = 7) -> dict[str, Any]:
    """Category ids 1, 1 + gap, 1 + 2 gap ...; difficult objects have "ignore"."""
    annotations = [
        {
            "id": 100 * i + j,
            "image_id": 1000 + i,
            "category_id": 1 + gap * names.index(label),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "iscrowd": 0,
            "ignore": int(difficult),
        }
        for i, example in enumerate(examples)
        for j, (label, (x1, y1, x2, y2), difficult) in enumerate(example.objects)
    ]
    images = [
        {"id": 1000 + i, "file_name": f"{example.name}.png", "height": example.height, "width": example.width}
        for i, example in enumerate(examples)
    ]
    categories = [{"id": 1 + gap * i, "name": name} for i, name in enumerate(names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder: Path, examples: Sequence[Example] = EXAMPLES, names: Sequence[str] = NAMES) -> Path:
    """`annotations.json` beside `images`."""
    write_pictures(folder / "images", examples)
    (folder / "annotations.json").write_text(json.dumps(coco_json(examples, names)))
    return folder


def voc_xml(example: Example) -> str:
    objects = "".join(
        f"<object><name>{label}</name><difficult>{int(difficult)}</difficult><part><name>head</name><bndbox><xmin>1</xmin>"
        f"<ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part><bndbox><xmin>{x1!r}</xmin><ymin>{y1!r}</ymin>"
        f"<xmax>{x2!r}</xmax><ymax>{y2!r}</ymax></bndbox></object>"
        for label, (x1, y1, x2, y2), difficult in example.objects
    )
    size = f"<size><width>{example.width}</width><height>{example.height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{example.name}.png</filename>{size}{objects}</annotation>"


def write_voc(folder: Path, examples: Sequence[Example] = EXAMPLES) -> Path:
    """`Annotations` and `JPEGImages`, not divided."""
    write_pictures(folder / "JPEGImages", examples)
    (folder / "Annotations").mkdir(exist_ok=True)
    for example in examples:
        (folder / "Annotations" / f"{example.name}.xml").write_text(voc_xml(example))
    return folder


def yolo_text(example: Example, names: Sequence[str] = NAMES) -> str:
    return "".join(
        f"{names.index(label)} {(x1 + x2) / 2 / example.width!r} {(y1 + y2) / 2 / example.height!r} "
        f"{(x2 - x1) / example.width!r} {(y2 - y1) / example.height!r}\n"
        for label, (x1, y1, x2, y2), _ in example.objects
    )


def write_yolo(folder: Path, examples: Sequence[Example] = EXAMPLES, names: Sequence[str] = NAMES) -> Path:
    """`images`, `labels` and classes.txt, not divided."""
    write_pictures(folder / "images", examples)
    write_labels(folder / "labels", examples, names)
    (folder / "classes.txt").write_text("\n".join(names) + "\n")
    return folder


def write_labels(folder: Path, examples: Sequence[Example], names: Sequence[str] = NAMES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for example in examples:
        (folder / f"{example.name}.txt").write_text(yolo_text(example, names))


WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}


Objects = list[tuple[str, tuple[float, ...], bool]]


def objects(data: DetectionData) -> dict[str, Objects]:
    """What was read, as `Example.objects` has it."""
    return {sample.path.stem: objects_of(sample, data.names) for sample in data.samples}


def objects_of(sample: DetectionSample, names: tuple[str, ...]) -> Objects:
    rows = zip(sample.labels.tolist(), sample.boxes_xyxy.round(6).tolist(), sample.ignored.tolist(), strict=True)
    return [(names[label], tuple(box), ignored) for label, box, ignored in rows]


def stated(*examples: Example, difficult: bool = True) -> dict[str, Objects]:
    return {
        example.name: [(label, tuple(map(float, box)), hard and difficult) for label, box, hard in example.objects]
        for example in examples
    }
