"""The plan to look at says what the plan does."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mobilenetv2 import charts, complexity
from mobilenetv2.engine import Engine
from mobilenetv2.engine import cpu as cpus
from mobilenetv2.engine.describe import describe, text
from mobilenetv2.engine.plan import fitted
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import Spec


def test_a_description_is_json_and_accounts_for_everything() -> None:
    found = describe(Spec(), (96, 128), threads=2)
    assert json.loads(json.dumps(found)) == found
    costs = complexity.complexity(Spec(), (96, 128))
    assert found["multiply_adds"] == costs.multiply_adds == sum(step["multiply_adds"] for step in found["steps"])
    assert found["layer_by_layer_bytes"] == 4 * costs.peak.live
    assert found["arena_bytes"] == max(buffer["offset"] + buffer["bytes"] for buffer in found["buffers"])
    assert max(step["live_bytes"] for step in found["steps"]) <= found["arena_bytes"] < found["layer_by_layer_bytes"]
    names = {buffer["name"] for buffer in found["buffers"]} | {"image", "logits"}
    assert all(set(step["buffers"].values()) <= names for step in found["steps"])


def test_the_text_has_a_line_for_each_step_and_the_peak() -> None:
    found = describe(Spec(), (224, 224))
    lines = text(found).splitlines()
    assert len(lines) == 1 + len(found["steps"]) + 7
    assert lines[1].startswith("stem + blocks 0-1  56 x 56 x 24")
    assert f"{found['arena_bytes']:,} bytes" in lines[-6]
    assert found["bottleneck_bytes"] == 802_816  # Table 3's 400 K for 16-bit numbers
    assert "Table 3         802,816 bytes" in lines[-4]


def test_moved_bytes_are_those_of_the_maps_that_steps_and_layers_read_and_write() -> None:
    block = next(step for step in describe(Spec(), (224, 224))["steps"] if step["name"] == "block 4")
    narrow, wide = 28 * 28 * 32, 28 * 28 * 192  # the block reads, adds and writes the narrow map
    assert block["moved_bytes"] == 4 * 3 * narrow
    assert block["layer_by_layer_moved_bytes"] == 4 * (narrow + wide + wide + wide + wide + narrow + narrow)
    last, classifier = describe(Spec(), (224, 224))["steps"][-2:]
    assert last["moved_bytes"] == 4 * (49 * 320 + 1280)
    assert last["layer_by_layer_moved_bytes"] == 4 * (49 * 320 + 49 * 1280 + 49 * 1280 + 1280)
    assert classifier["moved_bytes"] == classifier["layer_by_layer_moved_bytes"] == 4 * 2280


def test_the_drawing_has_a_rectangle_for_every_buffer(tmp_path: Path) -> None:
    found = describe(Spec(), (224, 224), threads=2)
    (tmp_path / "memory.png").write_bytes(charts.memory(found))
    with Image.open(tmp_path / "memory.png") as picture:
        assert picture.width > 800
        colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 20


@given(kib=st.integers(1, 1200), size=st.sampled_from([(96, 96), (64, 160), (224, 224)]), threads=st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_a_budget_is_kept_or_the_smallest_possible_is_named(kib: int, size: tuple[int, int], threads: int) -> None:
    cpu = cpus.named("haswell")
    try:
        found = fitted(Spec(), size, cpu, threads=threads, budget=1024 * kib)
    except UsageError as error:
        (smallest,) = re.findall(r"smallest possible is ([\d,]+) bytes", str(error))
        smallest = int(smallest.replace(",", ""))
        assert smallest > 1024 * kib
        found = fitted(Spec(), size, cpu, threads=threads, budget=smallest)
        assert found.arena_bytes == smallest
    else:
        assert found.arena_bytes <= 1024 * kib


def test_a_network_within_a_budget_gives_the_same_answers(random_model: Callable[..., ModelFile]) -> None:
    model = random_model(outputs=10)
    free = Engine(model, size=96)
    tight = Engine(model, size=96, budget=190_000)
    assert tight.plan.arena_bytes <= 190_000 < free.plan.arena_bytes
    images = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3), np.uint8)
    logits = free.run(images)["logits"]
    assert np.abs(tight.run(images)["logits"] - logits).max() < 1e-5 * np.abs(logits).max()
