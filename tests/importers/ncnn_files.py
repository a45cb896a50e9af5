"""Writes ncnn pairs of files of known weights, as converters from Caffe do, for the tests of their import."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import ConvSpec, ssdlite

Array = npt.NDArray[Any]
Storage = Literal["float32", "float16", "int8"]
Padding = Literal["crop", "automatic", "explicit"]

FLOAT16, INT8 = 0x01306B47, 0x000D4B38


@dataclass
class Row:
    """A layer's line, and its part of the `.bin`."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    params: dict[int, str]
    data: bytes = b""


@dataclass
class Files:
    """A graph as rows that a test may change before `write` writes them."""

    rows: list[Row] = field(default_factory=list)
    known: dict[str, Array] = field(default_factory=dict)  # weight and bias that the file stores, under our names

    def add(self, kind: str, name: str, inputs: list[str], *outputs: str, **params: object) -> str:
        """Parameters are named p0, p1, ...; a tuple is a list. Gives back the last output."""
        values: dict[int, str] = {}
        for key, value in params.items():
            id = int(key[1:])
            if isinstance(value, tuple):
                values[-23300 - id] = ",".join(map(str, (len(value), *value)))
            else:
                values[id] = str(value)
        self.rows.append(Row(kind, name, inputs, list(outputs or (name,)), values))
        return self.rows[-1].outputs[-1]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    def write(self, path: Path) -> Path:
        """`path`.param and `path`.bin; blobs that are read more than once are split, as ncnn has it."""
        rows = _with_splits(self.rows)
        blobs = sum(len(row.outputs) for row in rows)
        lines = ["7767517", f"{len(rows)} {blobs}"]
        for row in rows:
            params = [f"{id}={value}" for id, value in row.params.items()]
            counts = [str(len(row.inputs)), str(len(row.outputs))]
            lines.append(" ".join([f"{row.kind:16}", row.name, *counts, *row.inputs, *row.outputs, *params]))
        path.with_suffix(".param").write_text("\n".join(lines) + "\n")
        path.with_suffix(".bin").write_bytes(b"".join(row.data for row in rows))
        return path.with_suffix(".param")


def write_detector(
    model: ModelFile, *, storage: Storage = "float32", padding: Padding = "crop", fused: bool = True
) -> Files:
    """The detector `model`, whose batch norm must be the identity but for its bias, for BGR pixels.

    `padding` is how TensorFlow's SAME is written: pad 2 and cut off the first row and column, -233, or pads of their
    own on each side. `fused`: activations are part of their convolutions.
    """
    f, network = Files(), model.info.spec
    net, head, layers = network.backbone, ssdlite.head_of(network), ssdlite.layers(network)
    height, width = model.info.preprocessing.size
    f.add("Input", "data", [], p0=width, p1=height, p2=3)

    def conv(x: str, layer: ConvSpec, size: tuple[int, int]) -> tuple[str, tuple[int, int]]:
        weight = model.tensors[f"{layer.name}.weight"]
        if layer is first:
            weight = weight[:, ::-1]
        bias = model.tensors[f"{layer.norm}.bias" if layer.norm else f"{layer.name}.bias"]
        data, known = _stored(weight, storage)
        if layer is first:
            known = known[:, ::-1]
        f.known[f"{layer.name}.weight"], f.known[f"{layer.name}.bias"] = known, bias
        depthwise = layer.groups > 1
        scales = b"" if not data[1].size else data[1].tobytes() + struct.pack("<f", 33.0)
        params: dict[str, object] = {"p0": layer.out_channels, "p1": layer.kernel, "p5": 1, "p6": weight.size}
        if layer.stride > 1:
            params["p3"] = layer.stride
        if depthwise:
            params["p7"] = layer.groups
        if storage == "int8":
            params["p8"] = 1 if depthwise else 2
        pads = [layer.pads(side) for side in size]
        cropped = False
        if layer.kernel > 1:
            cropped = padding == "crop" and all(before == 0 for before, _ in pads)
            if cropped:
                params["p4"] = 2
            elif padding == "automatic" and layer.padding == "same":
                params["p4"] = -233
            elif padding == "explicit" or pads[0] != pads[1]:
                params.update(p14=pads[0][0], p16=pads[0][1], p4=pads[1][0], p15=pads[1][1])
            else:
                params["p4"] = 1
        relu6 = layer.activation == "relu6"
        if relu6 and fused and not cropped:
            params.update(p9=3, p10=(0.0, 6.0))
        name = layer.name
        out = f.add(
            "ConvolutionDepthWise" if depthwise else "Convolution",
            name,
            [x],
            f"{name}/padded" if cropped else name,
            **params,
        )
        f.rows[-1].data = data[0] + bias.astype("<f4").tobytes() + scales
        if cropped:
            f.add("Slice", "slice", [out], f"{name}/top", f"{name}/below", p0=(1, -233), p1=1)
            out = f.add("Slice", "slice", [f"{name}/below"], f"{name}/left", name, p0=(1, -233), p1=2)
            f.add("Noop", "silence", [f"{name}/top", f"{name}/left"], "")
            f.rows[-1].outputs = []
        if relu6 and not (fused and not cropped):
            out = f.add("Clip", f"{name}/relu", [out], p0=0.0, p1=6.0)
        return out, (layer.out_size(size[0]), layer.out_size(size[1]))

    def chain(x: str, convs: tuple[ConvSpec, ...], size: tuple[int, int]) -> tuple[str, tuple[int, int]]:
        for layer in convs:
            x, size = conv(x, layer, size)
        return x, size

    maps: list[tuple[str, tuple[int, int]]] = []
    taps = {(tap.block, tap.expanded): tap.name for tap in spec.taps(net).values()}
    found: dict[str, tuple[str, tuple[int, int]]] = {}
    first = spec.stem(net)
    at = conv("data", first, (height, width))
    for block in spec.blocks(net):
        before = at
        for layer in block.convolutions:
            at = conv(*at[:1], layer, at[1])
            if layer is block.expand and (block.index, True) in taps:
                found[taps[block.index, True]] = at
        if block.shortcut == "bottleneck":
            at = f.add("Eltwise", f"{block.name}sum", [before[0], at[0]], p0=1), at[1]
        if (block.index, False) in taps:
            found[taps[block.index, False]] = at
    found["out"] = conv(at[0], spec.last(net), at[1])
    maps = [found[name] for name in head.taps]
    for extra in layers.extras:
        maps.append(chain(maps[-1][0], extra, maps[-1][1]))
    parts: dict[str, list[str]] = {"loc": [], "conf": [], "priorbox": []}
    for k, (x, size) in enumerate(maps):
        for what, chains in (("loc", layers.box_heads), ("conf", layers.class_heads)):
            out, _ = chain(x, chains[k], size)
            out = f.add("Permute", f"{what}{k}/perm", [out], p0=3)
            parts[what].append(f.add("Flatten", f"{what}{k}/flat", [out]))
        parts["priorbox"].append(_prior_box(f, k, x, head, min(height, width)))
    for what, blobs in parts.items():
        f.add("Concat", f"mbox_{what}", blobs, **({"p0": 1} if what == "priorbox" else {}))
    out = f.add("Reshape", "reshape", ["mbox_conf"], p0=head.outputs, p1=-1, p2=0)
    kind = head.score.capitalize()
    out = f.add(kind, "scores", [out], **({"p0": 1} if kind == "Softmax" else {}))
    out = f.add("Flatten", "flatten", [out])
    f.add(
        "DetectionOutput", "detection_out", ["mbox_loc", out, "mbox_priorbox"], p0=head.outputs,
        p1=head.iou_threshold, p2=head.most_per_class, p3=head.most, p4=head.score_threshold,
    )  # fmt: skip
    return f


