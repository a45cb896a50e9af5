"""An SSDLite detector out of what a graph file shows: its path of convolutions, and the heads on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mobilenetv2 import spec, spec_fields
from mobilenetv2.errors import WeightsError
from mobilenetv2.importers import parts
from mobilenetv2.importers.parts import Body, Layer
from mobilenetv2.spec import Backbone, Spec, ssdlite


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """A detector's convolutions. `path` runs from the stem to the last extra map; places are indices into it."""

    path: tuple[Layer, ...]
    shortcuts: dict[int, int]  # place whose output another output is added to -> that other's place
    maps: tuple[int, ...]  # the places whose outputs have heads
    class_heads: tuple[tuple[Layer, ...], ...]  # for each of the maps
    box_heads: tuple[tuple[Layer, ...], ...]


def build(found: Detector, **fields: Any) -> tuple[Spec, dict[str, parts.Float32Array]]:
    """The network and its tensors; `fields` are those of `SSDLite` that convolutions do not show.

    Raises `WeightsError` where the graph is not an SSDLite of this project, naming the convolution.
    """
    body, rest = parts.split(found.path, found.shortcuts)
    if body.last is None:
        raise WeightsError(f"the graph ends after {found.path[-1].name!r}: the convolution after the blocks is missing")
    net = parts.find_net(body)
    separable = len(found.class_heads[0]) == 2
    extras = _extras(rest, separable=separable)
    halves = all(chain[0].outputs == max(chain[-1].outputs // 2, 1) for chain in extras)
    head = spec_fields.ssdlite(
        separable=separable,
        taps=_taps(found, body, net, extras),
        extras=tuple(chain[-1].outputs for chain in extras),
        squeezes=None if halves else tuple(chain[0].outputs for chain in extras),
        linear_extras=bool(extras) and all("linear" in chain[-1].activations for chain in extras),
        pointwise_last=len(found.class_heads[-1]) == 1 and found.class_heads[-1][0].weight.shape[2:] == (1, 1),
        **fields,
    )
    network = spec_fields.network(net, head)
    layers = [layer for chain in (*extras, *found.class_heads, *found.box_heads) for layer in chain]
    _check_counts(found, network)
    network = parts.fitted(network, body, layers)
    return network, dict(parts.folded_tensors(network, (*body.layers, *layers)))


def _extras(rest: Sequence[Layer], *, separable: bool) -> tuple[tuple[Layer, ...], ...]:
    """The convolutions after the backbone, as one chain for each extra map."""
    count = 3 if separable else 2
    if len(rest) % count:
        raise WeightsError(f"{len(rest)} convolutions follow the backbone: an extra map is made by {count}")
    return tuple(tuple(rest[i : i + count]) for i in range(0, len(rest), count))


def _taps(found: Detector, body: Body, net: Backbone, extras: Sequence[Sequence[Layer]]) -> tuple[str, ...]:
    """The names of the backbone's maps that have heads; the others must be the extra maps, all and in order."""
    names: dict[int, str] = {}
    for tap in spec.taps(net).values():
        before = 1 if tap.block is None else 1 + sum(len(block.layers) for block in body.blocks[: tap.block])
        if tap.block is None:
            names[len(body.layers) - 1] = tap.name
        else:
            names[before if tap.expanded else before + len(body.blocks[tap.block].layers) - 1] = tap.name
    inside = [place for place in found.maps if place < len(body.layers)]
    for place in inside:
        if place not in names:
            raise WeightsError(f"the map after {found.path[place].name!r} has heads, which no network here has there")
    places = [len(body.layers)]
    for chain in extras:
        places.append(places[-1] + len(chain))
    if list(found.maps) != [*inside, *(place - 1 for place in places[1:])]:
        raise WeightsError(
            "the maps that have heads are not the backbone's, then every extra one, in the graph's order"
        )
    return tuple(names[place] for place in inside)


def _check_counts(found: Detector, network: Spec) -> None:
    """Heads of as many convolutions as the network's, with the outputs that its anchors need."""
    layers, head = ssdlite.layers(network), ssdlite.head_of(network)
    for what, values, chains, expected in (
        ("classes", head.outputs, found.class_heads, layers.class_heads),
        ("boxes", 4, found.box_heads, layers.box_heads),
    ):
        for chain, convs, anchors in zip(chains, expected, head.anchors, strict=True):
            if len(chain) != len(convs):
                raise WeightsError(
                    f"{chain[-1].name!r} ends a head of {len(chain)} convolutions, expected {len(convs)}"
                )
            if chain[-1].outputs != len(anchors) * values:
                raise WeightsError(
                    f"{chain[-1].name!r} has {chain[-1].outputs} outputs for {what}: "
                    f"{len(anchors)} anchors of {values} values need {len(anchors) * values}"
                )
