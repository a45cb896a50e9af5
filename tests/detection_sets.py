"""Small detection sets on disk: generated shapes, and what boxes a test needs, in COCO's form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mobilenetv2.data import shapes

Boxes = list[tuple[float, float, float, float, int]]  # x, y, width, height, class


def write_coco(folder: Path, pictures: list[tuple[np.ndarray, Boxes]], names: tuple[str, ...], part: str) -> None:
    (folder / part).mkdir(parents=True)
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for i, (rgb, boxes) in enumerate(pictures):
        Image.fromarray(rgb).save(folder / part / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "height": rgb.shape[0], "width": rgb.shape[1]})
        for x, y, w, h, label in boxes:
            objects.append({"id": len(objects) + 1, "image_id": i, "category_id": label, "bbox": [x, y, w, h]})
    categories = [{"id": i, "name": name} for i, name in enumerate(names)]
    found = {"images": images, "annotations": objects, "categories": categories}
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(found))


def drawn(first: int, count: int) -> list[tuple[np.ndarray, Boxes]]:
    """Generated shapes of 64 x 64 pixels."""
    found: list[tuple[np.ndarray, Boxes]] = []
    for i in range(first, first + count):
        scene = shapes.scene(0, i, size=64, objects=2)
        boxes = [(x1, y1, x2 - x1, y2 - y1, int(label)) for (x1, y1, x2, y2), label in
                 zip(scene.boxes_xyxy.tolist(), scene.box_labels, strict=True)]  # fmt: skip
        found.append((scene.image, boxes))
    return found
