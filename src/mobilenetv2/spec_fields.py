"""The fields of a network's spec: checked where they come from outside, and as plain JSON values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, get_args

from mobilenetv2 import checks, limits, spec
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
from mobilenetv2.text import plain, quoted

OUTPUT_STRIDES = (8, 16, 32)  # how many times smaller the last map may be than the input


def backbone(**fields: Any) -> Backbone:
    """A checked `Backbone`. Raises `SpecError` that names the field, its value and what is possible."""
    _check_known("network", Backbone, fields)
    return _backbone(Backbone(**fields))


def classifier(**fields: Any) -> Classifier:
    """A checked `Classifier` head. Raises `SpecError`."""
    _check_known("classifier", Classifier, fields)
    return _classifier(Classifier(**fields))


def ssdlite(**fields: Any) -> SSDLite:
    """A checked `SSDLite` head. Raises `SpecError`."""
    _check_known("detector", SSDLite, fields)
    return _ssdlite(SSDLite(**fields))


def deeplab(**fields: Any) -> DeepLab:
    """A checked `DeepLab` head. Raises `SpecError`."""
    _check_known("segmentation head", DeepLab, fields)
    return _deeplab(DeepLab(**fields))


def network(net: Backbone, head: Head) -> Spec:
    """Both as one network. Raises `SpecError` where the head reads a map that the backbone has not."""
    if isinstance(head, SSDLite):
        known = taps(net)
        for name in head.taps:
            checks.choice("a tap", name, known, error=SpecError)
    return Spec(net, head)


def check(found: Spec) -> Spec:
    """A network that was made in any way, as the functions above make it. Raises `SpecError`."""
    checked = next(check for kind, check in _CHECKS.items() if isinstance(found.head, kind))
    return network(_backbone(found.backbone), checked(found.head))


def _backbone(net: Backbone) -> Backbone:
    optional = {name: getattr(net, name) for name in ("stem_channels", "last_channels")}
    net = dataclasses.replace(
        net,
        width_mult=_number("width_mult", net.width_mult, 0, limits.WIDTH_MULT, above=True),
        stages=_items("inverted_residual_setting", net.stages, _stage, least=1, most=limits.BLOCKS),
        round_nearest=_whole("round_nearest", net.round_nearest, limits.CHANNELS),
        in_channels=_whole("in_channels", net.in_channels, limits.CHANNELS),
        padding=_choice("padding", net.padding, get_args(Padding)),
        bn_eps=_number("bn_eps", net.bn_eps, 0, 1, above=True, below=True),
        output_stride=_choice("output_stride", net.output_stride, OUTPUT_STRIDES),
        activation=_choice("activation", net.activation, get_args(Activation)),
        bottleneck=_choice("bottleneck", net.bottleneck, get_args(Activation)),
        shortcut=_choice("shortcut", net.shortcut, get_args(Shortcut)),
        **{name: None if n is None else _whole(name, n, limits.CHANNELS) for name, n in optional.items()},
    )
    _check_channels(net)
    return net


def _check_channels(net: Backbone) -> None:
    """Raise `SpecError` where a table of possible rows makes a network that is too deep, too wide, or has no channels
    somewhere; without listing its blocks."""
    count = sum(n for _, _, n, _ in net.stages)
    if count > limits.BLOCKS:
        raise SpecError(f"inverted_residual_setting has {count:,} blocks in all: the limit is {limits.BLOCKS:,}")
    inputs = spec.stem(net).out_channels
    widths = {"the first convolution": inputs, "the last convolution": spec.last_channels(net)}
    for t, c, n, _ in net.stages:
        outputs = spec.make_divisible(c * net.width_mult, net.round_nearest)
        widths[f"the row {(t, c, n)} of inverted_residual_setting"] = outputs
        for source in {inputs, outputs} if n > 1 else {inputs}:
            widths[f"expansion {t:g} of {source:,} channels"] = round(source * t)
        inputs = outputs
    for where, channels in widths.items():
        if not 1 <= channels <= limits.CHANNELS:
            raise SpecError(f"{plain(where)} makes {channels:,} channels: possible are 1 to {limits.CHANNELS:,}")


def _stage(row: Any) -> Stage:
    try:
        t, c, n, s = _items("a row (t, c, n, s)", row, least=4, most=4)
        return (
            _number("expansion t", t, 0, limits.EXPANSION, above=True),
            _whole("channels c", c, limits.CHANNELS),
            _whole("blocks n", n, limits.BLOCKS),
            _choice("stride s", s, (1, 2)),
        )
    except SpecError as error:
        raise SpecError(f"row {quoted(row)} of inverted_residual_setting: {error}") from None


def _classifier(head: Classifier) -> Classifier:
    background = _choice("background", head.background, get_args(Background))
    with_background = background != "none"
    return Classifier(
        outputs=checks.whole(
            "outputs (the classes and the background)" if with_background else "outputs",
            head.outputs, 1 + with_background, limits.CLASSES + with_background, error=SpecError,
        ),
        background=background,
        dropout=_number("dropout", head.dropout, 0, 1, below=True),
    )  # fmt: skip


def _ssdlite(head: SSDLite) -> SSDLite:
    background = _choice("background", head.background, get_args(Background))
    head = dataclasses.replace(
        head,
        classes=_whole("classes", head.classes, limits.CLASSES),
        background=background,
        score=_choice("score", head.score, get_args(Score) if background != "none" else ("sigmoid",)),
        separable=_choice("separable", head.separable, (True, False)),
        taps=_items("taps", head.taps, _tap, least=1, most=limits.TAPS),
        extras=_items("extras", head.extras, _extra, most=limits.TAPS),
        anchors=_items("anchors", head.anchors, _anchors, most=2 * limits.TAPS),
        coder=_items("coder", head.coder, _coder, least=4, most=4),
        score_threshold=_number("score_threshold", head.score_threshold, 0, 1),
        iou_threshold=_number("iou_threshold", head.iou_threshold, 0, 1),
        most_per_class=_whole("most_per_class", head.most_per_class, limits.BOXES),
        most=_whole("most", head.most, limits.BOXES),
        linear_extras=_choice("linear_extras", head.linear_extras, (True, False)),
        pointwise_last=_choice("pointwise_last", head.pointwise_last, (True, False)),
    )
    count = len(head.extras)
    if len(head.anchors) != len(head.taps) + count:
        raise SpecError(
            f"anchors must be given for each of {len(head.taps)} taps and {count} extras, got {len(head.anchors)} lists"
        )
    if head.squeezes is not None:
        squeezes = _items("squeezes (one for each extra)", head.squeezes, _squeeze, least=count, most=count)
        head = dataclasses.replace(head, squeezes=squeezes)
    if head.steps is not None:
        steps = _items("steps (one for each map)", head.steps, _step, least=len(head.anchors), most=len(head.anchors))
        head = dataclasses.replace(head, steps=steps)
    return head


def _tap(name: Any) -> str:
    return checks.text("a tap", name, limits.STATED_TEXT, error=SpecError)


def _extra(channels: Any) -> int:
    return _whole("channels in extras", channels, limits.CHANNELS)


def _squeeze(channels: Any) -> int:
    return _whole("channels in squeezes", channels, limits.CHANNELS)


def _step(distance: Any) -> float:
    return _number("a distance in steps", distance, 0, limits.ANCHOR_SIDE, above=True)


def _coder(scale: Any) -> float:
    return _number("a scale in coder", scale, 1 / limits.CODER, limits.CODER)


def _anchors(pairs: Any) -> tuple[tuple[float, float], ...]:
    """Those of one map."""
    return _items("anchors of one map", pairs, _anchor, least=1, most=limits.ANCHORS)


def _anchor(pair: Any) -> tuple[float, float]:
    return _items("an anchor (width, height)", pair, _anchor_side, least=2, most=2)


def _anchor_side(side: Any) -> float:
    return _number("a side of an anchor", side, 1 / limits.ANCHOR_SIDE, limits.ANCHOR_SIDE)


def _deeplab(head: DeepLab) -> DeepLab:
    head = DeepLab(
        classes=_whole("classes", head.classes, MOST_CLASSES),
        background=_choice("background", head.background, get_args(Background)),
        aspp=_choice("aspp", head.aspp, (True, False)),
        rates=_items("rates", head.rates, _rate, least=1, most=limits.RATES),
        channels=_whole("channels", head.channels, limits.CHANNELS),
        align_corners=_choice("align_corners", head.align_corners, (True, False)),
        bn_eps=_number("bn_eps", head.bn_eps, 0, 1, above=True, below=True),
        dropout=_number("dropout", head.dropout, 0, 1, below=True),
    )
    if head.outputs > MOST_CLASSES:
        raise SpecError(f"classes must be at most {MOST_CLASSES} with the background, got {head.outputs}")
    return head


def _rate(rate: Any) -> int:
    return _whole("a number in rates", rate, limits.RATE)


MOST_CLASSES = 255  # a mask names them in bytes, and 255 is "does not count"
_CHECKS: dict[type[Head], Callable[[Any], Head]] = {Classifier: _classifier, SSDLite: _ssdlite, DeepLab: _deeplab}
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


def from_json(data: Any, *, tensors: int | None = None) -> Spec:
    """The spec that `to_json` wrote. Raises `SpecError` on anything it could not have written.

    `tensors` is the count of those that the network's file has: of a network that has many more, nothing is listed.
    """
    if not isinstance(data, dict) or set(data) != {"backbone", "head"}:
        raise SpecError(f"a network is described by 'backbone' and 'head', got {quoted(data)}")
    fields, head = data["backbone"], data["head"]
    if not isinstance(fields, dict) or not isinstance(head, dict):
        raise SpecError("'backbone' and 'head' of a network are both objects")
    head = dict(head)
    kind = _choice("head kind", head.pop("kind", None), _HEADS)
    described = Spec(backbone(**fields), _HEADS[kind][1](**head))
    if tensors is not None and (count := spec.count_tensors(described)) > 2 * tensors + limits.SPARE_TENSORS:
        raise SpecError(f"the network described has {count:,} tensors, the file {tensors:,}")
    return network(described.backbone, described.head)


def _check_known(what: str, kind: Any, fields: Iterable[str]) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    for name in fields:
        if name not in known:
            raise SpecError(f"unknown field {quoted(name)} of the {what}: choose from {', '.join(sorted(known))}")


def _whole(name: str, value: Any, most: int) -> int:
    return checks.whole(name, value, 1, most, error=SpecError)


def _number(name: str, value: Any, least: float, most: float, *, above: bool = False, below: bool = False) -> Any:
    return checks.number(name, value, least, most, above=above, below=below, error=SpecError)


def _choice(name: str, value: Any, choices: Iterable[Any]) -> Any:
    return checks.choice(name, value, choices, error=SpecError)


def _items(
    name: str, value: Any, check: Callable[[Any], Any] = lambda item: item, *, least: int = 0, most: int
) -> tuple[Any, ...]:
    return checks.items(name, value, check, least=least, most=most, error=SpecError)
