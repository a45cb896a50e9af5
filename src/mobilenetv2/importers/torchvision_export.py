"""Writes a model's weights as torchvision.models.mobilenet_v2 reads them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from mobilenetv2 import files, spec
from mobilenetv2.errors import MissingExtraError, UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import STAGES, Backbone, Classifier, Spec, Stage

BN_EPS = 1e-5  # torchvision's; no argument of its function changes it


def export_torchvision(model: ModelFile, path: str | os.PathLike[str]) -> str:
    """Write `model`'s tensors as a state dict for torchvision; returns the call that makes the network for it.

    `.pth` and `.pt` are written by torch, `.safetensors` without it. The network computes the same logits: another
    batch-norm epsilon goes into the variances. Preprocessing and labels are not part of a state dict.

    Raises `UsageError` that names what torchvision's network does not have, `MissingExtraError` where torch is
    needed and absent, `FileError`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".pth", ".pt", ".safetensors"):
        raise UsageError(f"{path}: torchvision's weights are written as .pth, .pt or .safetensors")
    call = _call(model.info.spec)
    tensors = _state_dict(model)
    if suffix == ".safetensors":
        files.write_bytes(path, safetensors.numpy.save(tensors, {"format": "pt"}))
        return call
    try:
        import torch
    except ImportError:
        raise MissingExtraError("torch", extra="train", needed_for=f"writing {suffix} files") from None
    with files.writing(path) as temporary:
        torch.save({name: torch.from_numpy(value) for name, value in tensors.items()}, temporary)
    return call


def _state_dict(model: ModelFile) -> dict[str, npt.NDArray[np.generic]]:
    difference = model.info.spec.backbone.bn_eps - BN_EPS
    result: dict[str, npt.NDArray[np.generic]] = {}
    for name, value in model.tensors.items():
        if name.endswith("running_var"):
            # variance + epsilon is all that is ever used: in float64, as the sum may be much smaller than 1
            result[name] = (value.astype(np.float64) + difference).astype(np.float32)
            result[name.removesuffix("running_var") + "num_batches_tracked"] = np.zeros((), np.int64)
        else:
            result[name] = value.copy()
    return result


def _call(network: Spec) -> str:
    """torchvision's call for this network. Raises `UsageError` where it has none."""
    net, theirs = network.backbone, Backbone()
    if not isinstance(network.head, Classifier):
        raise UsageError(f"torchvision's mobilenet_v2 classifies: it cannot express a model for {network.task}")
    if net.padding != "symmetric":
        raise UsageError(
            f"torchvision cannot express padding {net.padding!r}: its convolutions pad both sides alike, and these "
            "weights were trained with the other way"
        )
    for field in ("in_channels", "output_stride", "activation", "bottleneck", "shortcut"):
        value = getattr(net, field)
        if value != getattr(theirs, field):
            raise UsageError(
                f"torchvision cannot express {field} {value!r}: its network has {getattr(theirs, field)!r}"
            )
    # stem and last convolution follow from the width there: a width of 1 leaves 32 and 1280 to a table that says all
    ends = _ends(net)
    if ends != _ends(dataclasses.replace(net, stem_channels=None, last_channels=None)):
        if ends != _ends(theirs):
            raise UsageError(f"torchvision cannot express stem_channels {ends[0]} with last_channels {ends[1]}")
        net = Backbone(stages=_written_out(net), round_nearest=1)
    arguments: dict[str, object] = {}
    if network.head.outputs != 1000:
        arguments["num_classes"] = network.head.outputs
    if net.width_mult != 1.0:
        arguments["width_mult"] = net.width_mult
    if net.stages != STAGES:
        arguments["inverted_residual_setting"] = [list(row) for row in net.stages]
    if net.round_nearest != 8:
        arguments["round_nearest"] = net.round_nearest
    return f"torchvision.models.mobilenet_v2({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _ends(net: Backbone) -> tuple[int, int]:
    return spec.stem(net).out_channels, spec.last(net).out_channels


def _written_out(net: Backbone) -> tuple[Stage, ...]:
    """The stage table with the channels that `net` really has, for width 1."""
    first = 0
    rows: list[Stage] = []
    for t, _, n, s in net.stages:
        rows.append((t, spec.blocks(net)[first].out_channels, n, s))
        first += n
    return tuple(rows)
