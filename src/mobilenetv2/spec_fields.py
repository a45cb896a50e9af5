"""The fields of a network's spec: checked where they come from outside, and as plain JSON values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from mobilenetv2.errors import SpecError
from mobilenetv2.spec import Activation, Backbone, Background, Classifier, Padding, Shortcut, Spec, Stage


def backbone(**fields: Any) -> Backbone:
    """A checked `Backbone`. Raises `SpecError` that names the field, its value and what is possible."""
    known = {field.name for field in dataclasses.fields(Backbone)}
    for name in fields:
        if name not in known:
            raise SpecError(f"unknown field {name!r} of the network: choose from {', '.join(sorted(known))}")
    if "stages" in fields:
        fields["stages"] = _checked_stages(fields["stages"])
    result = Backbone(**fields)
    _check_choice("padding", result.padding, get_args(Padding))
    _check_choice("output_stride", result.output_stride, (8, 16, 32))
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
        if not optional and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise SpecError(f"{name} must be a whole number from 1 up, got {value!r}")
    return result


def classifier(**fields: Any) -> Classifier:
    """A checked `Classifier` head. Raises `SpecError`."""
    known = {field.name for field in dataclasses.fields(Classifier)}
    if unknown := set(fields) - known:
        raise SpecError(f"unknown field {unknown.pop()!r} of the classifier: choose from {', '.join(sorted(known))}")
    head = Classifier(**fields)
    _check_choice("background", head.background, get_args(Background))
    if isinstance(head.outputs, bool) or not isinstance(head.outputs, int) or head.classes < 1:
        raise SpecError(f"outputs must leave at least one real class, got {head.outputs!r}")
    if not isinstance(head.dropout, int | float) or not 0 <= head.dropout < 1:
        raise SpecError(f"dropout must be at least 0 and below 1, got {head.dropout!r}")
    return head


def to_json(spec: Spec) -> dict[str, Any]:
    """The spec as plain JSON values: the fields that differ from the defaults, and the head's kind."""
    defaults = Backbone()
    fields = {
        field.name: value
        for field in dataclasses.fields(Backbone)
        if (value := getattr(spec.backbone, field.name)) != getattr(defaults, field.name)
    }
    return {"backbone": fields, "head": {"kind": "classifier", **dataclasses.asdict(spec.head)}}


def from_json(data: Any) -> Spec:
    """The spec that `to_json` wrote. Raises `SpecError` on anything it could not have written."""
    if not isinstance(data, dict) or set(data) != {"backbone", "head"}:
        raise SpecError(f"a network is described by 'backbone' and 'head', got {data!r:.80}")
    fields, head = data["backbone"], data["head"]
    if not isinstance(fields, dict) or not isinstance(head, dict):
        raise SpecError("'backbone' and 'head' of a network are both objects")
    head = dict(head)
    kind = head.pop("kind", None)
    _check_choice("head kind", kind, ("classifier",))
    return Spec(backbone(**fields), classifier(**head))


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


def _check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    choices = tuple(choices)
    if value not in choices:
        raise SpecError(f"{name} must be {_either(choices)}, got {value!r}")


def _either(choices: Sequence[object]) -> str:
    *most, final = map(str, choices)
    return f"{', '.join(most)} or {final}" if most else final
