"""Keras files of every kind and age give the logits that Keras computes; what does not fit is refused by name."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobilenetv2 import model_file, spec
from mobilenetv2.errors import FileError, WeightsError
from mobilenetv2.importers import import_file, keras
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.mobilenetv2 import MobileNetV2, load_tensors

RandomModel = Callable[..., ModelFile]
TOLERANCE = 1e-5  # relative to the largest logit: the same float32 sums in another order, seen 2e-6 at most
SIZE = 96
PUBLISHED = [
    *((width, size) for width in ("0.35", "0.5", "0.75", "1.0") for size in (96, 128, 160, 192, 224)),
    ("1.3", 224),
    ("1.4", 224),
]


@contextlib.contextmanager
def keras_is_loud() -> Iterator[None]:
    """Keras' torch backend warns in NumPy conversions and on saving .h5; none of that is ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def library() -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    with keras_is_loud():
        return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def small(library: Any) -> Any:
    with keras_is_loud():
        return randomised(library.applications.MobileNetV2(**network_of(0.35)))


def network_of(width: float) -> dict[str, Any]:
    return {"alpha": width, "weights": None, "input_shape": (SIZE, SIZE, 3), "classifier_activation": None}


def randomised(network: Any, seed: int = 0) -> Any:
    """Random weights and batch-norm statistics, so that no tensor can be swapped or left out unnoticed.

    Much larger weights would drive most values into ReLU6's corners, where float32 noise grows from block to block.
    """
    rng = np.random.default_rng(seed)
    for variable in network.variables:
        shape, kind = tuple(variable.shape), variable.path.rsplit("/", 1)[-1]
        if kind in ("gamma", "moving_variance"):
            values = rng.uniform(0.6, 1.5, shape)
        elif kind in ("beta", "moving_mean", "bias"):
            values = rng.normal(0, 0.2, shape)
        else:
            inputs = shape[0] * shape[1] if shape[-1] == 1 else np.prod(shape[:-1])
            values = rng.normal(0, np.sqrt(1.4 / inputs), shape)
        if "seed" not in kind:
            variable.assign(values.astype(np.float32))
    return network


def save_legacy(network: Any, path: Path) -> None:
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, network)


WAYS_TO_SAVE: dict[str, Callable[[Any, Path], None]] = {
    "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5": save_legacy,
    "whole.h5": lambda network, path: network.save(path),
    "some.weights.h5": lambda network, path: network.save_weights(path),
    "archive.keras": lambda network, path: network.save(path),
}


def saved(network: Any, path: Path) -> Path:
    with keras_is_loud():
        WAYS_TO_SAVE.get(path.name, save_legacy)(network, path)
    return path


