"""One runtime with one network in a process of its own; `peers.py` tells it over stdin when to run.

python bench/worker.py RUNTIME POINT THREADS BATCH
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from points import image, stem

Run = Callable[[], Any]


def engine(point: str, threads: int, pixels: Any) -> Run:
    from mobilenetv2.engine import Engine

    loaded = Engine(stem(point).with_suffix(".safetensors"), threads=threads, batch=len(pixels))
    return lambda: loaded.run(pixels)["logits"]


def engine_uint8(point: str, threads: int, pixels: Any) -> Run:
    return engine(point, threads, np.random.default_rng(2).integers(0, 256, pixels.shape, np.uint8))


def torch_eager(point: str, threads: int, pixels: Any) -> Run:
    return _torch(point, threads, pixels, compiled=False)


def torch_compile(point: str, threads: int, pixels: Any) -> Run:
    return _torch(point, threads, pixels, compiled=True)


def _torch(point: str, threads: int, pixels: Any, *, compiled: bool) -> Run:
    import torch
    import torch._inductor.config

    from mobilenetv2 import model_file
    from mobilenetv2.nn.mobilenetv2 import MobileNetV2, load_tensors

    torch.set_num_threads(threads)
    model = model_file.read(stem(point).with_suffix(".safetensors"))
    network: Any = MobileNetV2.from_spec(model.info.spec).eval()
    load_tensors(network, model.tensors)
    images = torch.from_numpy(_nchw(pixels))
    if compiled:
        torch._inductor.config.freezing = True
        network = torch.compile(network.to(memory_format=torch.channels_last))
        images = images.contiguous(memory_format=torch.channels_last)

    def run() -> Any:
        with torch.no_grad():
            return network(images).numpy()

    return run


def onnxruntime(point: str, threads: int, pixels: Any) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(stem(point).with_suffix(".onnx"), options, providers=["CPUExecutionProvider"])
    feed = {"x": _nchw(pixels)}
    return lambda: session.run(None, feed)[0]


def openvino(point: str, threads: int, pixels: Any) -> Run:
    import openvino as ov

    images = _nchw(pixels)
    core = ov.Core()
    model = core.read_model(stem(point).with_suffix(".onnx"))
    model.reshape(images.shape)
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", {**settings, "INFERENCE_PRECISION_HINT": "f32"}).create_infer_request()

    def run() -> Any:
        request.infer({0: images}, share_inputs=True)
        return request.get_output_tensor(0).data

    return run


def litert(point: str, threads: int, pixels: Any) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(stem(point).with_suffix(".tflite")), num_threads=threads)
    if len(pixels) > 1:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], list(pixels.shape))
    interpreter.allocate_tensors()
    source, target = (f()[0]["index"] for f in (interpreter.get_input_details, interpreter.get_output_details))

    def run() -> Any:
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        return interpreter.get_tensor(target)

    return run


def executorch(point: str, threads: int, pixels: Any) -> Run:
    import torch
    from executorch.extension.pybindings import portable_lib

    portable_lib._unsafe_reset_threadpool(threads)
    loaded = portable_lib._load_for_executorch(str(stem(point).with_suffix(".pte")))
    images = torch.from_numpy(_nchw(pixels))
    return lambda: loaded.forward((images,))[0].numpy()


def ncnn(point: str, threads: int, pixels: Any) -> Run:
    import ncnn as library

    network = library.Net()
    network.opt.num_threads = threads
    network.opt.use_vulkan_compute = False
    for half in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(network.opt, half, False)
    folder = Path(f"{stem(point)}.ncnn")
    network.load_param(str(folder / "net.ncnn.param"))
    network.load_model(str(folder / "net.ncnn.bin"))
    picture = _nchw(pixels)[0]

    def run() -> Any:
        with network.create_extractor() as extractor:
            extractor.input("in0", library.Mat(picture))
            return np.array(extractor.extract("out0")[1])[np.newaxis]

    return run


def _nchw(pixels: Any) -> Any:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def main(runtime: str, point: str, threads: int, batch: int) -> None:
    if threads == 1:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = str(threads)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a runtime prints is not a reply
    pixels = image(point, batch)
    before, begun = _peak_bytes(), time.perf_counter()
    run = globals()[runtime](point, threads, pixels)
    answer = np.array(run())
    first = time.perf_counter() - begun
    expected = np.load(stem(point).with_suffix(".npy"))
    difference = float(np.abs(answer[:1] - expected).max() / np.abs(expected).max())
    reply = {"difference": difference, "first_s": first, "peak_bytes": _peak_bytes() - before}
    print(json.dumps(reply), file=replies, flush=True)
    for line in sys.stdin:
        times: list[float] = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), file=replies, flush=True)
    os._exit(0)  # some runtimes' threads do not end by themselves


def _peak_bytes() -> int:
    """The most memory that this process has had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    return 0


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
