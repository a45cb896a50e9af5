"""Writes Mobile DeepLabv3 networks to TFLite files, as TensorFlow's exporter does, for the tests of their import."""

from __future__ import annotations

import numpy as np
from tflite_files import Author, Storage, add_backbone, add_input

from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import deeplab


def write_segmenter(
    model: ModelFile, *, storage: Storage = "float32", pool: str = "AVERAGE_POOL_2D", pooled_last: bool = False,
    ends: tuple[str, ...] = ("RESIZE_BILINEAR", "ARG_MAX"),
) -> Author:  # fmt: skip
    """The network `model`, of its branches that on the mean first or last; `ends` is what follows the logits."""
    a = Author(storage=storage)
    network, size = model.info.spec, model.info.preprocessing.size[0]
    layers, head = deeplab.layers(network), deeplab.head_of(network)
    x = add_input(a, a.activations, (1, size, size, 3))
    a.inputs = [x]
    x, side = add_backbone(a, model, x, size, {})
    mean = a.activation("mean", (1, 1, 1, layers.pooling.in_channels))
    if pool == "MEAN":
        a.operator("MEAN", [x, a.constant("axes", np.array([1, 2], np.int32))], mean)
    else:
        a.operator(pool, [x], mean, Padding=1, StrideH=side, StrideW=side, FilterHeight=side, FilterWidth=side)
    pooled, _ = a.convolution(model, mean, layers.pooling, 1)
    shape = (1, side, side, head.channels)
    pooled = resized(a, pooled, "pooled", shape, align_corners=head.align_corners)
    branches = [a.convolution(model, x, conv, side)[0] for conv in layers.branches]
    parts = [*branches, pooled] if pooled_last else [pooled, *branches]
    if pooled_last:
        name = f"{layers.project.name}.weight"
        moved = np.roll(model.tensors[name], -head.channels, axis=1)
        model = ModelFile(model.info, {**model.tensors, name: moved})
    width = head.channels * len(parts)
    x = a.operator("CONCATENATION", parts, a.activation("concat", (1, side, side, width)), Axis=3)
    x, _ = a.convolution(model, x, layers.project, side)
    x, _ = a.convolution(model, x, layers.logits, side)
    for kind in ends:
        if kind == "RESIZE_BILINEAR":
            x = resized(a, x, "logits/resized", (1, size, size, head.outputs), align_corners=head.align_corners)
        else:
            axis = a.constant("axis", np.array(3, np.int32))
            x = a.operator(kind, [x, axis], a.tensor("classes", (1, size, size), "int64"))
    a.outputs = [x]
    return a


def resized(a: Author, x: int, name: str, shape: tuple[int, ...], *, align_corners: bool) -> int:
    size = a.constant(f"{name}/size", np.array(shape[1:3], np.int32))
    return a.operator("RESIZE_BILINEAR", [x, size], a.activation(name, shape), AlignCorners=align_corners)
