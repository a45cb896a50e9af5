"""A model file run by torch: the network for training, behind the seam that every backend has."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from mobilenetv2 import checks
from mobilenetv2.model_file import ModelFile, ModelInfo, network_input
from mobilenetv2.nn.deeplabv3 import DeepLabV3
from mobilenetv2.nn.mobilenetv2 import MobileNetV2, load_tensors
from mobilenetv2.nn.ssdlite import SSDLite
from mobilenetv2.spec import Spec

MOST_THREADS = 256  # as of the engine


class TorchBackend:
    """`threads` sets torch's own count, which is one for the whole process; None leaves it as it is."""

    name = "torch"

    def __init__(self, model: ModelFile, *, threads: int | None = None) -> None:
        self.info: ModelInfo = model.info
        if threads is not None:
            torch.set_num_threads(checks.whole("threads", threads, 1, MOST_THREADS))
        self._network = network_for(model.info.spec).eval()
        load_tensors(self._network, model.tensors)

    def run(self, images_BHWC: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        """The raw outputs for uint8 pixels (normalised here), or float32 that is already normalised.

        A classifier's are {"logits": float32 [B, O]}, a detector's {"class_logits": float32 [B, A, O],
        "box_deltas": float32 [B, A, 4]}, those of segmentation {"logits_map": float32 [B, h, w, O]} at the output
        stride. Any height and width from 1 up. Raises `UsageError` for another rank, dtype or channel count.
        """
        prepared = network_input(images_BHWC, self.info)
        images_BCHW = torch.from_numpy(np.ascontiguousarray(prepared.transpose(0, 3, 1, 2)))
        with torch.inference_mode():
            outputs = self._network(images_BCHW)
        if isinstance(outputs, torch.Tensor):
            outputs = {"logits": outputs}
        return {name: np.ascontiguousarray(values.numpy()) for name, values in outputs.items()}


def network_for(spec: Spec) -> MobileNetV2 | SSDLite | DeepLabV3:
    """The network of any task, with initial weights."""
    kind = {"classification": MobileNetV2, "detection": SSDLite, "segmentation": DeepLabV3}[spec.task]
    return kind.from_spec(spec)
