"""What every operation means, in plain NumPy: the definition of correct.

Shapes: B batch, H W input map, h w output map, C input channels, O output channels, A anchors; arrays are NHWC.
Each function says one layer of the paper's networks and nothing about speed; `ReferenceBackend` runs a
whole model file with them. Every other backend is held against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from mobilenetv2 import spec, upsample
from mobilenetv2.engine.memory import require
from mobilenetv2.model_file import ModelFile, ModelInfo, network_input
from mobilenetv2.spec import Activation, BlockSpec, ConvSpec, DeepLab, SSDLite, deeplab, ssdlite

Array = npt.NDArray[np.floating]
Place = tuple[int | None, bool]  # a block's index or None for the last map; its expanded tensor or its output


def convolve(images_BHWC: Array, weight: Array, conv: ConvSpec) -> Array:
    """Cross-correlation with zero padding, stride, dilation and groups, as `conv` says.

    `weight` is [O, C / groups, kernel, kernel]. Output [B, ceil(H / stride), ceil(W / stride), O].
    Groups are 1, or as many as there are channels (depthwise).
    """
    size = images_BHWC.shape[1:3]
    out_size = [conv.out_size(n) for n in size]
    taps, pads = zip(*(_taps(conv, n) for n in size), strict=True)
    depthwise = conv.groups > 1
    assert not depthwise or conv.groups == conv.in_channels == conv.out_channels
    shape = (images_BHWC.shape[0], *out_size, conv.out_channels)
    padded_size = math.prod(n + sum(pad) for n, pad in zip(size, pads, strict=True)) * math.prod(images_BHWC.shape[::3])
    needed = images_BHWC.itemsize * (padded_size + 2 * math.prod(shape))  # the padded map, the sum and what is added
    require(needed, f"{conv.name} in the reference backend", "use a smaller size or batch")
    padded = np.pad(images_BHWC, ((0, 0), *pads, (0, 0)))
    result = np.zeros(shape, images_BHWC.dtype)
    for i, first in taps[0]:
        for j, left in taps[1]:
            rows, columns = (
                slice(at, at + (n - 1) * conv.stride + 1, conv.stride)
                for at, n in zip((first, left), out_size, strict=True)
            )
            shifted_BhwC = padded[:, rows, columns]
            if depthwise:
                result += shifted_BhwC * weight[:, 0, i, j]
            else:
                result += shifted_BhwC @ weight[:, :, i, j].T
    return result


def _taps(conv: ConvSpec, size: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """The kernel's rows (or columns) that meet a map of `size` rows, each with the padded row at which it begins, and
    the rows of zeros before and after the map. At an atrous rate beyond the map only the middle row meets it."""
    before, after = conv.pads(size)
    reach = (conv.out_size(size) - 1) * conv.stride
    starts = [(i, i * conv.dilation - before) for i in range(conv.kernel)]
    meeting = [(i, at) for i, at in starts if -reach <= at < size]
    if len(meeting) < len(starts):
        before = max(-min((at for _, at in meeting), default=0), 0)
        after = max(max((at for _, at in meeting), default=0) + reach + 1 - size, 0)
    return [(i, at + before) for i, at in meeting], (before, after)


def batch_norm(images_BHWC: Array, parts: Mapping[str, Array], eps: float) -> Array:
    """(x - running_mean) / sqrt(running_var + eps) x weight + bias, per channel."""
    scale = parts["weight"].astype(np.float64) / np.sqrt(parts["running_var"].astype(np.float64) + eps)
    shift = parts["bias"] - parts["running_mean"] * scale
    return images_BHWC * scale.astype(images_BHWC.dtype) + shift.astype(images_BHWC.dtype)


def activate(images_BHWC: Array, activation: Activation) -> Array:
    """relu6: min(max(x, 0), 6); relu: max(x, 0); linear: x."""
    if activation == "linear":
        return images_BHWC
    return np.clip(images_BHWC, 0, 6 if activation == "relu6" else None)


def global_mean(images_BHWC: Array) -> Array:
    """The mean over the map: [B, C]."""
    return images_BHWC.mean((1, 2))


def resize(images_BHWC: Array, size: tuple[int, int], *, align_corners: bool) -> Array:
    """Bilinear to `size` (h, w), at the places that `upsample.in_map` says: [B, h, w, C].

    What lies outside the outer centres is the outer pixels' own value.
    """
    for axis, out in zip((1, 2), size, strict=True):
        n = images_BHWC.shape[axis]
        places = np.clip(upsample.in_map(np.arange(out) + 0.5, n, out, align_corners=align_corners), 0, n - 1)
        low = places.astype(int)
        part = (places - low).astype(images_BHWC.dtype).reshape(-1, *[1] * (3 - axis))
        first, second = (images_BHWC.take(at, axis) for at in (low, np.minimum(low + 1, n - 1)))
        images_BHWC = first + (second - first) * part
    return images_BHWC


def linear(features_BC: Array, weight_OC: Array, bias_O: Array) -> Array:
    """features x weight^T + bias: [B, O]."""
    return features_BC @ weight_OC.T + bias_O


class ReferenceBackend:
    """A model file run layer by layer in NumPy; `dtype` float32, or float64 where the last digit matters."""

    name = "reference"

    def __init__(self, model: ModelFile, *, dtype: type[np.float32] | type[np.float64] = np.float32) -> None:
        self.info: ModelInfo = model.info
        self._dtype = dtype
        self._tensors: dict[str, Array] = {name: value.astype(dtype) for name, value in model.tensors.items()}

    def run(self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """The raw outputs for uint8 pixels (normalised here), or float32 that is already normalised.

        A classifier's are {"logits": float32 [B, O]}, a detector's {"class_logits": float32 [B, A, O],
        "box_deltas": float32 [B, A, 4]}, those of segmentation {"logits_map": float32 [B, h, w, O]} at the output
        stride. Any height and width from 1 up. What leaves the range of numbers is infinite or NaN in them, without a
        warning. Raises `UsageError` for another rank, dtype or channel count, `Error` for more memory than there is.
        """
        with np.errstate(all="ignore"):
            if isinstance(self.info.spec.head, SSDLite):
                return self._detect(images_BHWC, self.info.spec.head)
            if isinstance(self.info.spec.head, DeepLab):
                return {"logits_map": self._segment(images_BHWC).astype(np.float32)}
            return {"logits": self._classify(images_BHWC).astype(np.float32)}

    def features(self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> dict[str, Array]:
        """The named feature maps [B, h, w, C] of `spec.taps`."""
        at = {(tap.block, tap.expanded): tap.name for tap in spec.taps(self.info.spec.backbone).values()}
        return {at[place]: features for place, features in self._walk(images_BHWC) if place in at}

    def _classify(self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> Array:
        *_, (_, features_BhwC) = self._walk(images_BHWC)
        name = spec.linear(self.info.spec).name
        return linear(global_mean(features_BhwC), self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"])

    def _detect(
        self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32], head: SSDLite
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Anchors are in the order map, row, column, anchor of the cell."""
        layers = ssdlite.layers(self.info.spec)
        features = self.features(images_BHWC)
        maps = [features[name] for name in head.taps]
        for chain in layers.extras:
            maps.append(self._chain(maps[-1], chain))
        result: dict[str, npt.NDArray[np.float32]] = {}
        for name, chains, values in (
            ("class_logits", layers.class_heads, head.outputs),
            ("box_deltas", layers.box_heads, 4),
        ):
            found_BhwO = [self._chain(x, chain) for x, chain in zip(maps, chains, strict=True)]
            found_BAO = [found.reshape(len(found), -1, values) for found in found_BhwO]
            result[name] = np.concatenate(found_BAO, axis=1).astype(np.float32)
        return result

    def _segment(self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> Array:
        """Branches side by side, the mean's the same at every place, then their projection, then the logits."""
        layers = deeplab.layers(self.info.spec)
        *_, (_, features_BhwC) = self._walk(images_BHWC)
        pooled_B11C = self._convolution(global_mean(features_BhwC)[:, np.newaxis, np.newaxis], layers.pooling)
        size = features_BhwC.shape[1:3]
        branches = [np.broadcast_to(pooled_B11C, (len(features_BhwC), *size, pooled_B11C.shape[-1]))]
        branches += [self._convolution(features_BhwC, branch) for branch in layers.branches]
        return self._chain(np.concatenate(branches, axis=-1), (layers.project, layers.logits))

    def _walk(self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> Iterator[tuple[Place, Array]]:
        """Each tensor that a tap may name, with its place."""
        net = self.info.spec.backbone
        x: Array = network_input(images_BHWC, self.info).astype(self._dtype)
        x = self._convolution(x, spec.stem(net))
        wide = None
        for block in spec.blocks(net):
            expanded = x if block.expand is None else self._convolution(x, block.expand)
            yield (block.index, True), expanded
            x, wide = self._block(block, x, expanded, wide)
            yield (block.index, False), x
        if spec.has_last(self.info.spec):
            yield (None, False), self._convolution(x, spec.last(net))

    def _block(self, block: BlockSpec, x: Array, expanded: Array, previous_wide: Array | None) -> tuple[Array, Array]:
        wide = self._convolution(expanded, block.depthwise)
        if block.shortcut == "expansion":
            assert previous_wide is not None
            wide = wide + previous_wide
        projected = self._convolution(wide, block.project)
        return (x + projected if block.shortcut == "bottleneck" else projected), wide

    def _chain(self, x: Array, convs: Iterable[ConvSpec]) -> Array:
        for conv in convs:
            x = self._convolution(x, conv)
        return x

    def _convolution(self, x: Array, conv: ConvSpec) -> Array:
        """Convolution, bias, batch norm, activation: whatever `conv` has of them."""
        x = convolve(x, self._tensors[f"{conv.name}.weight"], conv)
        if conv.bias:
            x = x + self._tensors[f"{conv.name}.bias"]
        if conv.norm is not None:
            parts = {part: self._tensors[f"{conv.norm}.{part}"] for part in spec.NORM_PARTS}
            x = batch_norm(x, parts, spec.norm_eps(self.info.spec, conv))
        return activate(x, conv.activation)
