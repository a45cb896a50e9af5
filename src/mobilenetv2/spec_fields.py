"""The fields of a network's spec: checked where they come from outside, and as plain JSON values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, get_args

from mobilenetv2.errors import SpecError
from mobilenetv2.spec import (
    Activation,
    Backbone,
    Background,
    Classifier,
    DeepLab,
    Head,
    Padding,
    Score,
    Shortcut,
    Spec,
    SSDLite,
    Stage,
    taps,
)

OUTPUT_STRIDES = (8, 16, 32)  # how many times smaller the last map may be than the input


def backbone(**fields: Any) -> Backbone:
    """A checked `Backbone`. Raises `SpecError` that names the field, its value and what is possible."""
    _check_known("network", Backbone, fields)
    if "stages" in fields:
        fields["stages"] = _checked_stages(fields["stages"])
    result = Backbone(**fields)
    _check_choice("padding", result.padding, get_args(Padding))
    _check_choice("output_stride", result.output_stride, OUTPUT_STRIDES)
    _check_choice("activation", result.activation, get_args(Activation))
    _check_choice("bottleneck", result.bottleneck, get_args(Activation))
    _check_choice("shortcut", result.shortcut, get_args(Shortcut))
    if isinstance(result.width_mult, bool) or not isinstance(result.width_mult, int | float):
        raise SpecError(f"width_mult must be a number, got {result.width_mult!r}")
    if not 0 < result.width_mult <= 16:
        raise SpecError(f"width_mult must be above 0 and at most 16, got {result.width_mult}")
    if not (isinstance(result.bn_eps, float) and 0 < result.bn_eps < 1):
        raise SpecError(f"bn_eps must be a number between 0 and 1, got {result.bn_eps!r}")
    for name in ("round_nearest", "in_channels", "stem_channels", "last_channels"):
        value = getattr(result, name)
        optional = value is None and name in ("stem_channels", "last_channels")
        if not optional and not _is_count(value):
            raise SpecError(f"{name} must be a whole number from 1 up, got {value!r}")
    return result


def classifier(**fields: Any) -> Classifier:
    """A checked `Classifier` head. Raises `SpecError`."""
    _check_known("classifier", Classifier, fields)
    head = Classifier(**fields)
    _check_choice("background", head.background, get_args(Background))
    if isinstance(head.outputs, bool) or not isinstance(head.outputs, int) or head.classes < 1:
        raise SpecError(f"outputs must leave at least one real class, got {head.outputs!r}")
    if not isinstance(head.dropout, int | float) or not 0 <= head.dropout < 1:
        raise SpecError(f"dropout must be at least 0 and below 1, got {head.dropout!r}")
    return head


def ssdlite(**fields: Any) -> SSDLite:
    """A checked `SSDLite` head. Raises `SpecError`."""
    _check_known("detector", SSDLite, fields)
    for name in ("taps", "extras", "coder", "squeezes", "steps"):
        if name in fields and (fields[name] is not None or name not in ("squeezes", "steps")):
            fields[name] = _checked_tuple(name, fields[name])
    if "anchors" in fields:
        maps = _checked_tuple("anchors", fields["anchors"])
        fields["anchors"] = tuple(
            tuple(_checked_tuple("anchors", pair) for pair in _checked_tuple("anchors", pairs)) for pairs in maps
        )
    head = SSDLite(**fields)
    _check_choice("background", head.background, get_args(Background))
    _check_choice("score", head.score, get_args(Score) if head.background != "none" else ("sigmoid",))
    for name in ("separable", "linear_extras", "pointwise_last"):
        _check_choice(name, getattr(head, name), (True, False))
    for name in ("classes", "most_per_class", "most"):
        if not _is_count(getattr(head, name)):
            raise SpecError(f"{name} must be a whole number from 1 up, got {getattr(head, name)!r}")
    for name in ("score_threshold", "iou_threshold"):
        if not _is_number(getattr(head, name)) or not 0 <= getattr(head, name) <= 1:
            raise SpecError(f"{name} must be between 0 and 1, got {getattr(head, name)!r}")
    if not head.taps or not all(isinstance(name, str) for name in head.taps):
        raise SpecError(f"taps must be names of feature maps, at least one, got {head.taps!r}")
    if not all(map(_is_count, head.extras)):
        raise SpecError(f"extras must be whole numbers of channels from 1 up, got {head.extras!r}")
    if len(head.coder) != 4 or not all(_is_number(scale) and scale > 0 for scale in head.coder):
        raise SpecError(f"coder must be four numbers above 0, for x, y, width and height; got {head.coder!r}")
    if len(head.anchors) != len(head.taps) + len(head.extras):
        raise SpecError(
            f"anchors must be given for each of {len(head.taps)} taps and {len(head.extras)} extras, "
            f"got {len(head.anchors)} lists"
        )
    squeezes, steps = head.squeezes, head.steps
    if squeezes is not None and not (len(squeezes) == len(head.extras) and all(map(_is_count, squeezes))):
        raise SpecError(f"squeezes must be whole numbers from 1 up, one for each extra, got {squeezes!r}")
    if steps is not None and not (len(steps) == len(head.anchors) and all(_is_number(n) and n > 0 for n in steps)):
        raise SpecError(f"steps must be numbers above 0, one for each map, got {steps!r}")
    for pairs in head.anchors:
        if not pairs or not all(len(pair) == 2 and all(_is_number(n) and n > 0 for n in pair) for pair in pairs):
            raise SpecError(f"anchors must be pairs (width, height) above 0, at least one a map, got {pairs!r:.80}")
    return head


def deeplab(**fields: Any) -> DeepLab:
    """A checked `DeepLab` head. Raises `SpecError`."""
    _check_known("segmentation head", DeepLab, fields)
    if "rates" in fields:
        fields["rates"] = _checked_tuple("rates", fields["rates"])
    head = DeepLab(**fields)
    _check_choice("background", head.background, get_args(Background))
    for name in ("aspp", "align_corners"):
        _check_choice(name, getattr(head, name), (True, False))
    for name in ("classes", "channels"):
        if not _is_count(getattr(head, name)):
            raise SpecError(f"{name} must be a whole number from 1 up, got {getattr(head, name)!r}")
    if head.outputs > MOST_CLASSES:
        raise SpecError(f"classes must be at most {MOST_CLASSES} with the background, got {head.outputs}")
    if not head.rates or not all(map(_is_count, head.rates)):
        raise SpecError(f"rates must be whole numbers from 1 up, at least one, got {head.rates!r}")
    for name, value in (("bn_eps", head.bn_eps), ("dropout", head.dropout)):
        if not _is_number(value) or not (0 < value < 1 or (name == "dropout" and value == 0)):
            raise SpecError(f"{name} must be a number between 0 and 1, got {value!r}")
    return head


def network(net: Backbone, head: Head) -> Spec:
    """Both as one network. Raises `SpecError` where the head reads a map that the backbone has not."""
    if isinstance(head, SSDLite):
        for name in head.taps:
            _check_choice("a tap", name, taps(net))
    return Spec(net, head)


MOST_CLASSES = 255  # a mask names them in bytes, and 255 is "does not count"
_HEADS: dict[str, tuple[type[Head], Callable[..., Head]]] = {
    "classifier": (Classifier, classifier),
    "ssdlite": (SSDLite, ssdlite),
    "deeplab": (DeepLab, deeplab),
}


def to_json(spec: Spec) -> dict[str, Any]:
    """The spec as plain JSON values: the fields that differ from the defaults, and the head with its kind."""
    defaults = Backbone()
    fields = {
        field.name: value
        for field in dataclasses.fields(Backbone)
        if (value := getattr(spec.backbone, field.name)) != getattr(defaults, field.name)
    }
    kind = next(kind for kind, (head, _) in _HEADS.items() if isinstance(spec.head, head))
    return {"backbone": fields, "head": {"kind": kind, **dataclasses.asdict(spec.head)}}


def from_json(data: Any) -> Spec:
    """The spec that `to_json` wrote. Raises `SpecError` on anything it could not have written."""
    if not isinstance(data, dict) or set(data) != {"backbone", "head"}:
        raise SpecError(f"a network is described by 'backbone' and 'head', got {data!r:.80}")
    fields, head = data["backbone"], data["head"]
    if not isinstance(fields, dict) or not isinstance(head, dict):
        raise SpecError("'backbone' and 'head' of a network are both objects")
    head = dict(head)
    kind = head.pop("kind", None)
    _check_choice("head kind", kind, _HEADS)
    return network(backbone(**fields), _HEADS[kind][1](**head))


def _checked_stages(stages: Iterable[Sequence[float]]) -> tuple[Stage, ...]:
    rows: list[tuple[Any, ...]] = [tuple(row) if isinstance(row, Sequence) else (row,) for row in stages]
    if not rows or any(len(row) != 4 for row in rows):
        raise SpecError(f"inverted_residual_setting must be rows of (t, c, n, s), at least one, got {stages!r}")
    for row in rows:
        t, c, n, s = row
        whole = all(isinstance(value, int) and value >= 1 for value in (c, n, s))
        if not whole or not isinstance(t, int | float) or t <= 0 or s not in (1, 2):
            raise SpecError(
                "a row of inverted_residual_setting is expansion > 0, channels >= 1, blocks >= 1, stride 1 or 2; "
                f"got {row!r}"
            )
    return tuple((t, int(c), int(n), int(s)) for t, c, n, s in rows)


def _checked_tuple(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise SpecError(f"{name} must be a list, got {value!r:.80}")
    return tuple(value)


def _check_known(what: str, kind: Any, fields: Iterable[str]) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    for name in fields:
        if name not in known:
            raise SpecError(f"unknown field {name!r} of the {what}: choose from {', '.join(sorted(known))}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    choices = tuple(choices)
    if value not in choices:
        raise SpecError(f"{name} must be {_either(choices)}, got {value!r}")


def _either(choices: Sequence[object]) -> str:
    *most, final = map(str, choices)
    return f"{', '.join(most)} or {final}" if most else final
