"""A model file made into what another runtime reads; run in that runtime's own environment by `peers.py`.

python bench/convert.py onnx|litert|executorch|ncnn POINT
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from points import image, stem

from mobilenetv2 import model_file
from mobilenetv2.nn.mobilenetv2 import MobileNetV2, load_tensors

warnings.filterwarnings("ignore")


def network(point: str) -> torch.nn.Module:
    model = model_file.read(stem(point).with_suffix(".safetensors"))
    result = MobileNetV2.from_spec(model.info.spec).eval()
    load_tensors(result, model.tensors)
    return result


def onnx(point: str, example: torch.Tensor) -> None:
    batch: Any = {0: torch.export.Dim("batch")}
    out = str(stem(point).with_suffix(".onnx"))
    torch.onnx.export(
        network(point), (torch.cat([example, example]),), out, input_names=["x"], dynamic_shapes=(batch,),
        dynamo=True, external_data=False,
    )  # fmt: skip


def litert(point: str, example: torch.Tensor) -> None:
    import litert_torch

    nhwc = litert_torch.to_channel_last_io(network(point), args=[0]).eval()
    converted = litert_torch.convert(nhwc, (example.permute(0, 2, 3, 1).contiguous(),))
    converted.export(str(stem(point).with_suffix(".tflite")))


def executorch(point: str, example: torch.Tensor) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(network(point), (example,), strict=False)
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    stem(point).with_suffix(".pte").write_bytes(program.buffer)


def ncnn(point: str, example: torch.Tensor) -> None:
    folder = Path(f"{stem(point)}.ncnn")
    folder.mkdir(exist_ok=True)
    torch.jit.trace(network(point), example).save(str(folder / "net.pt"))
    shape = ",".join(map(str, example.shape))
    pnnx = str(Path(sys.executable).with_name("pnnx"))
    subprocess.run([pnnx, "net.pt", f"inputshape=[{shape}]", "fp16=0"], cwd=folder, check=True, capture_output=True)


if __name__ == "__main__":
    kind, which = sys.argv[1:]
    with torch.no_grad():
        globals()[kind](which, torch.from_numpy(image(which).transpose(0, 3, 1, 2).copy()))