def assert_same_logits(model: ModelFile, network: Any) -> None:
    images = np.random.default_rng(1).normal(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    with keras_is_loud(), torch.inference_mode():
        theirs = network(images, training=False).cpu().numpy()
    mine = MobileNetV2.from_spec(model.info.spec).eval()
    load_tensors(mine, model.tensors)
    with torch.inference_mode():
        found = mine(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    assert np.abs(theirs[0] - theirs[1]).max() > 0.05 * np.abs(theirs).max(), "the logits must depend on the input"
    difference = np.abs(found - theirs).max() / np.abs(theirs).max()
    print(f"max difference {difference:.1e}")
    assert difference <= TOLERANCE


# -- Keras' own networks


@pytest.mark.few(1)
@pytest.mark.parametrize("name", WAYS_TO_SAVE)
def test_imported_network_gives_keras_logits(small: Any, tmp_path: Path, name: str) -> None:
    path = saved(small, tmp_path / name)
    assert keras.recognises(path)
    model = import_file(path)
    assert_same_logits(model, small)
    backbone = model.info.spec.backbone
    assert (backbone.width_mult, backbone.padding, backbone.bn_eps) == (0.35, "same", 1e-3)
    assert model.info.preprocessing.size == (SIZE, SIZE)
    assert model.info.labels[281] == "tabby"
    assert model.info.provenance["source"] == "keras"


@pytest.mark.slow
def test_full_width_gives_keras_logits(library: Any, tmp_path: Path) -> None:
    with keras_is_loud():
        network = randomised(library.applications.MobileNetV2(**network_of(1.0)))
    model = keras.read(saved(network, tmp_path / "some.weights.h5"))
    assert model.info.spec.backbone.width_mult == 1
    assert_same_logits(model, network)


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["whole.h5", "some.weights.h5"])
def test_backbone_inside_a_model_of_ones_own_gives_keras_logits(library: Any, tmp_path: Path, name: str) -> None:
    with keras_is_loud():
        base = library.applications.MobileNetV2(**{**network_of(0.35), "include_top": False, "pooling": "avg"})
        own = [library.layers.Dropout(0.3, seed=1), library.layers.Dense(5)]  # a dropout saves its random state
        network = randomised(library.Sequential([library.layers.Input((SIZE, SIZE, 3)), base, *own]))
    model = keras.read(saved(network, tmp_path / name))
    assert model.info.classes == 5
    assert_same_logits(model, network)


def test_file_without_the_top_says_which_one_to_take(library: Any, tmp_path: Path) -> None:
    with keras_is_loud():
        network = library.applications.MobileNetV2(**{**network_of(0.35), "include_top": False})
    for name in ("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96_no_top.h5", "some.weights.h5"):
        with pytest.raises(WeightsError, match=r"no classifier.*without _no_top"):
            keras.read(saved(network, tmp_path / name))


# -- files of other ages, written here


def write_legacy(model: ModelFile, path: Path, *, suffix: str = ":0", chunked: bool = False, root: str = "/") -> Path:
    """`model` in the layout and with layer names of 2018, when the published files were made."""
    network = model.info.spec
    layers: list[tuple[str, dict[str, np.ndarray]]] = [("input_1", {})]
    for i, conv in enumerate(spec.convolutions(network.backbone)):
        weight = model.tensors[f"{conv.name}.weight"]
        if conv.groups > 1:
            kernel = {"depthwise_kernel": weight.transpose(2, 3, 0, 1)}
        else:
            kernel = {"kernel": weight.transpose(2, 3, 1, 0)}
        norm = zip(("gamma", "beta", "moving_mean", "moving_variance"), spec.NORM_PARTS, strict=True)
        layers.append((f"mobl{i}_conv", kernel))
        layers.append((f"bn{i}_conv_bn", {theirs: model.tensors[f"{conv.norm}.{part}"] for theirs, part in norm}))
        layers.append((f"relu_{i}", {}))
    weight, bias = (model.tensors[f"classifier.1.{part}"] for part in ("weight", "bias"))
    layers.append(("Logits", {"kernel": weight.T, "bias": bias}))
    with h5py.File(path, "w") as file:
        group = file.require_group(root)
        names = np.array([name.encode() for name, _ in layers])
        # the most that one attribute holds is 64 KB
        for i, part in enumerate(np.array_split(names, 3) if chunked else [names]):
            group.attrs[f"layer_names{i}" if chunked else "layer_names"] = part
        for layer, weights in layers:
            layer_group = group.create_group(layer)
            layer_group.attrs["weight_names"] = [f"{layer}/{name}{suffix}".encode() for name in weights]
            for name, values in weights.items():
                layer_group[f"{layer}/{name}{suffix}"] = values
    return path


def keras_like(random_model: RandomModel, **fields: Any) -> ModelFile:
    return random_model(**{"width_mult": 0.35, "padding": "same", "bn_eps": 1e-3, "outputs": 7, **fields})


def assert_same(found: ModelFile, expected: ModelFile) -> None:
    assert found.info.spec == expected.info.spec
    for name, values in expected.tensors.items():
        np.testing.assert_array_equal(found.tensors[name], values, err_msg=name)


@pytest.mark.parametrize(
    ("suffix", "chunked", "root"), [(":0", False, "/"), ("", True, "/"), (":0", True, "model_weights")]
)
def test_older_names_and_layouts_hold_the_same_network(
    random_model: RandomModel, tmp_path: Path, suffix: str, chunked: bool, root: str
) -> None:
    model = keras_like(random_model)
    path = write_legacy(model, tmp_path / "old.h5", suffix=suffix, chunked=chunked, root=root)
    with h5py.File(path, "a") as file:
        if root != "/":
            file["optimizer_weights/momentum"] = np.zeros(3)  # beside the network's, and not its own
    assert_same(keras.read(path), model)


def test_layers_of_keras_2_12_are_found(small: Any, tmp_path: Path) -> None:
    path = saved(small, tmp_path / "some.weights.h5")
    with h5py.File(path, "a") as file:
        file.move("layers", "_layer_checkpoint_dependencies")
    assert_same_logits(keras.read(path), small)


@pytest.mark.few(2)
@pytest.mark.parametrize("width", [0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
def test_published_widths_are_told_by_their_channels(random_model: RandomModel, tmp_path: Path, width: float) -> None:
    model = keras_like(random_model, width_mult=width, outputs=2)
    assert_same(keras.read(write_legacy(model, tmp_path / "weights.h5")), model)


def test_published_names_say_the_input_size(healthy: Path) -> None:
    for width, size in PUBLISHED:
        name = f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{size}.h5"
        healthy = healthy.rename(healthy.with_name(name))
        assert keras.read(healthy).info.preprocessing.size == (size, size)
    assert keras.read(healthy, size=100).info.preprocessing.size == (100, 100)


# -- what is refused


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        import_file(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


@pytest.fixture
def healthy(random_model: RandomModel, tmp_path: Path) -> Path:
    return write_legacy(keras_like(random_model, width_mult=0.05, last_channels=8), tmp_path / "healthy.h5")


def change(path: Path, edit: Callable[[Any], object]) -> Path:
    with h5py.File(path, "a") as file:
        edit(file)
    return path


def set_kernel(file: Any, layer: str, values: np.ndarray) -> None:
    del file[f"{layer}/{layer}/kernel:0"]
    file[f"{layer}/{layer}/kernel:0"] = values


def test_tensors_left_missing_or_misshapen_are_named(healthy: Path) -> None:
    original = healthy.read_bytes()

    def message(edit: Callable[[Any], object]) -> str:
        healthy.write_bytes(original)
        return refused(change(healthy, edit))

    def drop_layer(file: Any) -> None:
        file.attrs["layer_names"] = [name for name in file.attrs["layer_names"] if name != b"bn5_conv_bn"]
        del file["bn5_conv_bn"]

    def drop_kernel(file: Any) -> None:
        del file["mobl0_conv/mobl0_conv/kernel:0"]

    def add_nan(file: Any) -> None:
        file["Logits/Logits/bias:0"][0] = np.nan

    assert "more/kernel" in message(lambda file: file.create_dataset("more/kernel", data=np.zeros((3, 3))))
    assert "mobl0_conv/kernel:0' is missing" in message(drop_kernel)
    assert "gamma" in message(drop_layer)
    assert "not finite" in message(add_nan)
    assert "Logits" in message(lambda file: set_kernel(file, "Logits", np.zeros((9, 7))))
    assert "numbers" in message(lambda file: set_kernel(file, "Logits", np.full((8, 7), b"text")))


def test_weight_too_large_for_memory_is_refused_unread(healthy: Path) -> None:
    def edit(file: Any) -> None:
        del file["Logits/Logits/kernel:0"]
        file.create_dataset("Logits/Logits/kernel:0", (10**7, 10**7), "f4", chunks=(1000, 1000))  # takes no space

    assert "Logits/kernel:0" in refused(change(healthy, edit))


def test_other_files_are_not_taken_for_keras(tmp_path: Path) -> None:
    text, empty, other = tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "c.h5"
    text.write_text("no weights")
    empty.write_bytes(b"")
    with h5py.File(other, "w") as file:
        file["data"] = np.zeros(3)
    assert not any(map(keras.recognises, (text, empty, tmp_path, tmp_path / "missing.h5")))
    assert "none that Keras wrote" in refused(other)
    for path in (text, empty):
        with pytest.raises(WeightsError, match="not a Keras weight file"):
            keras.read(path)
    with pytest.raises(FileError, match="missing"):
        keras.read(tmp_path / "missing.h5")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_file_is_one_error_or_other_numbers_but_never_a_crash(healthy: Path, data: st.DataObject) -> None:
    content = bytearray(healthy.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = healthy.with_name("damaged.h5")
    path.write_bytes(content[: data.draw(st.integers(8, len(content)))])
    try:
        found = keras.read(path)
    except WeightsError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        if all(values.min() >= 0 for name, values in found.tensors.items() if name.endswith("running_var")):
            model_file.check(found, name="damaged")
