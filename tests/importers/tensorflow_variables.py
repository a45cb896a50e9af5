"""A model's convolutions as TensorFlow's variables, for those who test their import."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mobilenetv2 import spec
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import ConvSpec

Named = Iterator[tuple[str, np.ndarray]]


def convolution(model: ModelFile, conv: ConvSpec, scope: str) -> Named:
    weight = model.tensors[f"{conv.name}.weight"]
    kind = "depthwise_weights" if conv.groups > 1 else "weights"
    yield f"{scope}/{kind}", weight.transpose((2, 3, 0, 1) if conv.groups > 1 else (2, 3, 1, 0))
    if conv.norm is None:
        yield f"{scope}/biases", model.tensors[f"{conv.name}.bias"]
        return
    theirs = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    for part, variable in theirs.items():
        yield f"{scope}/BatchNorm/{variable}", model.tensors[f"{conv.norm}.{part}"]


def stem_and_blocks(model: ModelFile, root: str) -> Named:
    net = model.info.spec.backbone
    yield from convolution(model, spec.stem(net), f"{root}/Conv")
    for i, block in enumerate(spec.blocks(net)):
        scope = f"{root}/expanded_conv_{i}" if i else f"{root}/expanded_conv"
        yield from convolution(model, block.depthwise, f"{scope}/depthwise")
        yield from convolution(model, block.project, f"{scope}/project")
        if block.expand is not None:
            yield from convolution(model, block.expand, f"{scope}/expand")
