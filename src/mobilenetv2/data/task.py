"""Which task a data set is for, found out from what lies there."""

from __future__ import annotations

from pathlib import Path

from mobilenetv2.data import detection, segmentation


def task_of(
    dataset: str,
    *,
    images: Path | None = None,
    labels: Path | None = None,
    classes: Path | None = None,
    ignore: int | None = None,
) -> str:
    """ "classification", "detection" or "segmentation"; the other arguments are what `segmentation.Places` holds.

    Where there are boxes and masks it is detection, and COCO's files are for detection too.
    """
    if ignore is not None or segmentation.are_masks(images, labels):
        return "segmentation"
    if detection.is_detection(dataset) or (labels is not None and detection.is_detection(labels)):
        return "detection"
    if segmentation.is_segmentation(dataset):
        return "segmentation"
    return "detection" if any(place is not None for place in (images, labels, classes)) else "classification"