CAFFE_ANCHORS = [
    # square, then (where there is a largest size) the square of the mean, then each ratio and its inverse
    [(0.2, 0.2), (0.2 * 2**0.5, 0.2 / 2**0.5), (0.2 / 2**0.5, 0.2 * 2**0.5)],
    *(
        [(s, s), ((s * (s + 0.15)) ** 0.5,) * 2]
        + [pair for r in (2**0.5, 3**0.5) for pair in ((s * r, s / r), (s / r, s * r))]
        for s in (0.35, 0.5, 0.65, 0.8, 0.95)
    ),
]


def _prior_box(f: Files, k: int, x: str, head: spec.SSDLite, side: int) -> str:
    """For anchors like `CAFFE_ANCHORS`."""
    anchors = [(w * side, h * side) for w, h in head.anchors[k]]
    smallest = anchors[0][0]
    params: dict[str, object] = {"p0": (f"{smallest:.6f}",)}
    if len(anchors) > 3:
        params["p1"] = (f"{anchors[1][0] ** 2 / smallest:.6f}",)
    params["p2"] = ("2.0", "3.0") if len(anchors) > 3 else ("2.0",)
    params |= {f"p{i}": f"{1 / scale:.6f}" for i, scale in zip((3, 4, 5, 6), head.coder, strict=True)}
    params |= {"p9": -233, "p10": -233, "p13": 0.5}
    if head.steps is not None:
        params |= {"p11": f"{head.steps[k] * side:.6f}", "p12": f"{head.steps[k] * side:.6f}"}
    return f.add("PriorBox", f"priorbox{k}", [x, "data"], **params)


def _stored(weight: Array, storage: Storage) -> tuple[tuple[bytes, Array], Array]:
    """The bytes of the weights with their tag, the scales of the outputs, and the numbers that they stand for."""
    none = np.zeros(0, "<f4")
    if storage == "float32":
        return (struct.pack("<I", 0) + weight.astype("<f4").tobytes(), none), weight
    if storage == "float16":
        half = weight.astype("<f2")
        return (_padded(struct.pack("<I", FLOAT16) + half.tobytes()), none), half.astype(np.float32)
    largest = np.abs(weight).reshape(len(weight), -1).max(1)
    scales = np.where(largest > 0, 127 / np.where(largest > 0, largest, 1), np.inf).astype("<f4")
    finite = np.where(np.isinf(scales), 1, scales).reshape(-1, 1, 1, 1)
    q = np.round(weight * finite).astype(np.int8)
    q[np.isinf(scales)] = 127  # as the real files have it
    known = np.where(np.isinf(scales).reshape(-1, 1, 1, 1), 0, q.astype(np.float32) / finite.astype(np.float32))
    return (_padded(struct.pack("<I", INT8) + q.tobytes()), scales), known.astype(np.float32)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _with_splits(rows: list[Row]) -> list[Row]:
    readers: dict[str, int] = {}
    for row in rows:
        for blob in row.inputs:
            readers[blob] = readers.get(blob, 0) + 1
    result: list[Row] = []
    given: dict[str, int] = {}
    for row in rows:
        inputs: list[str] = []
        for blob in row.inputs:
            if readers[blob] > 1:
                copy = given[blob] = given.get(blob, -1) + 1
                blob = f"{blob}_splitncnn_{copy}"
            inputs.append(blob)
        result.append(Row(row.kind, row.name, inputs, row.outputs, row.params, row.data))
        for blob in row.outputs:
            if (count := readers.get(blob, 0)) > 1:
                copies = [f"{blob}_splitncnn_{i}" for i in range(count)]
                result.append(Row("Split", f"splitncnn_{len(result)}", [blob], copies, {}))
    return result
