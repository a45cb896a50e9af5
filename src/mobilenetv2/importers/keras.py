"""MobileNetV2 classifiers in Keras weight files, read with h5py: no Keras, no TensorFlow.

Names of layers differ between releases (the published files have older ones than Keras makes today), so that a file
is read as Keras itself reads it: by the order of its layers and the shapes of their weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import files, image, limits, spec, spec_fields
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import archives, hdf5
from mobilenetv2.importers.structure import BlockChannels, find_backbone
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.spec import Backbone, ConvSpec, Spec
from mobilenetv2.text import quoted

BN_EPS = 1e-3
DEFAULT_SIZE = 224

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_IN_ARCHIVE = "model.weights.h5"  # inside a .keras file
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # of Keras 3 and of 2.12 to 2.15
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")  # in the order of spec.NORM_PARTS
_KINDS = ("conv", "depthwise", *_NORM, "dense", "bias")

Array = npt.NDArray[np.float32]
Layer = Mapping[str, Array]  # the weights of a layer in their order, by name
Weights = dict[str, list[tuple[str, Array]]]  # kind -> name and values, in the order of the network


def recognises(path: Path) -> bool:
    """Whether the file is an HDF5 file or a `.keras` archive, by its content; False where it cannot be read."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
    except OSError:
        return False
    return start == _SIGNATURE or (start.startswith(b"PK") and _IN_ARCHIVE in archives.names(path))


def read(path: Path, *, size: int | None = None) -> ModelFile:
    """The classifier in a `.h5`, `.weights.h5` or `.keras` file.

    The input size is `size`, else what the file says (its name "..._0.35_96.h5", or the saved model), else 224.
    Raises `FileError`, and `WeightsError` for a file that is damaged, not of Keras, without a classifier ("no_top"),
    or whose weights are not exactly those of a MobileNetV2.
    """
    with _opened(path) as (file, described, stored):
        layers = list(_layers(file, stored))
        size = size or _size(path.name) or _size(described)
    weights = _by_kind(layers)
    net, convolutions = _backbone(weights)
    outputs = weights["dense"][0][1].shape[1]
    head = spec_fields.classifier(outputs=outputs, background="first" if outputs == 1001 else "none")
    preprocessing = image.recipe("keras", size or DEFAULT_SIZE)
    if net.in_channels != 3:
        middle = (127.5,) * net.in_channels
        preprocessing = dataclasses.replace(preprocessing, mean=middle, std=middle)
    info = ModelInfo(Spec(net, head), preprocessing, provenance={"source": "keras", "notes": []})
    return ModelFile(info, dict(_tensors(info.spec, weights, convolutions)))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, str, int]]:
    """The HDF5 file at `path`, or inside the archive there, a text in which the input's size may be found, and how many
    bytes the HDF5 file has."""
    import h5py

    with files.reading(path):
        try:
            source, described, stored = path, "", os.path.getsize(path)
            if archives.names(path):
                with archives.opened(path) as archive:
                    content = archives.member(archive, _IN_ARCHIVE, most=archives.most_unpacked(path))
                    described = archives.member(archive, "config.json", most=limits.HEADER_BYTES).decode()
                source, stored = io.BytesIO(content), len(content)
            with h5py.File(source, "r") as file:
                yield file, described or hdf5.text(file, "model_config") or _model_name(file), stored
        except (OSError, *archives.DAMAGE) as error:
            if isinstance(error, OSError) and error.errno:  # the system's: no such file, no permission
                raise
            raise WeightsError(f"not a Keras weight file, damaged or cut short ({archives.reason(error)})") from None


def _model_name(file: Any) -> str:
    """What a `.weights.h5` calls the model: keras.applications has the input's size in there."""
    return f"{hdf5.text(hdf5.member(file, 'vars'), 'name')}.h5" if hdf5.has(file, "vars") else ""


def _size(text: str) -> int | None:
    """The input's size: "mobilenet_v2_weights_..._1.0_224.h5", "mobilenetv2_1.00_224", or a model's saved config."""
    found = re.search(r"_[0-9.]+_(\d{2,3})(?:_no_top)?(?:\.weights)?\.h5$", text)
    found = found or re.search(r'"batch(?:_input)?_shape": \[null, (\d+), \1, \d+\]', text)
    return int(found[1]) if found else None


def _layers(file: Any, stored: int) -> Iterator[Layer]:
    """Each layer's weights in the order of the layers; raises `WeightsError` where one would be left out, or where they
    are more than a file of `stored` bytes holds."""
    root = hdf5.member(file, "model_weights") if hdf5.has(file, "model_weights") else file
    container = next((hdf5.member(root, name) for name in _CONTAINERS if hdf5.has(root, name)), None)
    root = root if container is None or "layer_names" in root.attrs or "layer_names0" in root.attrs else container
    stored_here = {name: data for name, data in hdf5.datasets(root).items() if not _is_random_state(name)}
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        layers = [
            [
                (f"{layer}/{name}", _weight(root, stored_here, f"{layer}/{name}"))
                for name in _names(hdf5.member(root, layer), "weight_names")
            ]
            for layer in _names(root, "layer_names")
        ]
    elif container is not None:
        groups: dict[str, list[tuple[str, Any]]] = {}
        for name in sorted(stored_here, key=_natural):
            groups.setdefault(name.rsplit("/", 1)[0], []).append((name, stored_here[name]))
        layers = list(groups.values())
    else:
        raise WeightsError("an HDF5 file, but none that Keras wrote: it has neither layer names nor layers")
    layers = [[(name, data) for name, data in layer if not _is_random_state(name)] for layer in layers]
    used = [(name, data) for layer in layers for name, data in layer]
    if len(used) > limits.TENSORS:
        raise WeightsError(f"the file names {len(used):,} weights: the limit is {limits.TENSORS:,}")
    if left := stored_here.keys() - {name for name, _ in used}:
        raise WeightsError(f"the weight {quoted(min(left))} belongs to no layer of the file: it would be left out")
    hdf5.check_sizes(used, stored)
    for layer in layers:
        yield {name: hdf5.values(name, data) for name, data in layer}


