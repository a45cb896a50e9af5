"""Figure 7: how many channels stay positive after each ReLU6, over all pixels: at initialisation and after training.

The threshold is the paper's: a layer that expands n channels to m can be undone at a pixel where at least n stay
positive (Lemma 2), 1 / 6 of them in most blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from mobilenetv2 import files, spec
from mobilenetv2.charts import new_figure, png
from mobilenetv2.engine import reference
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile, Tensors, network_input
from mobilenetv2.spec import Backbone, ConvSpec

Array = npt.NDArray[Any]
PICTURES, SIZE = 8, 96


@dataclass(frozen=True, slots=True)
class Pattern:
    """Positive channels after one convolution with ReLU6, of `channels`; `threshold` is what undoing it needs at least.

    `least`, `mean`, `deviation` and `most` are over all pixels of all pictures. `below`: share of the pixels with fewer
    than `threshold`. `threshold` is 0 for depthwise convolutions, which map no space to a larger one.
    """

    name: str
    channels: int
    threshold: int
    least: int
    mean: float
    deviation: float
    most: int
    below: float


def pictures(count: int = PICTURES, size: int = SIZE) -> npt.NDArray[np.uint8]:
    """Generated pictures [B, H, W, 3]."""
    from mobilenetv2.data import shapes

    return np.stack([shapes.scene(0, index, size=size).image for index in range(count)])


def prepared(photos: Sequence[str], model: ModelFile) -> Array:
    """Photos as `model` wants them [B, H, W, C]. Raises `ImageError` for one that cannot be read."""
    from mobilenetv2 import image

    return np.stack([image.load(photo, model.info.preprocessing)[0] for photo in photos])


def initial(net: Backbone = Backbone(), *, seed: int = 0) -> Tensors:  # noqa: B008 - frozen
    """The backbone's initial weights: Kaiming normal (fan out), batch norm's scale 1 and shift 0."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, npt.NDArray[np.float32]] = {}
    for conv in spec.convolutions(net):
        fan_out = conv.kernel**2 * conv.out_channels  # as torch counts it, groups or not
        tensors[f"{conv.name}.weight"] = rng.normal(0, (2 / fan_out) ** 0.5, conv.weight_shape).astype(np.float32)
    return tensors


def at_initialisation(images_BHWC: Array, net: Backbone = Backbone(), *, seed: int = 0) -> list[Pattern]:  # noqa: B008
    """The patterns before the first step, where batch norm uses the batch's own mean and variance."""
    x = images_BHWC.astype(np.float32) / 127.5 - 1
    return list(_patterns(net, initial(net, seed=seed), x))


def of_model(images_BHWC: Array, model: ModelFile) -> list[Pattern]:
    """The patterns of trained weights. Raises `UsageError` for ablations with another activation or shortcut."""
    check(model)
    return list(_patterns(model.info.spec.backbone, model.tensors, network_input(images_BHWC, model.info)))


def name_of(model: ModelFile) -> str:
    """What its source calls it: a published name, else its file or the kind of file that it came from."""
    origin = model.info.provenance
    return str(origin.get("published") or origin.get("file") or origin.get("source") or "a model file")


def seen_by(model: ModelFile, photos: Sequence[str]) -> Array:
    """What the network is shown: the photos, or generated pictures where there are none."""
    return prepared(photos, model) if photos else pictures()


def check(model: ModelFile) -> None:
    """Raises `UsageError` for ablations with another activation or shortcut."""
    net = model.info.spec.backbone
    if net.activation != "relu6" or net.shortcut == "expansion":
        raise UsageError(
            f"Figure 7 and Lemma 2 need ReLU6 and no shortcuts between expansions, got {net.activation}, {net.shortcut}"
        )


