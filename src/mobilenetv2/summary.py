"""What a model file is, in a few lines for people or one object for machines."""

from __future__ import annotations

from typing import Any

from mobilenetv2 import spec_fields
from mobilenetv2.complexity import complexity
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.spec import DeepLab, SSDLite, ssdlite
from mobilenetv2.text import plain

_LONGEST_VALUE = 1000  # characters of one of the provenance's values; its notes are a sentence each
_MOST_VALUES = 40  # of the provenance; what import and training write has at most 15


def summarise(info: ModelInfo) -> dict[str, Any]:
    """Plain JSON values: task, classes, labels, input, preprocessing, network, costs at the input size, provenance.

    `multiply_adds` and `parameters` follow `complexity`'s conventions; `peak_activation_elements` is what running
    one layer at a time keeps in memory (x 4 bytes in float32).
    """
    costs = complexity(info.spec, info.preprocessing.size)
    facts: dict[str, Any] = {}
    if isinstance(head := info.spec.head, SSDLite):
        facts = {"anchors": ssdlite.anchor_count(info.spec, info.preprocessing.size), "score": head.score}
    if isinstance(head, DeepLab):
        stride = info.spec.backbone.output_stride
        facts = {"output_stride": stride, "aspp": head.aspp, "align_corners": head.align_corners}
    return {
        "task": info.task,
        "classes": info.classes,
        "background": info.spec.head.background,
        **facts,
        "labels": list(info.labels),
        "label_ids": list(info.label_ids),
        "input_size": list(info.preprocessing.size),
        "preprocessing": info.preprocessing.to_json(),
        "spec": spec_fields.to_json(info.spec),
        "width_mult": info.spec.backbone.width_mult,
        "padding": info.spec.backbone.padding,
        "batch_norm": info.batch_norm,
        "parameters": costs.parameters,
        "multiply_adds": costs.multiply_adds,
        "largest_activation_elements": costs.largest.elements,
        "peak_activation_elements": costs.peak.live,
        "provenance": dict(info.provenance),
    }


def text(summary: dict[str, Any]) -> str:
    """`summarise`'s object as aligned lines."""
    labels = summary["labels"]
    if not labels:
        named = "names unknown"
    elif len(labels) > 6:
        named = f"{', '.join(map(plain, labels[:3]))}, ... {plain(labels[-1])}"
    else:
        named = ", ".join(map(plain, labels))
    height, width = summary["input_size"]
    preprocessing = summary["preprocessing"]
    background = {"none": "", "first": ", output 0 is background", "last": ", the last output is background"}
    lines = [
        ("task", summary["task"]),
        ("classes", f"{summary['classes']} ({named}){background[summary['background']]}"),
        ("input", f"{height} x {width} pixels, recipe {plain(preprocessing['recipe'])}: {_resizing(preprocessing)}"),
        ("", f"normalised by mean {_numbers(preprocessing['mean'])}, std {_numbers(preprocessing['std'])} (0..255)"),
        (
            "network",
            f"width {summary['width_mult']:g}, {summary['padding']} padding, batch norm {summary['batch_norm']}",
        ),
        *([("detector", f"{summary['anchors']:,} anchors, {summary['score']} scores")] if "anchors" in summary else []),
        *([("masks", _masks(summary))] if "output_stride" in summary else []),
        ("parameters", f"{summary['parameters']:,}"),
        ("multiply-adds", f"{summary['multiply_adds']:,}"),
        ("activations", f"{summary['peak_activation_elements'] * 4 / 2**20:.2f} MiB in float32, one layer at a time"),
    ]
    provenance = list(summary["provenance"].items())
    lines += [(plain(name), plain(_value(value), _LONGEST_VALUE)) for name, value in provenance[:_MOST_VALUES]]
    if len(provenance) > _MOST_VALUES:
        lines.append(("", f"and {len(provenance) - _MOST_VALUES} more, which --json shows"))
    return "\n".join(f"{name:14} {value}".rstrip() for name, value in lines)


def _masks(summary: dict[str, Any]) -> str:
    head = "atrous pyramid" if summary["aspp"] else "image pooling"
    grown = "corners aligned" if summary["align_corners"] else "edges aligned"
    return f"a class for every pixel, output stride {summary['output_stride']}, {head}, {grown}"


def _resizing(preprocessing: dict[str, Any]) -> str:
    steps: list[str] = []
    if preprocessing["central_fraction"] != 1:
        steps.append(f"central {preprocessing['central_fraction']:g} of the picture")
    if preprocessing["resize"] == "short":
        steps.append(f"shortest side to {preprocessing['resize_to']}")
    if preprocessing["resize"] == "stretch":
        steps.append("stretched to the input size")
    elif preprocessing["resize"] == "fit":
        steps.append("made smaller where larger, the rest filled with the mean")
    else:
        steps.append("centre crop")
    return f"{', '.join(steps)} ({preprocessing['interpolation']})"


def _numbers(values: list[float]) -> str:
    shown = " ".join(f"{value:g}" for value in values[:8])
    return shown if len(values) <= 8 else f"{shown} ... ({len(values)} channels)"


def _value(value: Any) -> str:
    """One line; a training run's recipe is its name, which `--json` spells out."""
    if isinstance(value, dict):
        return str(value.get("name") or ", ".join(f"{name} {part}" for name, part in value.items()))
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
