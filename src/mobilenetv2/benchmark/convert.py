"""A model file made into what another runtime reads, beside it, in a process of its own.

python -m mobilenetv2.benchmark.convert SUFFIX STEM HEIGHT WIDTH
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from mobilenetv2 import model_file
from mobilenetv2.benchmark.runtimes import MODEL
from mobilenetv2.nn.backend import network_for
from mobilenetv2.nn.mobilenetv2 import load_tensors


class InOrder(torch.nn.Module):
    """A network whose outputs are a tuple: not every converter takes names."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_BCHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.network(images_BCHW)
        return tuple(outputs.values()) if isinstance(outputs, dict) else (outputs,)


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


def main(suffix: str, stem: Path, height: int, width: int) -> None:
    warnings.filterwarnings("ignore")
    model = model_file.read(stem.with_suffix(MODEL))
    network = network_for(model.info.spec).eval()
    load_tensors(network, model.tensors)
    with torch.no_grad():
        example = torch.randn(1, model.info.spec.backbone.in_channels, height, width)
        CONVERTERS[suffix](InOrder(network).eval(), example, stem.with_suffix(suffix))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
