"""What a Predictor takes, one photo or many, and what it refuses in one line."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mobilenetv2
from mobilenetv2 import model_file
from mobilenetv2.engine.reference import ReferenceBackend
from mobilenetv2.errors import Error, FileError, ImageError, UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.predictor import Predictor
from mobilenetv2.results import OPTIONS, decode_classification, decode_detections, decode_segmentation

RandomModel = Callable[..., ModelFile]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def predictor(random_model: RandomModel) -> Predictor:
    return Predictor(ReferenceBackend(random_model(width_mult=0.35, outputs=4, labels=("a", "b", "c", "d"), size=32)))


def photo(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def save(seed: int, name: str) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(seed)).save(name)
    return name


def test_one_photo_in_any_form_has_one_answer(predictor: Predictor, here: Path) -> None:
    name = save(0, "a.png")
    data = Path(name).read_bytes()
    answer = predictor(photo(0))
    transparent = np.dstack([photo(0), np.full((40, 50), 255, np.uint8)])
    tensor = torch.from_numpy(photo(0))
    forms = [
        name, Path(name), data, bytearray(data), memoryview(data), io.BytesIO(data), Image.open(name), transparent,
        tensor, tensor.permute(2, 0, 1),
    ]  # fmt: skip
    for form in forms:
        assert predictor(form) == answer
    with open(name, "rb") as file:
        forms[5] = file
        assert predictor(forms) == [answer] * len(forms)
    grey = photo(0)[..., :1]
    assert predictor(grey) == predictor(grey[..., 0])


def test_a_list_or_a_tuple_of_photos_has_a_list_of_answers(predictor: Predictor, here: Path) -> None:
    names = [save(seed, f"{seed}.png") for seed in (0, 1, 2)]
    answers = [predictor(name) for name in names]
    assert predictor(names) == answers
    assert predictor(tuple(map(Path, names)), top=4) == [predictor(name, top=4) for name in names]
    assert predictor([]) == []
    with pytest.raises(FileError, match=r"none\.png does not exist"):
        predictor([names[0], "none.png"])


def test_many_of_a_name_is_the_photos_it_stands_for_and_never_its_characters(predictor: Predictor, here: Path) -> None:
    answers = [predictor(save(seed, f"p/{seed}/x.png")) for seed in (0, 1)]
    Path("list.txt").write_text("p/1/x.png\np/0/x.png\n")
    assert list(predictor.many("p/0/x.png")) == answers[:1]
    assert list(predictor.many("p")) == list(predictor.many(Path("p"))) == answers
    assert list(predictor.many("p/**/*.png")) == answers
    assert list(predictor.many("list.txt")) == answers[::-1]
    with pytest.raises(FileError, match=r"none\.jpg does not exist"):
        list(predictor.many("none.jpg"))


def test_many_reads_ahead_of_its_answers_by_a_group_or_two_only(predictor: Predictor) -> None:
    asked: list[int] = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            asked.append(len(asked))
            yield photo(0)

    answers = predictor.many(endless(), batch=2)
    assert not asked
    next(answers)
    assert len(asked) <= 4


def test_an_error_stands_in_its_photos_place_whatever_the_photo_was(predictor: Predictor, here: Path) -> None:
    photos: list[Any] = [save(0, "a.png"), "none.png", here, 3, "s3://x", ImageError("lost"), None, photo(0)]
    answers = list(predictor.many(photos, errors="yield", batch=3))
    assert [isinstance(answer, Error) for answer in answers] == [False, *[True] * 6, False]
    assert answers[0] == answers[-1]
    assert str(answers[5]) == "lost"


@pytest.mark.parametrize(
    ("photos", "words"),
    [
        (b"\x89PNG", "many takes a list of photos, or a folder's name, got 'bytes'"),
        (np.zeros((4, 5, 3), np.uint8), "got 'ndarray'"),
        (io.BytesIO(), "got 'BytesIO'"),
        (None, "got 'NoneType'"),
        (7, "got 'int'"),
    ],
)
def test_many_refuses_at_once_what_is_no_number_of_photos(predictor: Predictor, photos: Any, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        predictor.many(photos)
    assert words in str(caught.value)


def test_an_array_of_pictures_is_many_pictures(predictor: Predictor) -> None:
    photos = np.stack([photo(0), photo(1)])
    assert list(predictor.many(photos)) == [predictor(photo(0)), predictor(photo(1))]


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2", True, None, 10**30, float("nan")])
def test_a_batch_is_a_number_of_photos(predictor: Predictor, batch: Any) -> None:
    with pytest.raises(UsageError, match="batch must be a whole number from 1 to"):
        predictor.many([], batch=batch)


def test_numpys_numbers_are_numbers(predictor: Predictor) -> None:
    assert list(predictor.many([photo(0)], batch=np.int64(1), top=np.int32(2))) == [predictor(photo(0), top=2)]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"topp": 3}, "unknown option 'topp': did you mean 'top'?"),
        ({"score": 0.5}, "score is for detection; this is a model for classification"),
        ({"top": 0}, "top must be a whole number from 1 up, got 0"),
        ({"top": 2.5}, "top must be a whole number from 1 up, got 2.5"),
        ({"top": "3"}, "top must be a whole number from 1 up, got '3'"),
        ({"with_background": "yes"}, "with_background must be True or False, got 'yes'"),
        ({"multi_scale": True}, "multi_scale is for segmentation; this is a model for classification"),
        ({"slide": 1}, "slide must be True or False, got 1"),
    ],
)
def test_options_that_a_task_has_not_or_that_cannot_be_are_named(
    predictor: Predictor, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        predictor(photo(0), **options)
    assert str(caught.value) == words
    with pytest.raises(UsageError):
        list(predictor.many([photo(0)], **options))


def test_a_detectors_thresholds_are_numbers_in_their_range(random_detector: RandomModel) -> None:
    detector = Predictor(ReferenceBackend(random_detector(size=64)))
    assert detector(photo(0), score=np.float32(0.5), iou=0, most=np.int64(3))  # pyright: ignore[reportArgumentType]
    wrong: list[dict[str, Any]] = [
        {"score": float("nan")},
        {"score": "0.5"},
        {"iou": 2},
        {"iou": True},
        {"most": 0},
        {"most": 1.0},
    ]
    for options in wrong:
        (name,) = options
        with pytest.raises(UsageError, match=f"{name} must be"):
            detector(photo(0), **options)


@pytest.mark.parametrize(
    ("task", "decoder"),
    [
        ("classification", decode_classification),
        ("detection", decode_detections),
        ("segmentation", decode_segmentation),
    ],
)
def test_the_table_of_options_is_what_the_decoders_take(task: str, decoder: Any) -> None:
    of_backends = ("best_classes", "best_on_average")
    assert tuple(name for name in decoder.__kwdefaults__ if name not in of_backends) == OPTIONS[task]


def test_outputs_that_are_not_finite_are_an_error_and_no_answer(random_model: RandomModel) -> None:
    model = random_model(width_mult=0.35, outputs=4, size=32)

    class Broken(ReferenceBackend):
        def run(self, images_BHWC: Any) -> dict[str, np.ndarray]:
            return {"logits": np.array([[0, -np.inf, 1, 2]], np.float32)}

    with pytest.raises(Error, match="the network's outputs are not finite"):
        Predictor(Broken(model))(photo(0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"threads": 0}, "threads must be a whole number from 1 to 256, got 0"),
        ({"threads": "2"}, "threads must be a whole number from 1 to 256, got '2'"),
        ({"threads": 1.5}, "threads must be a whole number from 1 to 256, got 1.5"),
        ({"threads": True}, "threads must be a whole number from 1 to 256, got True"),
        ({"threads": 10**30}, "threads must be a whole number from 1 to 256"),
        ({"backend": 3}, "backend must be engine, torch or reference, got 3"),
        ({"backend": "engin"}, "unknown backend 'engin': did you mean 'engine'?"),
        ({"resize": 1.5}, "resize"),
        ({"resize": "64"}, "resize"),
        ({"resize": True}, "resize"),
        ({"crop": 0}, "crop must be"),
        ({"crop": (32, 32)}, "crop must be"),
        ({"crop": 10**9}, "crop must be"),
        ({"resize": 10**9}, "resize"),
        ({"model": None}, "model must be the name of a model file, a name of the zoo, or a ModelFile, got None"),
        ({"model": 123}, "or a ModelFile, got 123"),
        ({"model": b"\x89PNG"}, "or a ModelFile, got a photo"),
        ({"model": np.zeros((4, 5, 3), np.uint8)}, "or a ModelFile, got a photo"),
        ({"model": ""}, "the name of the model is empty"),
    ],
)
def test_arguments_of_load_that_cannot_be_are_named(
    random_model: RandomModel, arguments: dict[str, Any], words: str
) -> None:
    whole = {"model": random_model(width_mult=0.35, outputs=4, size=32), "backend": "reference", **arguments}
    with pytest.raises(UsageError) as caught:
        mobilenetv2.load(whole.pop("model"), **whole)
    assert words in str(caught.value)


def test_model_and_photo_that_are_swapped_are_recognised(
    random_model: RandomModel, predictor: Predictor, here: Path
) -> None:
    model_file.write("m.safetensors", random_model(width_mult=0.35, outputs=4, size=32))
    save(0, "a.png")
    for swapped in (lambda: mobilenetv2.load("a.png"), lambda: predictor("m.safetensors")):
        with pytest.raises(UsageError, match=r"are the model and the photo swapped\?"):
            swapped()
    with pytest.raises(UsageError, match=r"a Predictor is made by mobilenetv2\.load\(model\)"):
        Predictor("m.safetensors")  # pyright: ignore[reportArgumentType]


def test_a_name_too_long_for_any_file_is_no_model() -> None:
    with pytest.raises(UsageError, match="unknown model"):
        mobilenetv2.load("a" * 5000)
