"""Accuracy columns: what given models reach on given pictures, in the rows of a table that describe them.

Every cell says whose it is, on how many pictures of which data, and where the network differs from the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from mobilenetv2 import spec
from mobilenetv2.errors import UsageError
from mobilenetv2.importers import load_model
from mobilenetv2.model_file import ModelFile
from mobilenetv2.paper.cells import Cell, Table, with_column
from mobilenetv2.paper.measure import networks
from mobilenetv2.predictor import load
from mobilenetv2.spec import Backbone, Classifier, DeepLab, SSDLite

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

    Each stands in the row of its width and resolution; another number of classes than the paper's is said. Raises
    `UsageError` before anything is evaluated for a model that no row describes, one whose backbone is not the paper's
    and a second one for a row, and what loading and evaluating do; so do the other two.
    """
    rows = {(network.backbone.width_mult, (size, size)): row for row, (network, size) in networks(table.name).items()}

    def row_of(name: str, model: ModelFile) -> str:
        row = rows.get((model.info.spec.backbone.width_mult, model.info.preprocessing.size))
        if row is None or model.info.task != "classification":
            raise _no_row(name, model, table, rows.values())
        _check_backbone(name, model, table, networks(table.name)[row][0].backbone)
        return row

    found: dict[str, Cell] = {}
    for row, (name, model) in _claimed(models, row_of).items():
        differs = _other_classes(model, Classifier().classes)
        found[row] = _cell(name, folder, _top1(load(model), folder, progress), *differs)
    return with_column(table, "top-1 here", found)


def on_coco(table: Table, folder: str, models: Sequence[str], *, progress: Progress = _silent) -> Table:
    """Table 6 with a column of COCO's average precision (0.5 to 0.95) in per cent that detectors have on pictures with
    boxes. Another input size than 320 x 320, and another number of classes than COCO's eighty, are said."""

    def row_of(name: str, model: ModelFile) -> str:
        head = model.info.spec.head
        if not isinstance(head, SSDLite) or not head.separable or model.info.spec.backbone.width_mult != 1:
            raise _no_row(name, model, table, [DETECTOR_ROW])
        _check_backbone(name, model, table, networks(table.name)[DETECTOR_ROW][0].backbone)
        return DETECTOR_ROW

    found: dict[str, Cell] = {}
    for row, (name, model) in _claimed(models, row_of).items():
        differs = (*_other_classes(model, SSDLite().classes), *_other_size(model, DETECTOR_SIZE))
        found[row] = _cell(name, folder, _ap(load(model), folder, progress), *differs)
    return with_column(table, "mAP here", found)


def on_voc(
    table: Table, folder: str, models: Sequence[str], *, multi_scale: bool = False, progress: Progress = _silent
) -> Table:
    """Table 7 with a column of the mean IoU in per cent that segmentation networks have on pictures with masks. Another
    input size than 513 x 513, and another number of classes than VOC's twenty, are said.

    With `multi_scale` the row at output stride 8 is measured too, with the same weights: six scales, each also
    mirrored, 56 times the multiply-adds of one pass at stride 16, with ASPP 61 times.
    """

    def row_of(name: str, model: ModelFile) -> str:
        head = model.info.spec.head
        if not isinstance(head, DeepLab) or model.info.spec.backbone.width_mult != 1:
            raise _no_row(name, model, table, [row for rows in SEGMENTER_ROWS.values() for row in rows])
        _check_backbone(name, model, table, Backbone())
        return SEGMENTER_ROWS[head.aspp][0]

    found: dict[str, Cell] = {}
    at_8 = dict(SEGMENTER_ROWS.values())
    for at_16, (name, model) in _claimed(models, row_of).items():
        differs = (*_other_classes(model, DeepLab().classes), *_other_size(model, SEGMENTER_SIZE))
        ways = [(at_16, 16, False), (at_8[at_16], 8, True)] if multi_scale else [(at_16, 16, False)]
        for row, stride, many in ways:
            score = _miou(load(at_stride(model, stride)), folder, progress, multi_scale=many)
            found[row] = _cell(name, folder, score, *differs)
    return with_column(table, "mIOU here", found)


def at_stride(model: ModelFile, output_stride: int) -> ModelFile:
    """The same weights with another output stride: strides become dilation or the other way round (section 6.3)."""
    backbone = replace(model.info.spec.backbone, output_stride=output_stride)
    return ModelFile(replace(model.info, spec=replace(model.info.spec, backbone=backbone)), model.tensors)


def _claimed(models: Sequence[str], row_of: Callable[[str, ModelFile], str]) -> dict[str, tuple[str, ModelFile]]:
    """The models by their rows, each with its name."""
    found: dict[str, tuple[str, ModelFile]] = {}
    for name in models:
        model = load_model(name)
        row = row_of(name, model)
        if row in found:
            raise UsageError(f"{found[row][0]} and {name} are both for the row {row}: give one of them")
        found[row] = name, model
    return found


def _check_backbone(name: str, model: ModelFile, table: Table, papers: Backbone) -> None:
    """Raises `UsageError` for other layers than `papers`; padding, bn_eps, in_channels and output_stride are free."""
    own = replace(
        model.info.spec.backbone, padding=papers.padding, bn_eps=papers.bn_eps, in_channels=papers.in_channels,
        output_stride=papers.output_stride,
    )  # fmt: skip
    with_last = spec.has_last(model.info.spec)
    if _layers(own, with_last=with_last) != _layers(papers, with_last=with_last):
        other = [field.name for field in fields(own) if getattr(own, field.name) != getattr(papers, field.name)]
        raise UsageError(
            f"{name} is not the paper's network of width {papers.width_mult:g}, as the row of {table.name} is: its "
            f"backbone differs in {', '.join(other)}"
        )


def _layers(net: Backbone, *, with_last: bool) -> tuple[object, ...]:
    return spec.stem(net), spec.blocks(net), spec.last(net) if with_last else None


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


def _other_classes(model: ModelFile, papers: int) -> list[str]:
    own = model.info.spec.head.classes
    return [] if own == papers else [f"{own:,} classes, the paper's are {papers:,}"]


def _other_size(model: ModelFile, size: tuple[int, int]) -> list[str]:
    own = model.info.preprocessing.size
    return [] if own == size else [f"at {own[0]} x {own[1]} pixels, the paper's are {size[0]} x {size[1]}"]


def _no_row(name: str, model: ModelFile, table: Table, rows: Iterable[str]) -> UsageError:
    info = model.info
    size = "x".join(map(str, info.preprocessing.size))
    what = f"{info.task} of width {info.spec.backbone.width_mult:g} at {size}"
    return UsageError(f"{name} is for {what}, which is no row of {table.name}: they are {', '.join(rows)}")
