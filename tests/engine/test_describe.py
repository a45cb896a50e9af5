"""The plan to look at says what the plan does."""

import json

from mobilenetv2 import complexity
from mobilenetv2.engine.describe import describe, text
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
    assert len(lines) == 1 + len(found["steps"]) + 3
    assert lines[1].startswith("stem + blocks 0-1  56 x 56 x 24")
    assert f"{found['arena_bytes']:,} bytes" in lines[-2]
