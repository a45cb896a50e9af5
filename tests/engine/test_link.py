"""Objects made into images, and images into something to call, without LLVM."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mobilenetv2 import model_file
from mobilenetv2.engine import Engine, abi, jit
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.ir import Module
from mobilenetv2.engine.kernels import network
from mobilenetv2.engine.link import Code, Image, link
from mobilenetv2.engine.plan import plan
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import Spec
from mobilenetv2.spec_fields import backbone

RandomModel = Callable[..., ModelFile]
SHORT = Spec(backbone(stages=((1, 16, 1, 1), (6, 24, 2, 2))))


def clamping(cpu: cpus.Cpu) -> Module:
    """run(image, ...): image[0..3] = relu6(image[0..3]), which needs constants; and twice, a function that calls it."""
    module = Module(cpu)
    inner = module.function("inner", ("place",), ())
    inner.store(inner.activate(inner.load(inner.place, 4), "relu6"), inner.place)
    inner.end()
    for name, calls in ((abi.ENTRY, 1), ("twice", 2)):
        f = module.function(name, abi.POINTERS, abi.NUMBERS, public=True)
        for i in range(calls):
            f.call(inner, f.image + 4 * i)
        f.end()
    return module


@pytest.mark.parametrize("level", ["x86-64", "haswell", "skylake-avx512", "neoverse-n1"])
def test_linked_code_does_what_was_written(level: str) -> None:
    try:
        cpu = cpus.runnable(level)
    except cpus.UsageError as error:
        pytest.skip(str(error))
    image = link(jit.object_code(clamping(cpu).text, cpu))
    assert set(image.entries) == {abi.ENTRY, "twice"}
    code = Code(image.content)
    values = np.array([-1, 0.5, 6, 7, -2, 3, 9, 6.5, 100], np.float32)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    kind(code.address + image.entries[abi.ENTRY])(values.ctypes.data)
    np.testing.assert_array_equal(values, np.array([0, 0.5, 6, 6, -2, 3, 9, 6.5, 100], np.float32))
    kind(code.address + image.entries["twice"])(values.ctypes.data)
    np.testing.assert_array_equal(values, np.array([0, 0.5, 6, 6, 0, 3, 6, 6, 100], np.float32))


@pytest.mark.parametrize("level", list(cpus.NAMED))
def test_a_networks_code_is_one_piece_that_refers_to_nothing_outside(level: str) -> None:
    cpu = cpus.named(level)
    image = link(jit.object_code(network.emit(plan(SHORT, (32, 32), cpu, threads=2)).text, cpu))
    assert set(image.entries) == {abi.ENTRY, abi.LEAD, abi.PART, abi.SERVE}
    assert 0 < image.entries[abi.ENTRY] < len(image.content)
    assert Image.from_bytes(image.to_bytes()) == image


def test_an_object_that_needs_something_outside_is_refused() -> None:
    cpu = cpus.named("haswell")
    text = "declare void @elsewhere()\ndefine void @run() {\n  call void @elsewhere()\n  ret void\n}"
    with pytest.raises(AssertionError, match="nothing outside itself"):
        link(jit.object_code(text, cpu))
    with pytest.raises(AssertionError, match="no variables"):
        link(jit.object_code("@count = global i64 7\ndefine ptr @run() {\n  ret ptr @count\n}", cpu))


WITHOUT_LLVM = """
import sys
sys.modules["llvmlite"] = None  # importing it raises
import numpy as np
from mobilenetv2.engine import Engine
print(repr(Engine(sys.argv[1], size=32).run(np.full((1, 32, 32, 3), 90, np.uint8))["logits"].tolist()))
"""


def test_cached_code_runs_without_llvm(random_model: RandomModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model_file.write(path, random_model(outputs=3, stages=((1, 8, 1, 1),)))
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}

    def start() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_LLVM, str(path)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert "llvmlite" in start().stderr  # nothing is cached yet
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        expected = Engine(path, size=32).run(np.full((1, 32, 32, 3), 90, np.uint8))["logits"].tolist()
    assert start().stdout.strip() == repr(expected)
