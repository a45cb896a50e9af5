"""MobileNetV2 for training, in torch, with torchvision's names, arguments and state-dict keys.

Shapes: B batch, C channels, H W image, h w feature map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mobilenetv2 import spec, spec_fields
from mobilenetv2.errors import UsageError
from mobilenetv2.nn.recompute import recomputing
from mobilenetv2.nn.relu6 import ReLU6
from mobilenetv2.spec import BlockSpec, Classifier, ConvSpec, Padding, Shortcut, Spec

_make_divisible = spec.make_divisible
Norm = Callable[[int], nn.Module]


class ConvBNReLU(nn.Sequential):
    """Convolution without bias, batch norm, ReLU6.

    `padding`: "symmetric" pads (kernel_size - 1) / 2 x dilation on each side; "same" is TensorFlow's SAME,
    which at stride 2 on an even size pads right and bottom only.
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        norm_layer: Norm | None = None,
        *,
        dilation: int = 1,
        padding: Padding = "symmetric",
    ) -> None:
        conv = ConvSpec(
            "0", "1", in_planes, out_planes, kernel=kernel_size, stride=stride,
            dilation=dilation, groups=groups, padding=padding,
        )  # fmt: skip
        super().__init__(*_conv_norm_activation(conv, norm_layer or nn.BatchNorm2d))
        self.out_channels = out_planes


class InvertedResidual(nn.Module):
    """Expand, depthwise, project to a linear bottleneck; a shortcut where stride is 1 and channels agree.

    The hidden width is round(inp x expand_ratio); with expand_ratio 1 there is no expansion convolution.
    """

    def __init__(
        self,
        inp: int,
        oup: int,
        stride: int,
        expand_ratio: float,
        norm_layer: Norm | None = None,
        *,
        padding: Padding = "symmetric",
    ) -> None:
        super().__init__()
        assert stride in (1, 2), f"stride must be 1 or 2, got {stride}"
        net = spec_fields.backbone(padding=padding)
        self._build(
            spec.block(in_channels=inp, out_channels=oup, expansion=expand_ratio, stride=stride, net=net),
            norm_layer or nn.BatchNorm2d,
        )

    @classmethod
    def from_spec(cls, block: BlockSpec, norm_layer: Norm) -> InvertedResidual:
        self = cls.__new__(cls)
        nn.Module.__init__(self)
        self._build(block, norm_layer)
        return self

    def _build(self, block: BlockSpec, norm_layer: Norm) -> None:
        self.stride = block.stride
        self.shortcut: Shortcut = block.shortcut
        self.use_res_connect = block.shortcut == "bottleneck"
        self.out_channels = block.out_channels
        *wide, project = block.convolutions
        layers = [conv_layer(conv, norm_layer) for conv in wide]
        self.conv = nn.Sequential(*layers, *_conv_norm_activation(project, norm_layer))
        self._wide = len(wide)  # layers before the projection
        self.recomputed = False

    def expanded(self, images_BCHW: Tensor) -> Tensor:
        """The wide tensor [B, t C, h, w] before the depthwise convolution; the input itself where t is 1."""
        return self.conv[0](images_BCHW) if self._wide == 2 else images_BCHW

    def forward(self, x: Tensor) -> Tensor:
        if self.recomputed and torch.is_grad_enabled():
            return recomputing(self._whole, x)
        return self._whole(x)

    def _whole(self, x: Tensor) -> Tensor:
        return self.finish(x, self.expanded(x), None)[0]

    def finish(self, x: Tensor, expanded: Tensor, previous_wide: Tensor | None) -> tuple[Tensor, Tensor]:
        """Depthwise, projection and shortcut: the block's output, and the depthwise output (the wide tensor)."""
        wide = self.conv[self._wide - 1](expanded)
        if self.shortcut == "expansion" and previous_wide is not None:
            wide = wide + previous_wide
        out = wide
        for layer in self.conv[self._wide :]:
            out = layer(out)
        return (x + out if self.use_res_connect else out), wide


