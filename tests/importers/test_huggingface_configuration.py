"""What lies beside Hugging Face's weights is followed, noted or refused in one line; and which folders load."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mobilenetv2 import model_file
from mobilenetv2.errors import FileError, ModelFileError, WeightsError
from mobilenetv2.importers import import_file, load_any, load_model, names
from mobilenetv2.model_file import ModelFile

RandomModel = Callable[..., ModelFile]
CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
IMAGENETTE = ("tench", "English springer", "cassette player", "chain saw", "church")


def save(folder: Path, model: ModelFile, *, source: str = "huggingface", **config: Any) -> Path:
    """`model` as the hub has a classifier of `source`: weights and config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    theirs = names.of(source, model.info.spec.backbone)
    tensors = {name: np.ascontiguousarray(model.tensors[ours]) for ours, name in theirs.items()}
    save_file(tensors, folder / "model.safetensors")
    labelled = {"id2label": {str(i): name for i, name in enumerate(config.pop("labels", ()))}}
    (folder / CONFIG).write_text(json.dumps({"model_type": "mobilenet_v2", **labelled, **config}))
    return folder


@pytest.fixture
def folder(tmp_path: Path, random_model: RandomModel) -> Path:
    return save(tmp_path / "model", random_model(width_mult=0.1, outputs=5), labels=IMAGENETTE, image_size=96)


def process(folder: Path, **fields: Any) -> Path:
    (folder / PROCESSOR).write_text(json.dumps(fields))
    return folder


# -- folders


@pytest.mark.parametrize("load", [load_model, load_any])
def test_a_folder_in_which_training_left_a_model_file_is_that_model(
    tmp_path: Path, random_model: RandomModel, load: Callable[[str], ModelFile]
) -> None:
    model = random_model(width_mult=0.1, outputs=5)
    model_file.write(tmp_path / "model.safetensors", model)
    assert load(str(tmp_path)).info == model.info


def test_a_folder_of_timm_s_is_imported_and_not_called_hugging_face_s(
    tmp_path: Path, random_model: RandomModel
) -> None:
    folder = save(tmp_path, random_model(width_mult=0.1, outputs=5), source="timm")
    assert load_any(str(folder)).info.provenance["source"] == "timm"
    with pytest.raises(
        ModelFileError, match=r"another library's weights: mobilenetv2 import .* makes a model"
    ) as error:
        load_model(str(folder))
    assert "Hugging" not in str(error.value)


@pytest.mark.parametrize("load", [load_model, load_any, import_file])
def test_a_folder_without_whole_weights_says_what_to_do(folder: Path, load: Callable[[str], ModelFile]) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileError, match=r"without model\.safetensors or pytorch_model\.bin: give a file"):
        load(str(folder))
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(FileError, match=r"in several files, which model\.safetensors\.index\.json lists: save them as"):
        load(str(folder))
    (folder / "model.safetensors").symlink_to("../blobs/12ab")
    with pytest.raises(FileError, match=r"is a link to \.\./blobs/12ab, which does not exist: fetch the files again"):
        load(str(folder))


# -- class names


def test_own_classes_keep_their_names_where_the_first_is_imagenet_s_first_too(folder: Path) -> None:
    assert import_file(folder).info.labels == IMAGENETTE


def test_a_background_that_stands_last_stays_there_beside_imagenet_s_names(
    tmp_path: Path, random_model: RandomModel
) -> None:
    labels = ("tench, Tinca tinca", *(f"LABEL {i}" for i in range(1, 1000)), "background")
    info = import_file(save(tmp_path, random_model(width_mult=0.1, outputs=1001), labels=labels)).info
    assert (info.spec.head.background, info.labels[281]) == ("last", "tabby")


@pytest.mark.parametrize(("background", "left"), [("first", slice(1, None)), ("last", slice(None, -1))])
def test_an_output_that_becomes_the_background_loses_its_name_alone(folder: Path, background: Any, left: slice) -> None:
    info = import_file(folder, background=background).info
    assert (info.labels, info.spec.head.background) == (IMAGENETTE[left], background)


# -- sizes and pixels


def test_the_configuration_s_size_counts_more_than_the_file_s_name(folder: Path) -> None:
    named = (folder / "model.safetensors").rename(folder / "mobilenet_v2_0.35_160.safetensors")
    assert import_file(named).info.preprocessing.size == (96, 96)
    (folder / CONFIG).unlink()
    assert import_file(named).info.preprocessing.size == (160, 160)


@pytest.mark.parametrize(
    ("fields", "size", "resize", "resize_to", "fraction"),
    [
        ({"do_center_crop": False, "size": {"height": 192, "width": 160}}, (192, 160), "stretch", None, 1),
        ({"size": {"height": 256, "width": 256}, "crop_size": 224}, (224, 224), "stretch", None, 0.875),
        ({"size": [128, 128], "crop_size": 128}, (128, 128), "stretch", None, 1),
        ({"size": {"shortest_edge": 120}, "crop_size": 96}, (96, 96), "short", 120, 1),
        ({"size": 120, "crop_size": {"height": 96, "width": 64}, "resample": None}, (96, 64), "short", 120, 1),
        ({"size": 120, "do_center_crop": False}, (120, 120), "short", 120, 1),
        ({"do_resize": False, "crop_size": 128}, (128, 128), "none", None, 1),
        ({"do_resize": False, "do_center_crop": False}, (96, 96), "none", None, 1),
    ],
    ids=str,
)
def test_pictures_are_resized_and_cropped_as_the_processor_says(
    folder: Path, fields: dict[str, Any], size: tuple[int, int], resize: str, resize_to: int | None, fraction: float
) -> None:
    info = import_file(process(folder, **fields)).info
    found = info.preprocessing
    assert (found.size, found.resize, found.resize_to, found.central_fraction) == (size, resize, resize_to, fraction)
    noted = any(PROCESSOR in note for note in info.provenance["notes"])
    assert noted == (not fields.get("do_center_crop", True) and resize != "stretch")


