"""Arguments and options that several verbs share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from mobilenetv2.errors import UsageError


class Task(StrEnum):
    CLASSIFICATION = "classification"
    DETECTION = "detection"
    SEGMENTATION = "segmentation"


Model = Annotated[str, typer.Argument(help="A model file, or a name from `mobilenetv2 models`.")]
Dataset = Annotated[  # no Path: that would make one slash of a URL's two
    str,
    typer.Argument(
        help="A folder with a folder of pictures per class, a text file of path,label lines, tar shards; pictures with "
        "boxes: COCO, Pascal VOC or YOLO; or with masks: Pascal VOC, a folder of them, COCO's outlines."
    ),
]
Images = Annotated[Path | None, typer.Option(metavar="DIR", help="Boxes and masks: where the pictures are.")]
Labels = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Boxes and masks: where the XML or text files, or the masks, are.")
]
Classes = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Boxes and masks: a class's name per line; for masks perhaps with a colour."),
]
Ignore = Annotated[
    int | None,
    typer.Option(
        min=0, max=255, help="Masks: the value of pixels that do not count; default: detected from the masks."
    ),
]
MultiScale = Annotated[
    bool, typer.Option("--multi-scale", help="Masks: average six scales and their mirror images; 17 times the work.")
]
Iou = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Boxes: IoU threshold of non-maximum suppression; default: the model's own."),
]
Slide = Annotated[
    bool, typer.Option("--slide", help="Masks: slide over the picture at its own size instead of making it smaller.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line on stdout, for machines.")]
Backend = Annotated[str, typer.Option(help="What runs the network: engine (compiled), torch or reference (NumPy).")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=256, help="Threads of the engine (default: all CPUs up to 4) or torch."),
]
Resize = Annotated[str | None, typer.Option(help="Shortest side in pixels before the crop, or none.")]
Crop = Annotated[int | None, typer.Option(min=1, help="The network's input: the centre square of this many pixels.")]


def refuse(given: Mapping[str, object], whose: str) -> None:
    """Raises `UsageError` for the first option that was given: it is not for these."""
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"{option} is not for {whose}: leave it out")


def refuse_swapped(model: str, dataset: str) -> None:
    """Raises `UsageError` where a model file stands for the data, and something else that exists for the model."""
    ending = ".safetensors"
    if dataset.endswith(ending) and os.path.isfile(dataset) and not model.endswith(ending) and os.path.exists(model):
        raise UsageError(f"{dataset} is a model file and no data set: are the model and the data swapped?")


def pixels_or_none(resize: str | None) -> int | Literal["none"] | None:
    """What `Resize` says, for `predictor.load`. Raises `UsageError`."""
    if resize is None or resize == "none":
        return resize
    if not resize.isdecimal() or int(resize) < 1:
        raise UsageError(f"--resize must be a number of pixels or none, got {resize!r}")
    return int(resize)
