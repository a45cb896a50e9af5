"""The code for Arm, run: on an Arm machine by the other tests, here under qemu-user where that is installed.

apt-get install qemu-user gcc-aarch64-linux-gnu
"""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import single
from block_cases import AGREE, Case, chosen, difference, of_odd_channels, of_the_paper

from mobilenetv2.engine import abi
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.head_operations import Mean, Resize, Slice
from mobilenetv2.engine.link import Image
from mobilenetv2.engine.plan import Plan
from mobilenetv2.engine.program import compiled

NEON = cpus.named("neoverse-n1")


@pytest.fixture(scope="module")
def qemu(tmp_path_factory: pytest.TempPathFactory) -> single.Call:
    """Runs a plan in an AArch64 process."""
    compiler, emulator = (shutil.which(name) for name in ("aarch64-linux-gnu-gcc", "qemu-aarch64"))
    if compiler is None or emulator is None:
        pytest.skip("needs qemu-user and gcc-aarch64-linux-gnu")
    folder = tmp_path_factory.mktemp("aarch64")
    source, program, job = Path(__file__).with_name("aarch64.c"), folder / "run", folder / "job"
    subprocess.run([compiler, "-O1", "-static", "-pthread", source, "-o", program], check=True)

    def call(
        plan: Plan, image: single.Array, weights: single.Array, memory: single.Array, in_place: bool
    ) -> single.Array:
        linked = Image.from_bytes(compiled(plan))
        code, entry = linked.content, linked.entries[abi.ENTRY]
        sizes = [image.size, weights.size, plan.arena, memory.size]
        numbers = np.array([len(code), entry, *sizes, plan.threads, single.MARGIN])
        with job.open("wb") as file:
            file.write(numbers.tobytes() + code + image.tobytes() + weights.tobytes() + memory.tobytes())
        done = subprocess.run([emulator, program, job], check=True, capture_output=True, timeout=120)
        return np.frombuffer(done.stdout, np.float32)

    return call


def on_arm(cases: list[Case]) -> list[Case]:
    """The cases of one level, for this CPU instead."""
    return [replace(case, level=NEON.name) for case in cases if case.level == "x86-64"]


@pytest.mark.parametrize("case", chosen(on_arm(of_odd_channels()), 60) + chosen(on_arm(of_the_paper()), 15), ids=str)
def test_blocks_agree_on_arm(case: Case, qemu: single.Call, record_property: Callable[[str, object], None]) -> None:
    record_property("difference", found := difference(case, NEON, qemu))
    assert found < AGREE


def test_means_and_resizes_agree_on_arm(qemu: single.Call) -> None:
    x = np.random.default_rng(0).normal(0, 1, (1, 5, 7, 23)).astype(np.float32)
    mean = single.run(Mean(35, 23), x, {}, (1, 23), NEON, threads=2, call=qemu)
    np.testing.assert_allclose(mean, x.mean((1, 2)), atol=1e-6)
    resize = Resize((5, 7), (9, 3), 23, True, Slice(0, 23))
    found = single.run(resize, x, {}, (1, 9, 3, 23), NEON, threads=2, call=qemu)
    np.testing.assert_allclose(found[0, 0, 0], x[0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[0, -1, -1], x[0, -1, -1], atol=1e-6)
    np.testing.assert_allclose(found[0, 4, 1], x[0, 2, 3], atol=1e-6)
