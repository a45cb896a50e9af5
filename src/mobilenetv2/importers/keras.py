"""MobileNetV2 classifiers in Keras weight files, read with h5py: no Keras, no TensorFlow.

Names of layers differ between releases (the published files have older ones than Keras makes today), so that a file
is read as Keras itself reads it: by the order of its layers and the shapes of their weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import files, image, spec, spec_fields
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers.structure import BlockChannels, find_backbone
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.spec import Backbone, ConvSpec, Spec

BN_EPS = 1e-3
DEFAULT_SIZE = 224
MAX_VALUES = 50_000_000  # in one weight; the largest of width 1.4 has 1.8 million

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
        return start == _SIGNATURE or (start.startswith(b"PK") and _IN_ARCHIVE in zipfile.ZipFile(path).namelist())
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


def read(path: Path, *, size: int | None = None) -> ModelFile:
    """The classifier in a `.h5`, `.weights.h5` or `.keras` file.

    The input size is `size`, else what the file says (its name "..._0.35_96.h5", or the saved model), else 224.
    Raises `FileError`, and `WeightsError` for a file that is damaged, not of Keras, without a classifier ("no_top"),
    or whose weights are not exactly those of a MobileNetV2.
    """
    with _opened(path) as (file, described):
        layers = list(_layers(file))
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
def _opened(path: Path) -> Iterator[tuple[Any, str]]:
    """The HDF5 file at `path`, or inside the archive there, and a text in which the input's size may be found."""
    import h5py

    with files.reading(path):
        try:
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    if archive.getinfo(_IN_ARCHIVE).file_size > 4 * MAX_VALUES:
                        raise WeightsError(f"the weights in it are larger than {4 * MAX_VALUES:,} bytes")
                    source: Any = io.BytesIO(archive.read(_IN_ARCHIVE))
                    described = archive.read("config.json").decode()
            else:
                source, described = path, ""
            with h5py.File(source, "r") as file:
                yield file, described or str(file.attrs.get("model_config", "")) or _model_name(file)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            if isinstance(error, OSError) and error.errno:  # the system's: no such file, no permission
                raise
            reason = str(error).splitlines()[0].strip() if str(error).strip() else type(error).__name__
            raise WeightsError(f"not a Keras weight file, damaged or cut short ({reason})") from None


def _model_name(file: Any) -> str:
    """What a `.weights.h5` calls the model: keras.applications has the input's size in there."""
    return f"{file['vars'].attrs.get('name', '')}.h5" if "vars" in file else ""


def _size(text: str) -> int | None:
    """The input's size: "mobilenet_v2_weights_..._1.0_224.h5", "mobilenetv2_1.00_224", or a model's saved config."""
    found = re.search(r"_[0-9.]+_(\d{2,3})(?:_no_top)?(?:\.weights)?\.h5$", text)
    found = found or re.search(r'"batch(?:_input)?_shape": \[null, (\d+), \1, \d+\]', text)
    return int(found[1]) if found else None


def _layers(file: Any) -> Iterator[Layer]:
    """Each layer's weights in the order of the layers; raises `WeightsError` where one would be left out."""
    root = file.get("model_weights", file)
    container = next((root[name] for name in _CONTAINERS if name in root), None)
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        layers = [
            [(name, _member(root, f"{layer}/{name}")) for name in _attribute(_member(root, layer), "weight_names")]
            for layer in _attribute(root, "layer_names")
        ]
    elif container is not None:
        root = container
        groups: dict[str, list[tuple[str, Any]]] = {}
        for name in sorted(_datasets(root), key=_natural):
            groups.setdefault(name.rsplit("/", 1)[0], []).append((name, root[name]))
        layers = list(groups.values())
    else:
        raise WeightsError("an HDF5 file, but none that Keras wrote: it has neither layer names nor layers")
    layers = [[(name, data) for name, data in layer if not _is_random_state(name)] for layer in layers]
    left = {root[name].name for name in _datasets(root)} - {data.name for layer in layers for _, data in layer}
    if left:
        raise WeightsError(f"the weight {min(left)!r} belongs to no layer of the file: it would be left out")
    for layer in layers:
        yield {name: _values(name, data) for name, data in layer}


def _member(group: Any, name: str) -> Any:
    if name not in group:
        raise WeightsError(f"{name!r} is missing: the file names it and does not hold it")
    return group[name]


def _attribute(group: Any, name: str) -> list[str]:
    """A list of names; long ones are split into name0, name1, ... as an HDF5 attribute holds 64 KB."""
    parts = [name] if name in group.attrs else [f"{name}{i}" for i in range(len(group.attrs))]
    values = [value for part in parts if part in group.attrs for value in group.attrs[part]]
    if not all(isinstance(value, bytes | str) for value in values):
        raise WeightsError(f"the attribute {name!r} of {group.name!r} holds no names: the file is damaged")
    return [value.decode() if isinstance(value, bytes) else value for value in values]


def _datasets(group: Any) -> list[str]:
    found: list[str] = []
    group.visititems(lambda name, member: found.append(name) if hasattr(member, "shape") else None)
    return [name for name in found if not _is_random_state(name)]


def _is_random_state(name: str) -> bool:
    return "seed_generator" in name  # of dropout and augmentation


def _natural(name: str) -> list[tuple[str, int]]:
    """A key that puts conv2d_2 before conv2d_10."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D*)(\d*)", name)]


def _values(name: str, data: Any) -> Array:
    if data.size is None or data.size > MAX_VALUES or data.dtype.kind not in "fiu":
        raise WeightsError(f"weight {name!r} is {data.shape} of {data.dtype}: expected at most {MAX_VALUES:,} numbers")
    values = np.asarray(data[()])
    if values.dtype != np.float32:
        with np.errstate(over="ignore", invalid="ignore"):  # what becomes of it is looked at below
            values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise WeightsError(f"weight {name!r} has values that are not finite")
    return values


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
    raise WeightsError(f"weight {name!r} of shape {list(values.shape)} has no place in a MobileNetV2")


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
        raise WeightsError(f"weight {convs[0][0]!r} is left over: it has no place in a MobileNetV2")
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
        raise WeightsError(f"weight {name!r} is {list(values.shape)} in PyTorch's order, expected {list(shape)}")
    return np.ascontiguousarray(values)
