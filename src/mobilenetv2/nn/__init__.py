"""The networks for training, in torch."""

from mobilenetv2.nn.deeplabv3 import DeepLabV3
from mobilenetv2.nn.mobilenetv2 import (
    ConvBNReLU,
    InvertedResidual,
    MobileNetV2,
    load_tensors,
    mobilenet_v2,
    save_tensors,
)
from mobilenetv2.nn.segmentation_loss import segmentation_loss
from mobilenetv2.nn.ssd_loss import Target, focal, hard_mined
from mobilenetv2.nn.ssdlite import SSDLite

__all__ = [
    "ConvBNReLU",
    "DeepLabV3",
    "InvertedResidual",
    "MobileNetV2",
    "SSDLite",
    "Target",
    "focal",
    "hard_mined",
    "load_tensors",
    "mobilenet_v2",
    "save_tensors",
    "segmentation_loss",
]