def _weight(group: Any, datasets: Mapping[str, Any], path: str) -> Any:
    found = datasets[path] if path in datasets else hdf5.member(group, path)
    if not hasattr(found, "shape"):
        raise WeightsError(f"{quoted(path)} is no weight: the file is damaged")
    return found


def _names(group: Any, name: str) -> list[str]:
    """A list of names; long ones are split into name0, name1, ... as an HDF5 attribute holds 64 KB."""
    parts = [name] if name in group.attrs else [f"{name}{i}" for i in range(len(group.attrs))]
    return [value for part in parts if part in group.attrs for value in hdf5.names(group, part)]


def _is_random_state(name: str) -> bool:
    return "seed_generator" in name  # of dropout and augmentation


def _natural(name: str) -> list[tuple[str, int]]:
    """A key that puts conv2d_2 before conv2d_10."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]


def _by_kind(layers: Sequence[Layer]) -> Weights:
    weights: Weights = {kind: [] for kind in _KINDS}
    for layer in layers:
        shapes = [values.shape for values in layer.values()]
        is_norm = len(shapes) == 4 and len(shapes[0]) == 1 and len(set(shapes)) == 1
        for i, (name, values) in enumerate(layer.items()):
            kind = _NORM[i] if is_norm else _kind(name, values)
            weights[kind].append((name, values))
    if not weights["dense"]:
        raise WeightsError(
            "the file has no classifier (a no_top file has none): use the one with the top, without _no_top in its name"
        )
    counts = {kind: len(weights[kind]) for kind in _KINDS}
    convolutions = counts["conv"] + counts["depthwise"]
    for kind, count in counts.items():
        expected = {"dense": 1, "bias": 1, **dict.fromkeys(_NORM, convolutions)}.get(kind, count)
        if count != expected:
            raise WeightsError(f"{count} weights are {kind}, expected {expected}: it is no MobileNetV2 of Keras")
    return weights


def _kind(name: str, values: Array) -> str:
    """By shape, and for a model inside the model, whose weights come as one list, by the end of the name."""
    if values.ndim == 4:
        # [rows, columns, in, out]; depthwise [rows, columns, channels, 1]
        return "depthwise" if values.shape[3] == 1 and values.shape[0] > 1 else "conv"
    if values.ndim == 2:
        return "dense"
    end = name.rsplit("/", 1)[-1].split(":")[0]
    if values.ndim == 1 and end in _NORM:
        return end
    if values.ndim == 1 and end in ("bias", "1"):
        return "bias"
    raise WeightsError(f"weight {quoted(name)} of shape {quoted(list(values.shape))} has no place in a MobileNetV2")


def _backbone(weights: Weights) -> tuple[Backbone, list[tuple[str, Array]]]:
    """The network with these convolutions, and the convolutions in the order in which it runs.

    Kernels and depthwise kernels come as two lists, as `.weights.h5` has no order between them: a block has an
    expansion where its depthwise convolution has other channels than come in.
    """
    convs, result = list(weights["conv"]), list[tuple[str, Array]]()
    blocks: list[BlockChannels] = []

    def take() -> int:
        if not convs:
            raise WeightsError(f"{len(weights['conv'])} convolutions are too few for a MobileNetV2")
        result.append(convs.pop(0))
        return result[-1][1].shape[3]

    stem = channels = take()
    for name, kernel in weights["depthwise"]:
        expanded = kernel.shape[2]
        has_expansion = expanded != channels
        if has_expansion:
            take()
        result.append((name, kernel))
        inputs, channels = channels, take()
        blocks.append(BlockChannels(inputs, expanded, channels, has_expansion))
    last = take()
    if convs:
        raise WeightsError(f"weight {quoted(convs[0][0])} is left over: it has no place in a MobileNetV2")
    in_channels = result[0][1].shape[2]
    net = find_backbone(blocks, stem=stem, last=last, in_channels=in_channels, padding="same", bn_eps=BN_EPS)
    return net, result


def _tensors(network: Spec, weights: Weights, convolutions: Sequence[tuple[str, Array]]) -> Iterator[tuple[str, Array]]:
    norms = zip(*(weights[kind] for kind in _NORM), strict=True)
    for conv, (name, kernel), norm in zip(spec.convolutions(network.backbone), convolutions, norms, strict=True):
        yield f"{conv.name}.weight", _fitting(name, _kernel(conv, kernel), conv.weight_shape)
        for part, (name, values) in zip(spec.NORM_PARTS, norm, strict=True):
            yield f"{conv.norm}.{part}", _fitting(name, values, (conv.out_channels,))
    linear = spec.linear(network)
    (name, kernel), (bias_name, bias) = weights["dense"][0], weights["bias"][0]
    yield f"{linear.name}.weight", _fitting(name, kernel.T, (linear.out_features, linear.in_features))
    yield f"{linear.name}.bias", _fitting(bias_name, bias, (linear.out_features,))


def _kernel(conv: ConvSpec, kernel: Array) -> Array:
    return kernel.transpose((2, 3, 0, 1) if conv.groups > 1 else (3, 2, 0, 1))


def _fitting(name: str, values: Array, shape: tuple[int, ...]) -> Array:
    if values.shape != shape:
        raise WeightsError(
            f"weight {quoted(name)} is {quoted(list(values.shape))} in PyTorch's order, expected {list(shape)}"
        )
    return np.ascontiguousarray(values)
