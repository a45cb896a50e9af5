"""Networks of repositories that have no package, written out as their checkpoints name them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and batch-norm statistics, so that no tensor can be swapped or left out unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.weight, 0.7, 1.4, generator=generator)
            nn.init.normal_(module.bias, 0, 0.2, generator=generator)
            nn.init.normal_(module.running_mean, 0, 0.2, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 2, generator=generator)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, 0, 0.2, generator=generator)
    return network.eval()


class FlatBlock(nn.Module):
    """d-li14's, tonylins' and qfgaohao's inverted residual: one sequence."""

    def __init__(self, inputs: int, outputs: int, stride: int, t: float) -> None:
        super().__init__()
        wide = round(inputs * t)
        expand = [nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()] if t != 1 else []
        self.conv = nn.Sequential(
            *expand,
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
        )  # fmt: skip
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class ConvModule(nn.Module):
    """OpenMMLab's convolution with what follows it."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, *, active: bool, eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=eps)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return nn.functional.relu6(x) if self.active else x


class ModuleBlock(nn.Module):
    """mmpretrain's inverted residual."""

    def __init__(self, inputs: int, outputs: int, stride: int, t: int) -> None:
        super().__init__()
        wide = inputs * t
        self.conv = nn.Sequential(
            *([ConvModule(inputs, wide, 1, 1, 1, active=True)] if t > 1 else []),
            ConvModule(wide, wide, 3, stride, wide, active=True),
            ConvModule(wide, outputs, 1, 1, 1, active=False),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


STRIDES = (1, 2, 2, 2, 1, 2, 1)
REPEATS = (1, 2, 3, 4, 3, 3, 1)
CHANNELS: dict[str, tuple[int, tuple[int, ...], int]] = {
    # stem, stages, last; the first three rounded as their networks do, tonylins' upwards, by hand
    "1.0": (32, (16, 24, 32, 64, 96, 160, 320), 1280),
    "0.5": (16, (8, 16, 16, 32, 48, 80, 160), 1280),
    "d-li14 0.1": (4, (4, 4, 4, 8, 12, 16, 32), 1280),
    "tonylins 0.7": (32, (16, 24, 24, 48, 72, 112, 224), 1280),
}


def stages(channels: str, block: type[nn.Module]) -> list[list[nn.Module]]:
    inputs, outputs_of_stage, _ = CHANNELS[channels]
    result: list[list[nn.Module]] = []
    for stage, (outputs, repeats, stride) in enumerate(zip(outputs_of_stage, REPEATS, STRIDES, strict=True)):
        result.append([])
        for i in range(repeats):
            result[-1].append(block(inputs, outputs, stride if i == 0 else 1, 1 if stage == 0 else 6))
            inputs = outputs
    return result


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6())


class DLi14(nn.Module):
    def __init__(self, channels: str, classes: int) -> None:
        super().__init__()
        stem, widths, last = CHANNELS[channels]
        blocks = [block for stage in stages(channels, FlatBlock) for block in stage]
        self.features = nn.Sequential(conv_bn(3, stem, 3, 2), *blocks)
        self.conv = conv_bn(widths[-1], last, 1, 1)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.conv(self.features(x)).mean((2, 3)))


class Tonylins(nn.Module):
    def __init__(self, channels: str, classes: int) -> None:
        super().__init__()
        stem, widths, last = CHANNELS[channels]
        blocks = [block for stage in stages(channels, FlatBlock) for block in stage]
        self.features = nn.Sequential(conv_bn(3, stem, 3, 2), *blocks, conv_bn(widths[-1], last, 1, 1))
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean(3).mean(2))


class MMBackbone(nn.Module):
    def __init__(self, channels: str) -> None:
        super().__init__()
        stem, widths, last = CHANNELS[channels]
        self.conv1 = ConvModule(3, stem, 3, 2, 1, active=True)
        for number, stage in enumerate(stages(channels, ModuleBlock), 1):
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.conv2 = ConvModule(widths[-1], last, 1, 1, 1, active=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x)[-1].mean((2, 3))

    def maps(self, x: Tensor) -> list[Tensor]:
        """The output of the stem, each stage, and the last convolution."""
        found = [x]
        for layer in self.children():
            found.append(layer(found[-1]))
        return found[1:]


