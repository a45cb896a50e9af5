"""The networks for training, in torch."""

from mobilenetv2.nn.mobilenetv2 import (
    ConvBNReLU,
    InvertedResidual,
    MobileNetV2,
    load_tensors,
    mobilenet_v2,
    save_tensors,
)

__all__ = ["ConvBNReLU", "InvertedResidual", "MobileNetV2", "load_tensors", "mobilenet_v2", "save_tensors"]
