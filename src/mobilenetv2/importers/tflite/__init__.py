"""MobileNetV2 classifiers in TFLite files, read with the format's schema alone: no TensorFlow, no runtime."""

from mobilenetv2.importers.tflite.graph import recognises
from mobilenetv2.importers.tflite.reader import read

__all__ = ["read", "recognises"]