@pytest.mark.parametrize("size", [[256, 300], [200, 200]])
def test_a_crop_of_unlike_parts_is_noted(folder: Path, size: list[int]) -> None:
    info = import_file(process(folder, size=size)).info
    found = info.preprocessing
    assert (found.size, found.resize, found.central_fraction) == ((224, 224), "stretch", 1)
    assert any(f"crops [224, 224] out of {size}, unlike parts" in note for note in info.provenance["notes"])


@pytest.mark.parametrize(("resample", "interpolation"), [(2, "pil-bilinear"), (3, "pil-bicubic"), (1, "pil-bilinear")])
def test_pictures_are_read_with_the_processor_s_filter_or_a_note(
    folder: Path, resample: int, interpolation: str
) -> None:
    info = import_file(process(folder, resample=resample)).info
    assert info.preprocessing.interpolation == interpolation
    assert any("resample 1 (Lanczos): bilinear was taken" in note for note in info.provenance["notes"]) == (
        resample == 1
    )


@pytest.mark.parametrize(
    ("fields", "mean", "std"),
    [
        ({"do_normalize": False}, 0, 255),
        ({"do_normalize": False, "do_rescale": False}, 0, 1),
        ({"do_rescale": False, "image_mean": [10, 20, 30], "image_std": 2}, (10, 20, 30), 2),
        ({"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}, 127.5, 127.5),
    ],
)
def test_pixels_are_scaled_as_the_processor_says(folder: Path, fields: dict[str, Any], mean: Any, std: Any) -> None:
    found = import_file(process(folder, **fields)).info.preprocessing
    np.testing.assert_allclose(found.mean, np.broadcast_to(mean, 3), rtol=1e-6)
    np.testing.assert_allclose(found.std, np.broadcast_to(std, 3), rtol=1e-6)


def test_a_grey_network_keeps_its_own_mean(tmp_path: Path, random_model: RandomModel) -> None:
    folder = save(tmp_path, random_model(width_mult=0.1, outputs=5, in_channels=1))
    found = import_file(process(folder, image_mean=[0.2], image_std=[0.1])).info.preprocessing
    assert (found.mean, found.std) == ((51,), (25.5,))
    with pytest.raises(WeightsError, match=r"has 3 numbers in image_std, the network has 1 input channels"):
        import_file(process(folder, image_mean=[0.2], image_std=[0.1] * 3))


def test_weights_alone_say_once_what_was_taken(folder: Path) -> None:
    assert not any(CONFIG in note for note in import_file(folder).info.provenance["notes"])
    (folder / CONFIG).unlink()
    found = [note for note in import_file(folder).info.provenance["notes"] if CONFIG in note]
    assert found == [
        "config.json is not beside the weights: padding 'same', batch norm's epsilon 0.001 and relu6 were taken, as "
        "the published ones have them"
    ]


# -- what cannot be followed


@pytest.mark.parametrize(
    ("file", "fields", "message"),
    [
        (CONFIG, {"tf_padding": "false"}, r"has tf_padding 'false', expected true or false"),
        (CONFIG, {"image_size": True}, r"has image_size True, expected sides of 1 to 8192"),
        (PROCESSOR, {"image_mean": [10**400, 0, 0]}, r"has image_mean 1000+…0+, expected a number"),
        (PROCESSOR, {"image_mean": [True, 0, 0]}, r"has image_mean True, expected a number"),
        (PROCESSOR, {"image_std": []}, r"has image_std \[\], expected a number per input channel"),
        (PROCESSOR, {"image_std": [1, float("nan"), 1]}, r"has image_std nan, expected a number above 0"),
        (PROCESSOR, {"rescale_factor": 10**400}, r"has rescale_factor 1000+…0+, expected a number above 0"),
        (PROCESSOR, {"do_resize": "no"}, r"has do_resize 'no', expected true or false"),
        (PROCESSOR, {"do_center_crop": 0}, r"has do_center_crop 0, expected true or false"),
        (PROCESSOR, {"do_rescale": "x"}, r"has do_rescale 'x', expected true or false"),
        (PROCESSOR, {"do_normalize": []}, r"has do_normalize \[\], expected true or false"),
        (PROCESSOR, {"crop_size": 9000}, r"has crop_size 9000, expected sides of 1 to 8192 pixels"),
        (PROCESSOR, {"crop_size": True}, r"has crop_size True, expected sides"),
        (PROCESSOR, {"size": {"shortest_edge": -5}}, r"has shortest_edge -5, expected sides"),
        (PROCESSOR, {"size": {"longest_edge": 5}}, r"has size \{'longest_edge': 5\}, expected sides"),
        (PROCESSOR, {"resample": 9}, r"has resample 9, expected Pillow's number"),
        (PROCESSOR, {"resample": True}, r"has resample True, expected"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_odd_values_are_refused_by_file_key_and_value(
    folder: Path, file: str, fields: dict[str, Any], message: str
) -> None:
    found = {"model_type": "mobilenet_v2"} if file == CONFIG else {}
    (folder / file).write_text(json.dumps({**found, **fields}))
    with pytest.raises(WeightsError, match=message) as caught:
        import_file(folder)
    assert str(caught.value).startswith(f"{folder / file} ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [CONFIG, PROCESSOR])
def test_a_configuration_that_is_a_dangling_link_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to("../blobs/34cd")
    with pytest.raises(WeightsError, match=rf"{name} is a link to \.\./blobs/34cd, which does not exist"):
        import_file(folder)
