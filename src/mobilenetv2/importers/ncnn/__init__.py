"""SSDLite detectors in ncnn's pairs of files, `.param` (the graph) and `.bin` (its weights)."""

from mobilenetv2.importers.ncnn.param import Pair, pair
from mobilenetv2.importers.ncnn.reader import read

__all__ = ["Pair", "pair", "read"]
