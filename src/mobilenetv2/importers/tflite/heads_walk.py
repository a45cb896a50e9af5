"""A walk along a TFLite graph whose heads branch: they are found backwards from the outputs, the path forwards."""

from __future__ import annotations

from collections.abc import Sequence

from mobilenetv2.errors import WeightsError
from mobilenetv2.importers.parts import Layer, Pair
from mobilenetv2.importers.tflite.graph import Operator
from mobilenetv2.importers.tflite.walk import SAME_NUMBERS, SAME_ORDER, Pixels, Walk


class HeadsWalk(Walk):
    what = "such a network"  # in messages: "an SSDLite"

    def concatenated(self, tensor: int) -> Sequence[int]:
        maker = self.maker(tensor, "CONCATENATION")
        self.taken.add(id(maker))
        return maker.inputs

    def maker(self, tensor: int, kind: str) -> Operator:
        """The operator that makes `tensor`, but for its storage and shape; it must be of `kind`."""
        tensor = self.source(tensor)
        operator = self.makers.get(tensor)
        if operator is None or operator.kind != kind:
            has = "the input" if operator is None else operator.kind
            raise WeightsError(f"{has} makes {self.graph.tensors[tensor].name!r}, where {self.what} has {kind}")
        return operator

    def source(self, tensor: int) -> int:
        """The tensor whose numbers `tensor` only stores or arranges in another way; what does so is taken."""
        while (maker := self.makers.get(tensor)) is not None and maker.kind in (*SAME_NUMBERS, *SAME_ORDER):
            self.taken.add(id(maker))
            tensor = maker.inputs[0]
        return tensor

    def path(self) -> tuple[list[tuple[Layer, Pair]], dict[int, int], dict[int, int], Pixels]:
        """The convolutions from the input on, each with the size of its output; shortcuts; outputs' places."""
        stem, pixels = self.stem()
        found = [(stem, self.size)]
        shortcuts: dict[int, int] = {}
        places = {self.root(self.here): 0}
        while ways := [operator for operator, _ in self.after(self.here) if id(operator) not in self.taken]:
            if [operator.kind for operator in ways] == ["ADD"]:
                inputs = [self.root(tensor) for tensor in ways[0].inputs]
                others = [tensor for tensor in inputs if tensor != self.root(self.here)]
                if len(others) != 1 or others[0] not in places or ways[0].activation != "NONE":
                    raise WeightsError(f"ADD after {self.name()!r} does not add the input of a block to its output")
                self.taken.add(id(ways[0]))
                shortcuts[len(found) - 1] = places[others[0]]
                self.here = ways[0].outputs[0]
            else:
                found.append((self.convolution(), self.size))
            places[self.root(self.here)] = len(found) - 1
        return found, shortcuts, places, pixels

    def chain(self, operators: Sequence[Operator], size: Pair) -> tuple[Layer, ...]:
        found: list[Layer] = []
        self.size = size
        for operator in operators:
            self.here = operator.outputs[0]
            found.append(self.layer(operator, ((0, 0), (0, 0))))
        return tuple(found)
