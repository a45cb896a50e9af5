"""Accuracy columns: what given models reach on given pictures, in the rows of a table that describe them.

Every cell says whose it is, on how many pictures of which data, and where the network differs from the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mobilenetv2.errors import UsageError
from mobilenetv2.importers import load_model
from mobilenetv2.model_file import ModelFile
from mobilenetv2.paper.cells import Cell, Table, with_column
from mobilenetv2.paper.measure import networks
from mobilenetv2.predictor import load
from mobilenetv2.spec import DeepLab, SSDLite

if TYPE_CHECKING:
    from mobilenetv2.predictor import Predictor

Progress = Callable[[int, int], None]
Measured = tuple[float, int, str | None]  # a score of 0 to 1, of how many pictures, of which part of the data
DETECTOR_ROW, DETECTOR_SIZE = "MobileNetV2 + SSDLite", (320, 320)
SEGMENTER_ROWS = {  # with ASPP? -> the row at output stride 16, the row at 8 with six scales, mirrored
    True: ("MobileNetV2*, OS 16, ASPP", "MobileNetV2*, OS 8, ASPP, MF"),
    False: ("MobileNetV2*, OS 16", "MobileNetV2*, OS 8, MF"),
}
SEGMENTER_SIZE = (513, 513)


def _silent(done: int, total: int) -> None:
    pass


def on_imagenet(table: Table, folder: str, models: Sequence[str], *, progress: Progress = _silent) -> Table:
    """The table with a column of the top-1 in per cent that `models` (files or zoo names) have on labelled pictures.

    Each stands in the row of its width and resolution. Raises `UsageError` for a model that no row describes, and what
    loading and evaluating do; so do the other two.
    """
    rows = {(spec.task, spec.backbone.width_mult, size): row for row, (spec, size) in networks(table.name).items()}
    found: dict[str, Cell] = {}
    for name in models:
        model = load_model(name)
        row = rows.get((model.info.task, model.info.spec.backbone.width_mult, model.info.preprocessing.size[0]))
        if row is None or model.info.task != "classification":
            raise _no_row(name, model, table, rows.values())
        found[row] = _cell(name, folder, _top1(load(model), folder, progress))
    return with_column(table, "top-1 here", found)


def on_coco(table: Table, folder: str, models: Sequence[str], *, progress: Progress = _silent) -> Table:
    """Table 6 with a column of COCO's average precision (0.5 to 0.95) in per cent that detectors have on pictures with
    boxes. Another input size than 320 x 320, and other classes than COCO's eighty, are said."""
    found: dict[str, Cell] = {}
    for name in models:
        model = load_model(name)
        head = model.info.spec.head
        if not isinstance(head, SSDLite) or not head.separable or model.info.spec.backbone.width_mult != 1:
            raise _no_row(name, model, table, [DETECTOR_ROW])
        usual = SSDLite().classes
        differs = [f"{head.classes} classes, the paper's are {usual}"] if head.classes != usual else []
        differs += _other_size(model, DETECTOR_SIZE)
        found[DETECTOR_ROW] = _cell(name, folder, _ap(load(model), folder, progress), *differs)
    return with_column(table, "mAP here", found)


def on_voc(
    table: Table, folder: str, models: Sequence[str], *, multi_scale: bool = False, progress: Progress = _silent
) -> Table:
    """Table 7 with a column of the mean IoU in per cent that segmentation networks have on pictures with masks.

    With `multi_scale` the row at output stride 8 is measured too, with the same weights: six scales, each also
    mirrored, 56 times the work of one pass at stride 16.
    """
    found: dict[str, Cell] = {}
    for name in models:
        model = load_model(name)
        head = model.info.spec.head
        if not isinstance(head, DeepLab) or model.info.spec.backbone.width_mult != 1:
            raise _no_row(name, model, table, [row for rows in SEGMENTER_ROWS.values() for row in rows])
        ways = [(16, False), (8, True)] if multi_scale else [(16, False)]
        for row, (stride, many) in zip(SEGMENTER_ROWS[head.aspp], ways, strict=False):
            predictor = load(at_stride(model, stride))
            score = _miou(predictor, folder, progress, multi_scale=many)
            found[row] = _cell(name, folder, score, *_other_size(model, SEGMENTER_SIZE))
    return with_column(table, "mIOU here", found)


def at_stride(model: ModelFile, output_stride: int) -> ModelFile:
    """The same weights with another output stride: strides become dilation or the other way round (section 6.3)."""
    backbone = replace(model.info.spec.backbone, output_stride=output_stride)
    return ModelFile(replace(model.info, spec=replace(model.info.spec, backbone=backbone)), model.tensors)


def _top1(predictor: Predictor, folder: str, progress: Progress) -> Measured:
    from mobilenetv2.data.classification import open_classification
    from mobilenetv2.evaluate import evaluate

    data = open_classification(folder, classes=predictor.info)
    found = evaluate(predictor, data, progress=progress)
    return found.top1, found.n, data.split


def _ap(predictor: Predictor, folder: str, progress: Progress) -> Measured:
    from mobilenetv2.data.detection import open_detection
    from mobilenetv2.evaluate_detection import evaluate

    data = open_detection(folder, classes=predictor.info)
    found = evaluate(predictor, data, progress=progress)
    return found.coco.ap, found.n, data.split


def _miou(predictor: Predictor, folder: str, progress: Progress, *, multi_scale: bool) -> Measured:
    from mobilenetv2.data.segmentation import open_segmentation
    from mobilenetv2.evaluate_segmentation import class_names, evaluate

    data = open_segmentation(folder, classes=class_names(predictor.info))
    found = evaluate(predictor, data, progress=progress, multi_scale=multi_scale)
    return found.scores.miou, found.n, data.split


def _cell(name: str, folder: str, measured: Measured, *differs: str) -> Cell:
    score, pictures, split = measured
    where = folder if split is None else f"{folder}, {split}"
    conditions = "; ".join((f"{name} on {pictures:,} pictures of {where}", *differs))
    return Cell("", f"{100 * score:.1f}", "measured here", conditions)


def _other_size(model: ModelFile, size: tuple[int, int]) -> list[str]:
    own = model.info.preprocessing.size
    return [] if own == size else [f"at {own[0]} x {own[1]} pixels, the paper's are {size[0]} x {size[1]}"]


def _no_row(name: str, model: ModelFile, table: Table, rows: Iterable[str]) -> UsageError:
    info = model.info
    size = "x".join(map(str, info.preprocessing.size))
    what = f"{info.task} of width {info.spec.backbone.width_mult:g} at {size}"
    return UsageError(f"{name} is for {what}, which is no row of {table.name}: they are {', '.join(rows)}")
