"""What each PyTorch-family source calls the tensors of a MobileNetV2.

Walks the spec: `of(source, net)` pairs every tensor's name of ours with the source's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mobilenetv2 import spec
from mobilenetv2.importers.structure import stages_of
from mobilenetv2.spec import Backbone, BlockSpec, ConvSpec, Spec

Pair = tuple[str, str]  # the prefixes of a convolution's and of its batch norm's names


@dataclass(frozen=True, slots=True)
class Naming:
    """One source's names. `marks` are tensors that together occur in no other source's files."""

    marks: tuple[str, ...]
    block: str  # a regular expression: its group tells the inverted residuals apart
    stem: Pair
    of_block: Callable[[BlockSpec, int, int], tuple[Pair, ...]]  # block, its stage, its place there -> its pairs
    last: Callable[[ConvSpec], Pair]
    classifier: str = "classifier"
    blocks_elsewhere: int = 0  # inverted residuals whose names `block` does not match


def of(source: str, net: Backbone) -> dict[str, str]:
    """Our name of every tensor -> the name in `source`'s files. `net` has the right count of blocks, any width."""
    result: dict[str, str] = {}
    for conv, (name, norm) in zip(spec.convolutions(net), of_convolutions(source, net), strict=True):
        result[f"{conv.name}.weight"] = f"{name}.weight"
        for part in spec.NORM_PARTS:
            result[f"{conv.norm}.{part}"] = f"{norm}.{part}"
    classifier = spec.linear(Spec(net)).name
    for part in ("weight", "bias"):
        result[f"{classifier}.{part}"] = f"{NAMINGS[source].classifier}.{part}"
    return result


def of_convolutions(source: str, net: Backbone) -> list[Pair]:
    """What `source` calls each of `spec.convolutions(net)` and its batch norm."""
    naming = NAMINGS[source]
    all_blocks = spec.blocks(net)
    pairs = [naming.stem]
    for block, (stage, place) in zip(all_blocks, stages_of(len(all_blocks)), strict=True):
        pairs += naming.of_block(block, stage, place)
    pairs.append(naming.last(spec.last(net)))
    return pairs


def recognise(names: Iterable[str]) -> str | None:
    """The source that has such names, or None."""
    names = set(names)
    return next((source for source, naming in NAMINGS.items() if names.issuperset(naming.marks)), None)


def count_blocks(source: str, names: Iterable[str]) -> int:
    """How many inverted residuals the names of a `source` file speak of."""
    naming = NAMINGS[source]
    found = {match[1] for name in names if (match := re.match(naming.block, name))}
    return len(found) + naming.blocks_elsewhere


def _torchvision(block: BlockSpec, stage: int, place: int) -> tuple[Pair, ...]:
    return tuple((conv.name, conv.norm or "") for conv in block.convolutions)


def _timm(block: BlockSpec, stage: int, place: int) -> tuple[Pair, ...]:
    convs = ("conv_dw", "conv_pw") if block.expand is None else ("conv_pw", "conv_dw", "conv_pwl")
    prefix = f"blocks.{stage}.{place}"
    return tuple((f"{prefix}.{conv}", f"{prefix}.bn{i}") for i, conv in enumerate(convs, 1))


def _huggingface(block: BlockSpec, stage: int, place: int) -> tuple[Pair, ...]:
    # the block without expansion is part of their stem
    prefix = "conv_stem" if block.expand is None else f"layer.{block.index - 1}"
    convs = ("expand_1x1", "conv_3x3", "reduce_1x1")[-len(block.convolutions) :]
    return tuple((f"{prefix}.{conv}.convolution", f"{prefix}.{conv}.normalization") for conv in convs)


def _flat(block: BlockSpec, stage: int, place: int) -> tuple[Pair, ...]:
    # one sequence of convolution, batch norm, activation, three numbers for each convolution
    prefix = f"features.{block.index + 1}.conv"
    return tuple((f"{prefix}.{3 * i}", f"{prefix}.{3 * i + 1}") for i in range(len(block.convolutions)))


def _mmpretrain(block: BlockSpec, stage: int, place: int) -> tuple[Pair, ...]:
    prefix = f"backbone.layer{stage + 1}.{place}.conv"
    return tuple((f"{prefix}.{i}.conv", f"{prefix}.{i}.bn") for i in range(len(block.convolutions)))


def _same_last(conv: ConvSpec) -> Pair:
    return conv.name, conv.norm or ""


_FEATURES = r"features\.(\d+)\.conv\."

NAMINGS: Mapping[str, Naming] = {
    "torchvision": Naming(
        marks=("features.0.0.weight", "features.1.conv.0.0.weight"),
        block=_FEATURES,
        stem=("features.0.0", "features.0.1"),
        of_block=_torchvision,
        last=_same_last,
        classifier="classifier.1",
    ),
    "timm": Naming(
        marks=("conv_stem.weight", "blocks.0.0.conv_dw.weight"),
        block=r"blocks\.(\d+\.\d+)\.",
        stem=("conv_stem", "bn1"),
        of_block=_timm,
        last=lambda conv: ("conv_head", "bn2"),
    ),
    "huggingface": Naming(
        marks=("conv_stem.first_conv.convolution.weight",),
        block=r"layer\.(\d+)\.",
        stem=("conv_stem.first_conv.convolution", "conv_stem.first_conv.normalization"),
        of_block=_huggingface,
        last=lambda conv: ("conv_1x1.convolution", "conv_1x1.normalization"),
        blocks_elsewhere=1,
    ),
    "d_li14": Naming(
        marks=("features.1.conv.0.weight", "conv.0.weight"),
        block=_FEATURES,
        stem=("features.0.0", "features.0.1"),
        of_block=_flat,
        last=lambda conv: ("conv.0", "conv.1"),
    ),
    "tonylins": Naming(
        marks=("features.1.conv.0.weight", "features.0.0.weight"),
        block=_FEATURES,
        stem=("features.0.0", "features.0.1"),
        of_block=_flat,
        last=_same_last,
    ),
    "mmpretrain": Naming(
        marks=("backbone.conv1.conv.weight", "backbone.layer1.0.conv.0.conv.weight"),
        block=r"backbone\.layer(\d+\.\d+)\.",
        stem=("backbone.conv1.conv", "backbone.conv1.bn"),
        of_block=_mmpretrain,
        last=lambda conv: ("backbone.conv2.conv", "backbone.conv2.bn"),
        classifier="head.fc",
    ),
}
