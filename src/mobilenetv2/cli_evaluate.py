"""The verb `evaluate`: one for every task, by the model's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mobilenetv2.cli_options import (
    Backend,
    Classes,
    Crop,
    Dataset,
    Ignore,
    Images,
    Iou,
    Json,
    Labels,
    Model,
    MultiScale,
    Resize,
    Slide,
    Threads,
    pixels_or_none,
    refuse,
    refuse_swapped,
)
from mobilenetv2.terminal import progress_bar, say, say_notes, show, show_json

if TYPE_CHECKING:
    from mobilenetv2.data.detection import Places
    from mobilenetv2.data.segmentation import Places as SegmentationPlaces
    from mobilenetv2.predictor import Predictor


class Difficult(StrEnum):
    IGNORE = "ignore"
    COUNT = "count"


def evaluate(
    model: Model,
    dataset: Dataset,
    as_json: Json = False,
    split: Annotated[
        str | None, typer.Option(help="The part of the data to use; default: the first of val, test, train.")
    ] = None,
    beside: Annotated[
        str | None, typer.Option(metavar="OTHER", help="Classifiers: compare with this model, a file or a name.")
    ] = None,
    images: Images = None,
    labels: Labels = None,
    classes: Classes = None,
    ignore: Ignore = None,
    difficult: Annotated[
        Difficult | None, typer.Option(help="Boxes: VOC's difficult objects; default: ignore.")
    ] = None,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="Boxes: score threshold, 0 to 1; default: 0.01.")
    ] = None,
    iou: Iou = None,
    most: Annotated[
        int | None, typer.Option(min=1, help="Boxes: maximum detections per picture; default: 200.")
    ] = None,
    multi_scale: MultiScale = False,
    slide: Slide = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write scores, a table of the classes and charts here.")
    ] = None,
    save_mistakes: Annotated[Path | None, typer.Option(metavar="DIR", help="Draw wrong answers here.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Pictures per batch; default: 8, and 1 for masks.")] = None,
    backend: Backend = "engine",
    threads: Threads = None,
    resize: Resize = None,
    crop: Crop = None,
) -> None:
    """Measure a model on labelled pictures."""
    from mobilenetv2.predictor import load

    refuse_swapped(model, dataset)
    ways = {"backend": backend, "threads": threads, "resize": pixels_or_none(resize), "crop": crop}
    predictor = load(model, **ways)
    of_detection = {"--difficult": difficult, "--score": score, "--iou": iou, "--most": most}
    of_both = {"--images": images, "--labels": labels, "--classes": classes}
    of_masks = {"--ignore": ignore, "--multi-scale": multi_scale or None, "--slide": slide or None}
    models = f"models of {predictor.info.task}"
    if predictor.info.task == "detection":
        from mobilenetv2.data.detection import Places

        refuse({"--beside": beside, **of_masks}, models)
        places = Places(images, labels, classes)
        chosen = {name: value for name, value in (("score", score), ("iou", iou), ("most", most)) if value is not None}
        measured = _detector(
            predictor, dataset, split, places, batch=batch or 8, count_difficult=difficult is Difficult.COUNT, **chosen
        )
    elif predictor.info.task == "segmentation":
        from mobilenetv2.data import segmentation

        refuse({"--beside": beside, **of_detection}, models)
        masks = segmentation.Places(images, labels, classes, ignore)
        ways_of_asking = {"multi_scale": multi_scale, "slide": slide}
        measured = _segmenter(predictor, dataset, split, masks, batch=batch or 1, **ways_of_asking)
    else:
        refuse({**of_both, **of_detection, **of_masks}, models)
        other = None if beside is None else (beside, load(beside, **ways))
        measured = _classifier((model, predictor), other, dataset, split, batch=batch or 8)
    shown = measured.shown
    show_json(shown.to_json()) if as_json else show(shown.text())
    if report is not None:
        say(f"report: {measured.write_report(report)}")
    if save_mistakes is not None:
        say(f"mistakes: {measured.save_mistakes(save_mistakes)}")
    for name, reason in shown.unreadable:
        say(f"error: {reason if name in reason else f'{name}: {reason}'}")
    if shown.unreadable:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What is shown, and how more of it is written into a folder."""

    shown: Any
    write_report: Callable[[Path], Path]
    save_mistakes: Callable[[Path], Path]


def _classifier(
    one: tuple[str, Predictor], other: tuple[str, Predictor] | None, dataset: str, split: str | None, *, batch: int
) -> _Measured:
    """Models with their names; the second one is compared with the first."""
    from mobilenetv2 import agreement
    from mobilenetv2 import evaluate as evaluation
    from mobilenetv2.data.classification import open_classification

    (model, predictor) = one
    with progress_bar("index", "shards") as indexed:
        data = open_classification(dataset, classes=predictor.info, split=split, progress=indexed)
    say_notes(data.notes)
    with progress_bar("evaluate", "pictures") as advance:
        if other is None:
            found = evaluation.evaluate(predictor, data, progress=advance, batch=batch)
            write = partial(evaluation.write_report, found)
            return _Measured(found, write, partial(evaluation.save_mistakes, found))
        names = model, other[0]
        both = agreement.evaluate_both(predictor, other[1], data, models=names, progress=advance, batch=batch)
        mistakes = partial(evaluation.save_mistakes, both.first)
        return _Measured(both, partial(agreement.write_report, both), mistakes)


def _detector(predictor: Predictor, dataset: str, split: str | None, places: Places, **options: Any) -> _Measured:
    from mobilenetv2 import detection_report, evaluate_detection
    from mobilenetv2.data.detection import open_detection

    data = open_detection(dataset, split=split, places=places, classes=predictor.info)
    say_notes(data.notes)
    with progress_bar("evaluate", "pictures") as advance:
        found = evaluate_detection.evaluate(predictor, data, progress=advance, **options)
    write = partial(detection_report.write_report, found)
    return _Measured(found, write, partial(detection_report.save_mistakes, found))


def _segmenter(
    predictor: Predictor, dataset: str, split: str | None, places: SegmentationPlaces, **options: Any
) -> _Measured:
    from mobilenetv2 import evaluate_segmentation, segmentation_report
    from mobilenetv2.data.segmentation import open_segmentation

    names = evaluate_segmentation.class_names(predictor.info)
    data = open_segmentation(dataset, split=split, places=places, classes=names)
    say_notes(data.notes)
    with progress_bar("evaluate", "pictures") as advance:
        found = evaluate_segmentation.evaluate(predictor, data, progress=advance, **options)
    write = partial(segmentation_report.write_report, found)
    return _Measured(found, write, partial(segmentation_report.save_mistakes, found))
