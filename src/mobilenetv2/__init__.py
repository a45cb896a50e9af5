"""The whole MobileNetV2 paper (arXiv 1801.04381) as software that people use.

    predictor = mobilenetv2.load("model.safetensors")
    print(predictor("photo.jpg"))

Importing this package loads neither torch nor NumPy; each name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mobilenetv2.errors import Error as Error
    from mobilenetv2.importers import import_file as import_file
    from mobilenetv2.importers import load_model as load_model
    from mobilenetv2.nn import mobilenet_v2 as mobilenet_v2
    from mobilenetv2.predictor import Predictor as Predictor
    from mobilenetv2.predictor import load as load

__version__ = "0.1.0"

_HOME = {
    "Error": "mobilenetv2.errors",
    "Predictor": "mobilenetv2.predictor",
    "import_file": "mobilenetv2.importers",
    "load": "mobilenetv2.predictor",
    "load_model": "mobilenetv2.importers",
    "mobilenet_v2": "mobilenetv2.nn",
}
__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
