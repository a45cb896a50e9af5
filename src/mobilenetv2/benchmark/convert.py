"""A model file made into what another runtime reads, beside it, in a process of its own.

python -m mobilenetv2.benchmark.convert RUNTIME STEM HEIGHT WIDTH [mask]
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from mobilenetv2 import model_file
from mobilenetv2.benchmark.runtimes import MODEL, RUNTIMES
from mobilenetv2.nn.backend import network_for
from mobilenetv2.nn.mobilenetv2 import load_tensors
from mobilenetv2.spec import DeepLab


class InOrder(torch.nn.Module):
    """A network whose outputs are a tuple: not every converter takes names."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_BCHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.network(images_BCHW)
        return tuple(outputs.values()) if isinstance(outputs, dict) else (outputs,)


class ToMask(torch.nn.Module):
    """A segmentation network and, in its graph, what makes a mask [B, H, W] of its logits."""

    def __init__(self, network: torch.nn.Module, head: DeepLab) -> None:
        super().__init__()
        self.network, self.align_corners = network, head.align_corners

    def forward(self, images_BCHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits_BLhw = self.network(images_BCHW)["logits_map"].permute(0, 3, 1, 2)
        size = images_BCHW.shape[2:]
        resized = functional.interpolate(logits_BLhw, size, mode="bilinear", align_corners=self.align_corners)
        return (resized.argmax(1),)


def network_of(file: Path, *, mask: bool) -> torch.nn.Module:
    """The model file's network, to its outputs or to the mask, for inference."""
    model = model_file.read(file)
    network = network_for(model.info.spec).eval()
    load_tensors(network, model.tensors)
    head = model.info.spec.head
    if not mask:
        return InOrder(network).eval()
    assert isinstance(head, DeepLab), head
    return ToMask(network, head).eval()


def onnx(network: torch.nn.Module, example: torch.Tensor, out: Path) -> None:
    batch: Any = {0: torch.export.Dim("batch")}
    torch.onnx.export(
        network, (torch.cat([example, example]),), str(out), input_names=["x"], dynamic_shapes=(batch,),
        dynamo=True, external_data=False,
    )  # fmt: skip


def litert(network: torch.nn.Module, example: torch.Tensor, out: Path) -> None:
    import litert_torch

    nhwc = litert_torch.to_channel_last_io(network, args=[0]).eval()
    litert_torch.convert(nhwc, (example.permute(0, 2, 3, 1).contiguous(),)).export(str(out))


def executorch(network: torch.nn.Module, example: torch.Tensor, out: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(network, (example,), strict=False)
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    out.write_bytes(program.buffer)


def ncnn(network: torch.nn.Module, example: torch.Tensor, out: Path) -> None:
    out.mkdir(exist_ok=True)
    traced: Any = torch.jit.trace(network, example)
    traced.save(str(out / "net.pt"))
    shape = ",".join(map(str, example.shape))
    pnnx = str(Path(sys.executable).with_name("pnnx"))
    subprocess.run([pnnx, "net.pt", f"inputshape=[{shape}]", "fp16=0"], cwd=out, check=True, capture_output=True)


CONVERTERS = {".onnx": onnx, ".tflite": litert, ".pte": executorch, ".ncnn": ncnn}


def main(name: str, stem: Path, height: int, width: int, *, mask: bool) -> None:
    warnings.filterwarnings("ignore")
    runtime = RUNTIMES[name]
    network = network_of(stem.with_suffix(MODEL), mask=mask)
    with torch.no_grad():
        channels = next(network.parameters()).shape[1]  # the stem's
        CONVERTERS[runtime.suffix](network, torch.randn(1, channels, height, width), runtime.file(stem, mask=mask))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), mask=sys.argv[5:] == ["mask"])