class Backbone(nn.Module):
    """What all tasks share: `features`, in torchvision's modules and keys, and the maps in it by name.

    A network of a task is built by `_build_features`, adds its head, and ends with `self.apply(initialise)`.
    """

    spec: Spec
    features: nn.Sequential

    def _build_features(self, network: Spec, norm: Norm, block: Callable[..., nn.Module] | None = None) -> None:
        net = network.backbone
        self.spec = network
        rows = spec.blocks(net)
        last = [spec.last(net)] if spec.has_last(network) else []
        self.last_channel = (last or rows)[-1].out_channels
        self.features = nn.Sequential(
            conv_layer(spec.stem(net), norm),
            *(InvertedResidual.from_spec(row, norm) if block is None else _foreign(block, row, norm) for row in rows),
            *(conv_layer(conv, norm) for conv in last),
        )

    def recompute(self, on: bool = True) -> None:
        """Whether blocks keep only their input for the gradients and compute their wide tensors again: less memory, one
        more forward pass, the same gradients. `features_dict` and blocks of another class are not changed."""
        for block in self.features:
            if isinstance(block, InvertedResidual):
                block.recomputed = on

    def features_dict(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        """The named feature maps [B, C, h, w] of `spec.taps`: "s4", "s8", "s16", "s16.expanded", "s32", "out", ...

        A network without the last convolution has no "out"."""
        found: dict[str, Tensor] = {}
        out = self._backbone(images_BCHW, found)
        return {**found, "out": out} if spec.has_last(self.spec) else found

    def last_map(self, images_BCHW: Tensor) -> Tensor:
        """What `features` gives: [B, last_channel, h, w]."""
        if self.spec.backbone.shortcut == "expansion":
            return self._backbone(images_BCHW, {})
        return self.features(images_BCHW)

    def _backbone(self, images_BCHW: Tensor, found: dict[str, Tensor]) -> Tensor:
        """The last feature map; every tap but "out" is put into `found` on the way."""
        at = {(tap.block, tap.expanded): tap.name for tap in spec.taps(self.spec.backbone).values()}
        x = self.features[0](images_BCHW)
        wide = None
        last = len(self.features) - spec.has_last(self.spec)
        for index, block in enumerate(self.features[1:last]):
            if not isinstance(block, InvertedResidual):
                raise UsageError(f"features inside a block of type {type(block).__name__} are not known")
            expanded = block.expanded(x)
            x, wide = block.finish(x, expanded, wide)
            for key, value in (((index, True), expanded), ((index, False), x)):
                if key in at:
                    found[at[key]] = value
        for layer in self.features[last:]:
            x = layer(x)
        return x


class MobileNetV2(Backbone):
    """The classification network. Input [B, 3, H, W], prepared as its weights want; output logits [B, classes].

    `inverted_residual_setting` is a stage table of rows (t, c, n, s); an empty one or a row that is not four
    long is a ValueError. `round_nearest=1` turns the rounding of channels off. `block` is a class with
    `InvertedResidual`'s arguments, `norm_layer` one with `BatchNorm2d`'s. The keyword-only arguments are fields of
    `mobilenetv2.spec.Backbone`. The initial weights: convolutions Kaiming normal (fan out), batch norm 1 and 0,
    linear normal(0, 0.01) with zero bias.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        inverted_residual_setting: Sequence[Sequence[float]] | None = None,
        round_nearest: int = 8,
        block: Callable[..., nn.Module] | None = None,
        norm_layer: Norm | None = None,
        dropout: float = 0.2,
        *,
        padding: Padding = "symmetric",
        output_stride: int = 32,
        **backbone: Any,
    ) -> None:
        net = spec_fields.backbone(
            width_mult=width_mult,
            stages=spec.STAGES if inverted_residual_setting is None else inverted_residual_setting,
            round_nearest=round_nearest,
            padding=padding,
            output_stride=output_stride,
            **backbone,
        )
        super().__init__()
        self._build(Spec(net, spec_fields.classifier(outputs=num_classes, dropout=dropout)), norm_layer, block)

    @classmethod
    def from_spec(cls, network: Spec) -> MobileNetV2:
        """The network that a model file's spec describes, with initial weights."""
        self = cls.__new__(cls)
        nn.Module.__init__(self)
        self._build(network, None, None)
        return self

    def _build(self, network: Spec, norm_layer: Norm | None, block: Callable[..., nn.Module] | None) -> None:
        assert isinstance(network.head, Classifier), network.head
        self._build_features(network, norm_layer or norm_of(network), block)
        linear = spec.linear(network)
        self.classifier = nn.Sequential(
            nn.Dropout(p=network.head.dropout), nn.Linear(linear.in_features, linear.out_features)
        )
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.last_map(x).mean((2, 3)))


