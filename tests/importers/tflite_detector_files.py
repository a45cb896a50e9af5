"""Writes detectors to TFLite files, as TensorFlow's exporter does, for the tests of their import."""

from __future__ import annotations

import numpy as np
from tflite_files import Array, Author, Storage, add_backbone, add_input

from mobilenetv2 import boxes, spec
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import ssdlite


def write_detector(
    model: ModelFile,
    *,
    storage: Storage = "float32",
    pixels: Storage = "float32",
    explicit_padding: bool = False,
    postprocess: bool = True,
) -> Author:
    """The detector `model` as TensorFlow's `export_tflite_ssd_graph` writes it, boxes as dy, dx, dh, dw.

    Without `postprocess` it ends in boxes and scores' logits.
    """
    model = ModelFile(model.info, {**model.tensors, **_yx_first(model)})
    network, size = model.info.spec, model.info.preprocessing.size[0]
    head, layers = ssdlite.head_of(network), ssdlite.layers(network)
    a = Author(storage=storage, explicit_padding=explicit_padding)
    x = add_input(a, pixels, (1, size, size, 3))
    a.inputs = [x]
    if pixels != a.activations:
        other = a.activation("input/stored", a.tensors[x].shape)
        x = a.operator("DEQUANTIZE" if a.activations == "float32" else "QUANTIZE", [x], other)
    found: dict[tuple[int | None, bool], tuple[int, int]] = {}
    add_backbone(a, model, x, size, found)
    taps = spec.taps(network.backbone)
    maps = [found[taps[name].block, taps[name].expanded] for name in head.taps]
    for chain in layers.extras:
        at = maps[-1]
        for conv in chain:
            at = a.convolution(model, at[0], conv, at[1])
        maps.append(at)
    ends: list[int] = []
    count = ssdlite.anchor_count(network, (size, size))
    for name, chains, values in (("boxes", layers.box_heads, 4), ("scores", layers.class_heads, head.outputs)):
        rows: list[int] = []
        middle = (1,) if name == "boxes" else ()
        for (x, side), chain, anchors in zip(maps, chains, head.anchors, strict=True):
            for conv in chain:
                x, side = a.convolution(model, x, conv, side)
            shape = (1, side * side * len(anchors), *middle, values)
            constant = a.constant(f"{name}/{len(rows)}/shape", np.array(shape, np.int32))
            rows.append(a.operator("RESHAPE", [x, constant], a.activation(f"{name}/{len(rows)}", shape)))
        ends.append(a.operator("CONCATENATION", rows, a.activation(name, (1, count, *middle, values)), Axis=1))
    ends[0] = a.operator("SQUEEZE", [ends[0]], a.activation("boxes/squeezed", (1, count, 4)))
    if not postprocess:
        a.outputs = ends
        return a
    kind = {"sigmoid": "LOGISTIC", "softmax": "SOFTMAX"}[head.score]
    ends[1] = a.operator(kind, [ends[1]], a.activation("probabilities", (1, count, head.outputs)))
    anchors_yxhw = boxes.anchors(network, (size, size))[:, [1, 0, 3, 2]]
    ends.append(a.constant("anchors", np.ascontiguousarray(anchors_yxhw)))
    a.outputs = [a.tensor(f"TFLite_Detection_PostProcess:{i}", (1, 10)) for i in range(4)]
    scales = dict(zip(("x_scale", "y_scale", "w_scale", "h_scale"), head.coder, strict=True))
    told = {**scales, "num_classes": head.classes, "max_detections": 10, "nms_iou_threshold": 0.6}
    a.custom("TFLite_Detection_PostProcess", ends, list(a.outputs), {**told, "nms_score_threshold": 1e-8})
    return a


def _yx_first(model: ModelFile) -> dict[str, Array]:
    """The tensors that give boxes, with their outputs as dy, dx, dh, dw for each anchor."""
    result: dict[str, Array] = {}
    for chain in ssdlite.layers(model.info.spec).box_heads:
        for part in ("weight", "bias"):
            values = model.tensors[f"{chain[-1].name}.{part}"]
            swapped = np.empty_like(values)
            for ours, theirs in enumerate((1, 0, 3, 2)):
                swapped[theirs::4] = values[ours::4]
            result[f"{chain[-1].name}.{part}"] = swapped
    return result
