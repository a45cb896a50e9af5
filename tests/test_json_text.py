"""JSON from outside: what parses as ever, what is refused, and that the bounds are cheap."""

import json
import random
import time

import pytest

from mobilenetv2 import json_text, limits
from mobilenetv2.errors import DatasetError, FileError


def parse(text, **options):
    return json_text.parse(text, name="x.json", error=DatasetError, **options)


def nested(depth, inside=""):
    return "[" * depth + inside + "]" * depth


@pytest.mark.parametrize(
    "text",
    [
        "1",
        '{"a": [1, 2.5, null, true, "b"]}',
        '"\\ud83d\\ude00"',  # a whole pair
        '"\\\\ud800"',  # a backslash and letters
        b'\xef\xbb\xbf{"a": 1}',  # with a byte order mark
        '{"ä": "😀"}',
        '{"a": "ü"}'.encode("utf-16"),
    ],
)
def test_what_json_says_is_what_json_says(text):
    assert parse(text) == json.loads(text)


def test_values_may_nest_as_deep_as_the_limit_and_no_deeper():
    assert parse(nested(limits.JSON_DEPTH)) == json.loads(nested(limits.JSON_DEPTH))
    for depth in (limits.JSON_DEPTH + 1, 990, 200_000):
        with pytest.raises(DatasetError, match="nests values"):
            parse(nested(depth))
    with pytest.raises(DatasetError, match="too deep"):
        parse("[" * 200_000)


def test_brackets_inside_texts_are_no_levels():
    random.seed(1)
    for _ in range(300):
        words = ["".join(random.choices('[]{}"\\ab,', k=8)) for _ in range(60)]
        value = {word: [word, {"a": words}] for word in words}
        assert parse(json.dumps(value), depth=4) == value
        with pytest.raises(DatasetError):
            parse(json.dumps([value]), depth=4)


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\udc80": 1}', '["\\udc00\\ud800"]', '"\ud800"', '["a", "ü\\ud800"]'])
def test_half_of_a_surrogate_pair_is_refused_unless_it_is_asked_for(text):
    with pytest.raises(DatasetError, match=r"^x\.json holds text that UTF-8 cannot write"):
        parse(text)
    assert parse(text, surrogates=True) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1" * 5000, "thousands of digits"),
        ("{", "is not JSON"),
        ("[" * 200 + "}" * 200, "nests values more than 100 deep"),
        (b"\xff\xff", "is not JSON"),
        ("", "is not JSON"),
    ],
)
def test_what_cannot_be_parsed_is_said_in_one_line_that_names_the_file(text, message):
    with pytest.raises(DatasetError, match=message) as error:
        parse(text)
    assert str(error.value).startswith("x.json ")
    assert "\n" not in str(error.value)


def test_no_more_is_parsed_than_the_limit(tmp_path):
    assert parse("[" + "1," * 3 + "1]", limit=9) == [1] * 4
    with pytest.raises(DatasetError, match="more than 8 bytes"):
        parse("[" + "1," * 3 + "1]", limit=8)
    (tmp_path / "a.json").write_text("[1,1,1,1]")
    assert json_text.read(tmp_path / "a.json", error=DatasetError, limit=9) == [1] * 4
    with pytest.raises(FileError, match="more than 8 bytes"):
        json_text.read(tmp_path / "a.json", error=DatasetError, limit=8)


def test_the_bounds_cost_a_small_share_of_parsing():
    text = json.dumps([{"id": i, "bbox": [1.5, 2.5, 3.5, i], "segmentation": [[1.5] * 20]} for i in range(20_000)])
    start = time.process_time()
    json.loads(text)
    between = time.process_time()
    parse(text)
    assert time.process_time() - between < 3 * (between - start) + 0.1
