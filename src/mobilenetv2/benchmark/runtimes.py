"""The runtimes that one model can be run in, side by side: the engine and others, where they are installed.

Each function makes a `Run` of the file that its runtime reads: the model file itself or, beside it under the same stem,
what `convert` makes of it. They are called in processes of their own (`worker`), whose standard output is not theirs.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Run = Callable[[], Sequence[Array]]  # one inference of the pixels given before: the network's outputs [B, ...]
MODEL = ".safetensors"


def engine(stem: Path, threads: int, pixels: Array) -> Run:
    from mobilenetv2.engine import Engine

    loaded = Engine(stem.with_suffix(MODEL), size=pixels.shape[1:3], threads=threads, batch=len(pixels))
    return lambda: tuple(loaded.run(pixels).values())


def engine_uint8(stem: Path, threads: int, pixels: Array) -> Run:
    return engine(stem, threads, np.random.default_rng(2).integers(0, 256, pixels.shape, np.uint8))


def torch_eager(stem: Path, threads: int, pixels: Array) -> Run:
    return _torch(stem, threads, pixels, compiled=False)


def torch_compile(stem: Path, threads: int, pixels: Array) -> Run:
    return _torch(stem, threads, pixels, compiled=True)


def _torch(stem: Path, threads: int, pixels: Array, *, compiled: bool) -> Run:
    import torch

    from mobilenetv2 import model_file
    from mobilenetv2.nn.backend import network_for
    from mobilenetv2.nn.mobilenetv2 import load_tensors

    torch.set_num_threads(threads)
    model = model_file.read(stem.with_suffix(MODEL))
    network: Any = network_for(model.info.spec).eval()
    load_tensors(network, model.tensors)
    images = torch.from_numpy(_nchw(pixels))
    if compiled:
        import torch._inductor.config

        torch._inductor.config.freezing = True
        network = torch.compile(network.to(memory_format=torch.channels_last))
        images = images.contiguous(memory_format=torch.channels_last)

    def run() -> list[Array]:
        with torch.no_grad():
            outputs = network(images)
        return [values.numpy() for values in (outputs.values() if isinstance(outputs, dict) else [outputs])]

    return run


def onnxruntime(stem: Path, threads: int, pixels: Array) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(stem.with_suffix(".onnx"), options, providers=["CPUExecutionProvider"])
    feed = {"x": _nchw(pixels)}
    return lambda: session.run(None, feed)


def openvino(stem: Path, threads: int, pixels: Array) -> Run:
    import openvino as ov

    images = _nchw(pixels)
    core = ov.Core()
    model = core.read_model(stem.with_suffix(".onnx"))
    model.reshape(images.shape)
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

    def run() -> list[Array]:
        request.infer({0: images}, share_inputs=True)
        return [tensor.data for tensor in request.output_tensors]

    return run


def litert(stem: Path, threads: int, pixels: Array) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(stem.with_suffix(".tflite")), num_threads=threads)
    if len(pixels) > 1:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], list(pixels.shape))
    interpreter.allocate_tensors()
    source, *targets = (one["index"] for one in (*interpreter.get_input_details(), *interpreter.get_output_details()))

    def run() -> list[Array]:
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        return [interpreter.get_tensor(target) for target in targets]

    return run


def executorch(stem: Path, threads: int, pixels: Array) -> Run:
    import torch
    from executorch.extension.pybindings import portable_lib

    portable_lib._unsafe_reset_threadpool(threads)
    loaded = portable_lib._load_for_executorch(str(stem.with_suffix(".pte")))
    images = torch.from_numpy(_nchw(pixels))
    return lambda: [values.numpy() for values in loaded.forward((images,))]


def ncnn(stem: Path, threads: int, pixels: Array) -> Run:
    import ncnn as library

    network = library.Net()
    network.opt.num_threads = threads
    network.opt.use_vulkan_compute = False
    for half in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(network.opt, half, False)
    folder = stem.with_suffix(".ncnn")
    network.load_param(str(folder / "net.ncnn.param"))
    network.load_model(str(folder / "net.ncnn.bin"))
    picture, names = _nchw(pixels)[0], network.output_names()

    def run() -> list[Array]:
        with network.create_extractor() as extractor:
            extractor.input("in0", library.Mat(picture))
            return [np.array(extractor.extract(name)[1])[np.newaxis] for name in names]

    return run


def _nchw(pixels: Array) -> Array:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


@dataclass(frozen=True, slots=True)
class Runtime:
    """`suffix` is that of the file it reads. `runs_with` and `converts_with`: the modules that it takes, by what
    installs them. `static`: one image at a time, of the size that it was converted for."""

    name: str
    start: Callable[[Path, int, Array], Run]
    suffix: str = MODEL
    runs_with: tuple[str, ...] = ()
    converts_with: tuple[str, ...] = ()
    static: bool = False

    @property
    def missing(self) -> tuple[str, ...]:
        """What would have to be installed, as pip calls it."""
        needed = dict.fromkeys((*self.runs_with, *self.converts_with))
        return tuple(module.replace("_", "-") for module in needed if importlib.util.find_spec(module) is None)


_ONNX = ("torch", "onnx", "onnxscript")
RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("engine", engine),
        Runtime("engine, uint8 pixels", engine_uint8),
        Runtime("LiteRT", litert, ".tflite", ("ai_edge_litert",), ("torch", "litert_torch")),
        Runtime("ExecuTorch", executorch, ".pte", ("executorch", "torch"), ("torch",), static=True),
        Runtime("OpenVINO", openvino, ".onnx", ("openvino",), _ONNX),
        Runtime("ONNX Runtime", onnxruntime, ".onnx", ("onnxruntime",), _ONNX),
        Runtime("ncnn", ncnn, ".ncnn", ("ncnn",), ("torch", "pnnx"), static=True),
        Runtime("torch.compile", torch_compile, runs_with=("torch",)),
        Runtime("torch", torch_eager, runs_with=("torch",)),
    )
}