def mobilenet_v2(
    pretrained: bool = False, progress: bool = True, weights: object | None = None, **kwargs: Any
) -> MobileNetV2:
    """MobileNetV2; with `pretrained=True` it has torchvision's first ImageNet weights (71.878 % top-1).

    `weights` may also be a zoo name, a path of a model file, or one of torchvision's enum members.
    A width, class count or padding that differs from the weights' own is a `UsageError`. Downloads once,
    with a progress bar if `progress`. Raises `DownloadError` where that fails.
    """
    if weights is None and not pretrained:
        return MobileNetV2(**kwargs)
    from mobilenetv2.importers import load_model

    name = "torchvision/1.0-224-v1" if weights is None else _weights_name(weights)
    model = load_model(name, progress=progress)
    network = model.info.spec
    if not isinstance(network.head, Classifier):
        raise UsageError(f"{name} is a model for {network.task}, not a classifier")
    asked = MobileNetV2(**{"num_classes": network.head.outputs, **_spec_arguments(network), **kwargs})
    if spec.tensors(asked.spec) != spec.tensors(network) or asked.spec.backbone != network.backbone:
        raise UsageError(f"{name} has other tensors or another padding than the network asked for: {kwargs}")
    load_tensors(asked, model.tensors)
    return asked


def load_tensors(network: nn.Module, tensors: Mapping[str, Any]) -> None:
    """Put a model file's tensors (NumPy, `spec.tensors`' names) into `network`, strictly."""
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in tensors.items()}, strict=True)


def save_tensors(network: nn.Module) -> dict[str, Any]:
    """The model file's tensors of `network`: its state dict as float32 NumPy, without batch norm's step counters."""
    return {
        name: value.detach().cpu().float().numpy().copy()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


class _SamePadConv2d(nn.Conv2d):
    """A convolution that pads as TensorFlow's SAME does, for whatever size comes."""

    def __init__(self, conv: ConvSpec) -> None:
        super().__init__(
            conv.in_channels, conv.out_channels, conv.kernel, conv.stride,
            dilation=conv.dilation, groups=conv.groups, bias=conv.bias,
        )  # fmt: skip
        self.conv_spec = conv

    def forward(self, input: Tensor) -> Tensor:
        top, bottom = self.conv_spec.pads(input.shape[-2])
        left, right = self.conv_spec.pads(input.shape[-1])
        return super().forward(F.pad(input, (left, right, top, bottom)))


def conv_layer(conv: ConvSpec, norm_layer: Norm) -> nn.Module:
    """`conv` with what follows it as one module: a Sequential, or the convolution alone where nothing does."""
    parts = _conv_norm_activation(conv, norm_layer)
    return nn.Sequential(*parts) if len(parts) > 1 else parts[0]


def norm_of(network: Spec) -> Norm:
    """Batch norm with the network's epsilon."""
    return lambda channels: nn.BatchNorm2d(channels, eps=network.backbone.bn_eps)


def _conv_norm_activation(conv: ConvSpec, norm_layer: Norm) -> list[nn.Module]:
    if conv.padding == "same" and conv.stride > 1:
        convolution: nn.Module = _SamePadConv2d(conv)
    else:  # at stride 1 the two paddings coincide
        convolution = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel, conv.stride, (conv.kernel - 1) // 2 * conv.dilation,
            dilation=conv.dilation, groups=conv.groups, bias=conv.bias,
        )  # fmt: skip
    activation = {"relu6": [ReLU6()], "relu": [nn.ReLU(inplace=True)], "linear": []}[conv.activation]
    norm = [] if conv.norm is None else [norm_layer(conv.out_channels)]
    return [convolution, *norm, *activation]


def _foreign(block: Callable[..., nn.Module], row: BlockSpec, norm: Norm) -> nn.Module:
    expansion = row.depthwise.in_channels / row.in_channels
    expansion = int(expansion) if expansion.is_integer() else expansion
    return block(row.in_channels, row.out_channels, row.stride, expansion, norm)


def initialise(module: nn.Module) -> None:
    """torchvision's initial weights."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)


def _spec_arguments(network: Spec) -> dict[str, Any]:
    net, head = network.backbone, network.head
    assert isinstance(head, Classifier), head
    fields = {name: getattr(net, name) for name in net.__dataclass_fields__}
    return {"inverted_residual_setting": fields.pop("stages"), "dropout": head.dropout, **fields}


def _weights_name(weights: object) -> str:
    """A zoo name or path from what torchvision's users pass: an enum member, its name, "DEFAULT", a path."""
    text = getattr(weights, "name", None) or str(weights)
    known = {
        "IMAGENET1K_V1": "torchvision/1.0-224-v1",
        "IMAGENET1K_V2": "torchvision/1.0-224-v2",
        "DEFAULT": "torchvision/1.0-224-v2",
    }
    return known.get(text.rsplit(".", 1)[-1] if "IMAGENET1K" in text else text, text)