def layers(net: Backbone, tensors: Mapping[str, Array], x: Array) -> Iterator[tuple[ConvSpec, Array, Array]]:
    """Each of the backbone's convolutions with what it reads and what it gives, [B, H, W, C], batch norm and activation
    included; a shortcut is added after its block's last one. Segmentation networks have none after the blocks."""
    found = run(spec.stem(net), tensors, net.bn_eps, x)
    yield spec.stem(net), x, found
    x = found
    for block in spec.blocks(net):
        source = x
        for conv in block.convolutions:
            found = run(conv, tensors, net.bn_eps, x)
            yield conv, x, found
            x = found
        x = x + source if block.shortcut == "bottleneck" else x
    last = spec.last(net)
    if f"{last.name}.weight" in tensors:
        yield last, x, run(last, tensors, net.bn_eps, x)


def run(conv: ConvSpec, tensors: Mapping[str, Array], eps: float, x: Array) -> Array:
    """Convolution, batch norm (with the batch's own statistics where the tensors have none), activation."""
    x = reference.convolve(x, tensors[f"{conv.name}.weight"], conv)
    if f"{conv.norm}.weight" in tensors:
        parts = {part: tensors[f"{conv.norm}.{part}"] for part in spec.NORM_PARTS}
    else:
        ones = np.ones(conv.out_channels, x.dtype)
        parts = {
            "weight": ones, "bias": 0 * ones, "running_mean": x.mean((0, 1, 2)), "running_var": x.var((0, 1, 2)),
        }  # fmt: skip
    return reference.activate(reference.batch_norm(x, parts, eps), conv.activation)


def draw(found: Sequence[tuple[str, Sequence[Pattern]]], *, relative: bool = True) -> bytes:
    """A PNG: a panel per titled list of patterns with least, mean and deviation, most, threshold, as in the paper."""
    figure = new_figure(figsize=(5.6 * len(found), 4.2))
    panels = figure.subplots(1, len(found), squeeze=False, sharey=True)[0]
    for axes, (title, patterns) in zip(panels, found, strict=True):
        x = np.arange(len(patterns))
        whole = np.array([pattern.channels if relative else 1 for pattern in patterns])
        mean, deviation, least, most, threshold = (
            np.array([getattr(pattern, name) for pattern in patterns]) / whole
            for name in ("mean", "deviation", "least", "most", "threshold")
        )
        axes.fill_between(x, mean - deviation, mean + deviation, color="#a5d0f0", lw=0, label="mean ± deviation")
        axes.plot(x, mean, color="#4a90c2")
        axes.plot(x, most, color="#2f9e44", lw=1, label="most")
        axes.plot(x, least, color="#e03131", lw=1, label="least")
        expands = threshold > 0
        axes.scatter(x[expands], threshold[expands], marker="_", color="black", label="threshold", zorder=3)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("convolution with ReLU6, from the input on")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("positive channels, share" if relative else "positive channels")
    panels[0].set_ylim(bottom=0, top=1 if relative else None)
    panels[-1].legend(loc="upper left", fontsize=8, frameon=False, ncols=2)
    return png(figure)


def write(
    path: str | PathLike[str], *, model: ModelFile | None = None, photos: Sequence[str] = (), seed: int = 0
) -> dict[str, Any]:
    """Draw the patterns at initialisation to `path`, and those of `model` where one is given; both as JSON has them.

    The pictures are generated; `photos` are what the trained model sees instead. Raises `UsageError` for photos without
    a model, and what `of_model` does.
    """
    if photos and model is None:
        raise UsageError("photos are for trained weights: give a model too")
    found = [("at initialisation", at_initialisation(pictures(), seed=seed))]
    if model is not None:
        found.append((f"trained: {name_of(model)}", of_model(seen_by(model, photos), model)))
    files.write_bytes(path, draw(found))
    return {title: [asdict(pattern) for pattern in patterns] for title, patterns in found}


def _patterns(net: Backbone, tensors: Tensors, x: Array) -> Iterator[Pattern]:
    for conv, _, found in layers(net, tensors, x):
        if conv.activation != "linear":
            yield _count(conv, found)


def _count(conv: ConvSpec, x: Array) -> Pattern:
    positive = (x > 0).sum(-1)
    threshold = conv.in_channels if conv.groups == 1 and conv.kernel == 1 else 0
    return Pattern(
        conv.name, conv.out_channels, threshold, int(positive.min()), float(positive.mean()), float(positive.std()),
        int(positive.max()), float((positive < threshold).mean()),
    )  # fmt: skip