class MMPretrain(nn.Module):
    def __init__(self, channels: str, classes: int) -> None:
        super().__init__()
        self.backbone = MMBackbone(channels)
        self.head = nn.ModuleDict({"fc": nn.Linear(CHANNELS[channels][2], classes)})

    def forward(self, x: Tensor) -> Tensor:
        return self.head["fc"](self.backbone(x))


class QfgaohaoSSDLite(nn.Module):
    """Extra maps by inverted residuals, heads whose depthwise convolutions have a bias, and a 1x1 for the last map."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        stem, widths, last = CHANNELS["1.0"]
        blocks = [block for stage in stages("1.0", FlatBlock) for block in stage]
        self.base_net = nn.Sequential(conv_bn(3, stem, 3, 2), *blocks, conv_bn(widths[-1], last, 1, 1))
        self.extras = nn.ModuleList(
            FlatBlock(inputs, made, 2, ratio)
            for inputs, made, ratio in ((1280, 512, 0.2), (512, 256, 0.25), (256, 256, 0.5), (256, 64, 0.25))
        )
        self.outputs = outputs
        self.classification_headers = self.headers(6 * outputs)
        self.regression_headers = self.headers(6 * 4)

    @staticmethod
    def headers(outputs: int) -> nn.ModuleList:
        wide = [
            nn.Sequential(
                nn.Conv2d(c, c, 3, padding=1, groups=c), nn.BatchNorm2d(c), nn.ReLU6(), nn.Conv2d(c, outputs, 1)
            )
            for c in (576, 1280, 512, 256, 256)
        ]
        return nn.ModuleList([*wide, nn.Conv2d(64, outputs, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.base_net[:14](x)
        block = self.base_net[14].conv
        assert isinstance(block, nn.Sequential)
        maps = [block[:3](x)]
        maps.append(self.base_net[15:](block[3:](maps[0])))
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return per_anchor(self.classification_headers, maps, self.outputs), per_anchor(self.regression_headers, maps, 4)


class MMDetectionSSDLite(nn.Module):
    """mmdetection's ssdlite_mobilenetv2: maps of 96 and 1280 channels, batch norm with eps 0.001."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        channels = (96, 1280, 512, 256, 256, 128)
        self.backbone = MMBackbone("1.0")
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 1e-3
        extras = nn.ModuleList()
        for inputs, made in pairwise(channels[1:]):
            separable = nn.Sequential()
            separable.add_module("depthwise_conv", module_of(made // 2, made // 2, 3, 2, made // 2))
            separable.add_module("pointwise_conv", module_of(made // 2, made))
            extras.append(nn.Sequential(module_of(inputs, made // 2), separable))
        self.neck = nn.ModuleDict({"extra_layers": extras})
        self.outputs = classes + 1
        self.bbox_head = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    nn.Sequential(module_of(c, c, 3, 1, c), nn.Conv2d(c, 6 * values, 1)) for c in channels
                )
                for name, values in (("cls_convs", self.outputs), ("reg_convs", 4))
            }
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.backbone.maps(x)
        maps = [found[5], found[8]]  # their out_indices 4 and 7 count from the first stage
        extras, classes, boxes = self.neck["extra_layers"], self.bbox_head["cls_convs"], self.bbox_head["reg_convs"]
        assert isinstance(extras, nn.ModuleList)
        assert isinstance(classes, nn.ModuleList)
        assert isinstance(boxes, nn.ModuleList)
        for extra in extras:
            maps.append(extra(maps[-1]))
        return per_anchor(classes, maps, self.outputs), per_anchor(boxes, maps, 4)


def module_of(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> ConvModule:
    return ConvModule(inputs, outputs, kernel, stride, groups, active=True, eps=1e-3)


def per_anchor(heads: nn.ModuleList, maps: list[Tensor], values: int) -> Tensor:
    found = [head(features).permute(0, 2, 3, 1) for head, features in zip(heads, maps, strict=True)]
    return torch.cat([part.reshape(len(part), -1, values) for part in found], 1)
