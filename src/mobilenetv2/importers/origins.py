"""Which tensors of another library's file a tensor of ours is made of, and how.

TensorFlow stores convolutions [rows, columns, in, out], and where a bias stands before a batch norm it is taken off the
batch norm's mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers.names import Pair
from mobilenetv2.importers.torch_family import check_names, float32, note_precisions
from mobilenetv2.importers.unpickle import StoredTensor
from mobilenetv2.spec import Backbone, ConvSpec, Spec

Array = npt.NDArray[Any]
Origins = Iterator[tuple[str, "Origin"]]

_AVERAGED = "/ExponentialMovingAverage"
_OPTIMISERS = ("/RMSProp", "/RMSProp_1", "/Momentum", "/Adam", "/Adam_1")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tensor of ours comes from: `make` of the tensors `names` of theirs."""

    names: tuple[str, ...]
    make: Callable[..., Array] = lambda values: values


def with_norm(convs: Sequence[ConvSpec], pairs: Sequence[Pair], *, biased: bool = False) -> Origins:
    """Of convolutions with batch norm, under the prefixes `pairs`; `biased` where they have a bias nevertheless."""
    for conv, (name, norm) in zip(convs, pairs, strict=True):
        yield f"{conv.name}.weight", Origin((f"{name}.weight",))
        for part in spec.NORM_PARTS:
            origin = Origin((f"{norm}.{part}",))
            if biased and part == "running_mean":
                origin = Origin((f"{norm}.{part}", f"{name}.bias"), lambda mean, bias: mean - bias)
            yield f"{conv.norm}.{part}", origin


def plain(conv: ConvSpec, name: str) -> Origins:
    """Of a convolution with a bias and without batch norm."""
    for part in ("weight", "bias"):
        yield f"{conv.name}.{part}", Origin((f"{name}.{part}",))


def variables(conv: ConvSpec, name: str, *, outputs: Callable[[Array], Array] = lambda values: values) -> Origins:
    """Of a convolution in TensorFlow's scope `name`; `outputs` puts what it has along axis 0 in our order."""
    layout = (2, 3, 0, 1) if conv.groups > 1 else (3, 2, 0, 1)

    def weight(stored: Array) -> Array:
        return outputs(stored.transpose(layout))

    yield f"{conv.name}.weight", Origin((f"{name}/{'depthwise_' if conv.groups > 1 else ''}weights",), weight)
    if conv.norm is None:
        yield f"{conv.name}.bias", Origin((f"{name}/biases",), outputs)
        return
    for part, theirs in zip(spec.NORM_PARTS, ("gamma", "beta", "moving_mean", "moving_variance"), strict=True):
        yield f"{conv.norm}.{part}", Origin((f"{name}/BatchNorm/{theirs}",))


def backbone_variables(net: Backbone, root: str) -> Origins:
    """Of the stem and the blocks as TF-Slim's MobileNetV2 in the scope `root` names them."""
    yield from variables(spec.stem(net), f"{root}/Conv")
    for block in spec.blocks(net):
        name = f"{root}/expanded_conv{f'_{block.index}' if block.index else ''}"
        for conv, part in zip(block.convolutions[::-1], ("project", "depthwise", "expand"), strict=False):
            yield from variables(conv, f"{name}/{part}")


def network_tensors(tensors: Mapping[str, StoredTensor], notes: list[str]) -> dict[str, StoredTensor]:
    """The network's tensors: of TensorFlow's variables, the averages where they are kept, and no optimiser's."""
    result: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        short = name.removesuffix(":0")
        if not short.endswith((_AVERAGED, *_OPTIMISERS)) and short != "global_step":
            result[short] = tensor
    averaged = {name.removesuffix(":0").removesuffix(_AVERAGED): name for name in tensors if _AVERAGED in name}
    if averaged:
        notes.append("the averaged weights were taken (ExponentialMovingAverage), not those of the last step")
    return {**result, **{short: tensors[name] for short, name in averaged.items()}}


def make(
    path: Path, source: str, origins: Mapping[str, Origin], tensors: Mapping[str, StoredTensor], notes: list[str]
) -> dict[str, npt.NDArray[np.float32]]:
    """Our tensors, in float32, of exactly the `tensors` that `origins` name. Raises `WeightsError` that names one."""
    check_names(path, source, {name for origin in origins.values() for name in origin.names}, set(tensors))
    note_precisions(tensors.values(), notes)
    return {ours: _made(path, origin, tensors) for ours, origin in origins.items()}


def check_shapes(path: Path, network: Spec, found: Mapping[str, Array], origins: Mapping[str, Origin]) -> None:
    """Raises `WeightsError` that names the tensor of theirs whose shape is not the one that `network` needs."""
    for ours, shape in spec.tensors(network).items():
        if found[ours].shape != shape:
            raise WeightsError(
                f"{path}: tensor {origins[ours].names[0]} stands for {list(found[ours].shape)}, expected {list(shape)}"
            )


def _made(path: Path, origin: Origin, tensors: Mapping[str, StoredTensor]) -> npt.NDArray[np.float32]:
    values = [float32(path, name, tensors[name]) for name in origin.names]
    try:
        return np.asarray(origin.make(*values), np.float32, order="C")
    except (ValueError, IndexError):
        shapes = " and ".join(f"{name} {list(value.shape)}" for name, value in zip(origin.names, values, strict=True))
        raise WeightsError(f"{path}: the shapes of {shapes} are no convolution's") from None
