"""The runtimes that one model can be run in, side by side: the engine and others, where they are installed.

Each function makes a `Run` of the file that its runtime reads: the model file itself or, beside it under the same stem,
what `convert` makes of it. They are called in processes of their own (`worker`), whose standard output is not theirs.
A segmentation network may be run to its logits, or to the mask of the input's size.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Run = Callable[[], Sequence[Array]]  # one inference of the pixels given before: the network's outputs [B, ...]
Result = Literal["outputs", "mask", "mask after"]  # "mask": in the runtime's graph; "after": by the engine's code
MODEL = ".safetensors"


def engine(file: Path, threads: int, pixels: Array) -> Run:
    from mobilenetv2.engine import Engine

    loaded = Engine(file, size=pixels.shape[1:3], threads=threads, batch=len(pixels))
    return lambda: tuple(loaded.run(pixels).values())


def engine_mask(file: Path, threads: int, pixels: Array) -> Run:
    from mobilenetv2.benchmark import masks
    from mobilenetv2.engine import Engine
    from mobilenetv2.spec import deeplab

    loaded = Engine(file, size=pixels.shape[1:3], threads=threads, batch=len(pixels))
    aligned = deeplab.head_of(loaded.info.spec).align_corners
    map_size = loaded.plan.outputs[0].shape[:2]
    rows, columns = masks.places(map_size, loaded.plan.size, align_corners=aligned)
    return lambda: [loaded.best_classes(loaded.run(pixels)["logits_map"], rows, columns)]


def engine_uint8_mask(file: Path, threads: int, pixels: Array) -> Run:
    return engine_mask(file, threads, np.random.default_rng(2).integers(0, 256, pixels.shape, np.uint8))


def engine_uint8(file: Path, threads: int, pixels: Array) -> Run:
    return engine(file, threads, np.random.default_rng(2).integers(0, 256, pixels.shape, np.uint8))


def torch_eager(file: Path, threads: int, pixels: Array) -> Run:
    return _torch(file, threads, pixels, compiled=False)


def torch_compile(file: Path, threads: int, pixels: Array) -> Run:
    return _torch(file, threads, pixels, compiled=True)


def torch_eager_mask(file: Path, threads: int, pixels: Array) -> Run:
    return _torch(file, threads, pixels, compiled=False, mask=True)


def torch_compile_mask(file: Path, threads: int, pixels: Array) -> Run:
    return _torch(file, threads, pixels, compiled=True, mask=True)


def _torch(file: Path, threads: int, pixels: Array, *, compiled: bool, mask: bool = False) -> Run:
    import torch

    from mobilenetv2.benchmark.convert import network_of

    torch.set_num_threads(threads)
    network: Any = network_of(file, mask=mask)
    images = torch.from_numpy(_nchw(pixels))
    if compiled:
        import torch._inductor.config

        torch._inductor.config.freezing = True
        network = torch.compile(network.to(memory_format=torch.channels_last))
        images = images.contiguous(memory_format=torch.channels_last)

    def run() -> list[Array]:
        with torch.no_grad():
            outputs = network(images)
        return [values.numpy() for values in outputs]

    return run


def onnxruntime(file: Path, threads: int, pixels: Array) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = {"x": _nchw(pixels)}
    return lambda: session.run(None, feed)


def openvino(file: Path, threads: int, pixels: Array) -> Run:
    import openvino as ov

    images = _nchw(pixels)
    core = ov.Core()
    model = core.read_model(file)
    model.reshape(images.shape)
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

    def run() -> list[Array]:
        request.infer({0: images}, share_inputs=True)
        return [tensor.data for tensor in request.output_tensors]

    return run


def litert(file: Path, threads: int, pixels: Array) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=threads)
    if len(pixels) > 1:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], list(pixels.shape))
    interpreter.allocate_tensors()
    source, *targets = (one["index"] for one in (*interpreter.get_input_details(), *interpreter.get_output_details()))

    def run() -> list[Array]:
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        return [interpreter.get_tensor(target) for target in targets]

    return run


def executorch(file: Path, threads: int, pixels: Array) -> Run:
    import torch
    from executorch.extension.pybindings import portable_lib

    portable_lib._unsafe_reset_threadpool(threads)
    loaded = portable_lib._load_for_executorch(str(file))
    images = torch.from_numpy(_nchw(pixels))
    return lambda: [values.numpy() for values in loaded.forward((images,))]


def ncnn(file: Path, threads: int, pixels: Array) -> Run:
    import ncnn as library

    network = library.Net()
    network.opt.num_threads = threads
    network.opt.use_vulkan_compute = False
    for half in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(network.opt, half, False)
    network.load_param(str(file / "net.ncnn.param"))
    network.load_model(str(file / "net.ncnn.bin"))
    picture, names = _nchw(pixels)[0], network.output_names()

    def run() -> list[Array]:
        with network.create_extractor() as extractor:
            extractor.input("in0", library.Mat(picture))
            return [np.array(extractor.extract(name)[1])[np.newaxis] for name in names]

    return run


def _nchw(pixels: Array) -> Array:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


Start = Callable[[Path, int, Array], Run]  # the file, threads, float32 pixels [B, H, W, C]


@dataclass(frozen=True, slots=True)
class Runtime:
    """`suffix` is that of the file it reads. `runs_with` and `converts_with`: the modules that it takes, by what
    installs them. `static`: one image at a time, of the size that it was converted for. `mask` starts a segmentation
    network to its mask where that is no matter of the file."""

    name: str
    start: Start
    suffix: str = MODEL
    runs_with: tuple[str, ...] = ()
    converts_with: tuple[str, ...] = ()
    static: bool = False
    mask: Start | None = None

    def file(self, stem: Path, *, mask: bool) -> Path:
        """What it reads: for masks another file, unless that is the model file."""
        return stem.with_suffix(f".mask{self.suffix}" if mask and self.suffix != MODEL else self.suffix)

    @property
    def missing(self) -> tuple[str, ...]:
        """What would have to be installed, as pip calls it."""
        needed = dict.fromkeys((*self.runs_with, *self.converts_with))
        return tuple(module.replace("_", "-") for module in needed if importlib.util.find_spec(module) is None)


_ONNX = ("torch", "onnx", "onnxscript")
RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("engine", engine, mask=engine_mask),
        Runtime("engine, uint8 pixels", engine_uint8, mask=engine_uint8_mask),
        Runtime("LiteRT", litert, ".tflite", ("ai_edge_litert",), ("torch", "litert_torch")),
        Runtime("ExecuTorch", executorch, ".pte", ("executorch", "torch"), ("torch",), static=True),
        Runtime("OpenVINO", openvino, ".onnx", ("openvino",), _ONNX),
        Runtime("ONNX Runtime", onnxruntime, ".onnx", ("onnxruntime",), _ONNX),
        Runtime("ncnn", ncnn, ".ncnn", ("ncnn",), ("torch", "pnnx"), static=True),
        Runtime("torch.compile", torch_compile, runs_with=("torch",), mask=torch_compile_mask),
        Runtime("torch", torch_eager, runs_with=("torch",), mask=torch_eager_mask),
    )
}
