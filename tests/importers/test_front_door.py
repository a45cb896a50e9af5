"""Files and names in, models out: sources, labels, background, the zoo's cache, and the way back to torchvision."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

from mobilenetv2 import model_file, zoo
from mobilenetv2.errors import FileError, MissingExtraError, ModelFileError, UsageError, WeightsError
from mobilenetv2.importers import SOURCES, export_torchvision, import_file, load_model
from mobilenetv2.model_file import ModelFile
from mobilenetv2.nn.mobilenetv2 import MobileNetV2, load_tensors
from mobilenetv2.spec import STAGES

RandomModel = Callable[..., ModelFile]


def checkpoint(path: Path, *, outputs: int = 5) -> Path:
    """A torchvision state dict of a very narrow network."""
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v2(width_mult=0.1, num_classes=outputs).state_dict(), path)
    return path


def logits(network: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval()(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)))


def ours(model: ModelFile) -> nn.Module:
    network = MobileNetV2.from_spec(model.info.spec)
    load_tensors(network, model.tensors)
    return network


# -- labels and background


def test_1000_classes_have_imagenet_s_names_and_ids(tmp_path: Path) -> None:
    info = import_file(checkpoint(tmp_path / "w.pth", outputs=1000)).info
    assert (info.labels[0], info.label_ids[0], info.labels[999]) == ("tench", "n01440764", "toilet tissue")
    assert info.spec.head.background == "none"


def test_1001_outputs_have_the_background_first(tmp_path: Path) -> None:
    info = import_file(checkpoint(tmp_path / "w.pth", outputs=1001)).info
    assert (info.spec.head.background, info.classes, info.labels[0]) == ("first", 1000, "tench")


def test_the_background_can_be_said(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "w.pth", outputs=1001)
    assert import_file(file, background="last").info.classes == 1000
    info = import_file(file, background="none").info
    assert (info.classes, info.labels) == (1001, ())


def test_other_counts_of_classes_have_no_names_and_say_so(tmp_path: Path) -> None:
    info = import_file(checkpoint(tmp_path / "w.pth")).info
    assert (info.labels, info.label(3)) == ((), "class 3")
    assert any("--labels" in note for note in info.provenance["notes"])


@pytest.mark.parametrize(
    ("background", "text"),
    [
        (None, "a\nb\nc\nd\ne\n"),
        (None, "\ufeffa\r\nb\r\nc\r\nd\r\ne\r\n\r\n"),  # as Windows writes it
        (None, "background\na\nb\nc\nd\ne"),
        (None, "???\na\nb\nc\nd\ne"),
        ("first", "anything\na\nb\nc\nd\ne"),
        ("last", "a\nb\nc\nd\ne\nanything"),
    ],
)
def test_labels_from_a_file(tmp_path: Path, background: str | None, text: str) -> None:
    (tmp_path / "labels.txt").write_text(text, encoding="utf-8", newline="")
    file = checkpoint(tmp_path / "w.pth", outputs=5 if background is None else 6)
    info = import_file(file, labels=tmp_path / "labels.txt", background=background).info  # type: ignore[arg-type]
    assert (info.labels, info.label_ids) == (("a", "b", "c", "d", "e"), ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\n", "labels.txt has 2 labels, the network has 5 classes"),
        (b"a\nb\nc\nd\ne\nf\n", "labels.txt has 6 labels, the network has 5 classes"),
        (b"", "labels.txt has 0 labels, the network has 5 classes"),
        (b"a\n\nc\nd\ne\n", "labels.txt: line 2 is empty"),
        (b"\xff\xfea\x00", "labels.txt is not a text file in UTF-8"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        import_file(checkpoint(tmp_path / "w.pth"), labels=tmp_path / "labels.txt")


def test_a_missing_labels_file_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.txt does not exist"):
        import_file(checkpoint(tmp_path / "w.pth"), labels=tmp_path / "none.txt")


# -- what is found out


def test_the_file_and_its_hash_are_noted(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "w.pth")
    provenance = import_file(file).info.provenance
    assert provenance["file"] == "w.pth"
    assert provenance["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_published_file_is_known_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = checkpoint(tmp_path / "w.pth")
    hexdigits = hashlib.sha256(file.read_bytes()).hexdigest()
    known = dataclasses.replace(zoo.entries()[0], sha256=hexdigits[:8], resolution=128)
    monkeypatch.setattr(zoo, "entries", lambda: (known,))
    info = import_file(file).info
    provenance = info.provenance
    assert info.preprocessing.size == (128, 128)
    assert (provenance["published"], provenance["licence"]) == (known.name, known.licence)


@pytest.mark.parametrize(
    ("name", "recipe", "resize_to", "said"),
    [
        ("mobilenet_v2-7ebf99e0.pth", "torchvision-v2", 232, False),
        ("mobilenet_v2-b0353104.pth", "torchvision-v1", 256, False),
        ("mine.pth", "torchvision-v1", 256, True),
    ],
)
def test_torchvision_s_two_recipes(tmp_path: Path, name: str, recipe: str, resize_to: int, said: bool) -> None:
    info = import_file(checkpoint(tmp_path / name)).info
    assert (info.preprocessing.recipe, info.preprocessing.resize_to) == (recipe, resize_to)
    assert any("first weights" in note for note in info.provenance["notes"]) == said


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("mobilenet_v2_0.35_96.pth", 96),
        ("mobilenetv2_160x160-64dc7fa1.pth", 160),
        ("mobilenetv2_128x128-fd66a69d.pth", 128),
        ("mobilenet_v2_1.0_192_no_name.bin", 192),
        ("mobilenetv2_100_ra-b33bc2c4.pth", 224),
        ("mobilenetv2_0.35-b2e15951.pth", 224),
        ("mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth", 224),
        ("mobilenetv2_96x128.pth", 224),
        ("model_2241.pth", 224),
    ],
)
def test_the_input_size_in_the_file_s_name(tmp_path: Path, name: str, size: int) -> None:
    assert import_file(checkpoint(tmp_path / name)).info.preprocessing.size == (size, size)


def test_the_input_size_can_be_said(tmp_path: Path) -> None:
    assert import_file(checkpoint(tmp_path / "w_96.pth"), size=160).info.preprocessing.size == (160, 160)
    with pytest.raises(UsageError, match="size must be"):
        import_file(tmp_path / "w_96.pth", size=0)


def test_the_model_can_be_written_and_read(tmp_path: Path) -> None:
    model = import_file(checkpoint(tmp_path / "w.pth"))
    model_file.write(tmp_path / "m.safetensors", model)
    again = load_model(tmp_path / "m.safetensors")
    assert again.info == model.info
    for name, value in model.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], value)


def test_importing_loads_no_torch(tmp_path: Path) -> None:
    import subprocess

    file = checkpoint(tmp_path / "w.pth")
    code = (
        "import sys; from mobilenetv2.importers import import_file; import_file(sys.argv[1]); "
        "print([m for m in ('torch', 'h5py') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- what is refused


def test_an_unknown_source_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'torchvision'"):
        import_file(checkpoint(tmp_path / "w.pth"), source="torch-vision")
    assert len(SOURCES) == 12


@pytest.mark.parametrize("content", [b"", b"these are no weights\n", b"PK\x03\x04 cut", bytes(5000)])
@pytest.mark.parametrize("source", [None, *SOURCES])
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(
    tmp_path: Path, content: bytes, source: str | None
) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.pth") as caught:
        import_file(tmp_path / "w.pth", source=source)
    assert "\n" not in str(caught.value)


def test_a_cut_off_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1000)}, tmp_path / "w.safetensors")
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[:-100])
    with pytest.raises(WeightsError, match=r"w\.safetensors is damaged or cut off"):
        import_file(tmp_path / "w.safetensors")


@pytest.mark.parametrize("value", [{}, {"epoch": 3}, {"a": torch.ones(1), "b": 3}, [1, 2], {1: torch.ones(1)}])
def test_pickles_without_named_tensors_are_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth"):
        import_file(tmp_path / "w.pth")


def test_a_folder_and_a_missing_file_are_file_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(FileError):
            import_file(path)
        with pytest.raises(FileError):
            load_model(path)


def test_a_model_file_needs_no_import(tmp_path: Path, random_model: RandomModel) -> None:
    model_file.write(tmp_path / "m.safetensors", random_model(width_mult=0.1))
    with pytest.raises(UsageError, match="is a model file already"):
        import_file(tmp_path / "m.safetensors")


def test_a_foreign_checkpoint_is_not_loaded_but_the_import_command_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"mobilenetv2 import .*w\.pth -o model\.safetensors"):
        load_model(checkpoint(tmp_path / "w.pth"))


# -- names of the zoo


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> zoo.Entry:
    """A published checkpoint of ours, already in an otherwise empty cache."""
    monkeypatch.setenv("MOBILENETV2_HOME", str(tmp_path / "home"))
    file = checkpoint(tmp_path / "w.pth")
    entry = dataclasses.replace(
        zoo.find("torchvision/1.0-224-v2"), resolution=96, sha256=hashlib.sha256(file.read_bytes()).hexdigest()
    )
    monkeypatch.setattr(zoo, "find", lambda name: entry)
    place = zoo.path_of(entry)
    place.parent.mkdir(parents=True)
    file.rename(place)
    return entry


def test_a_zoo_name_is_imported_once_and_kept(published: zoo.Entry) -> None:
    first = load_model(published.name, progress=False)
    assert first.info.preprocessing.size == (96, 96)
    assert first.info.preprocessing.recipe == "torchvision-v2"
    zoo.path_of(published).unlink()
    second = load_model(published.name, progress=False)
    assert second.info == first.info


def test_a_kept_import_that_was_damaged_is_made_again(published: zoo.Entry) -> None:
    first = load_model(published.name, progress=False)
    (kept,) = zoo.path_of(published).parent.glob("imported-*.safetensors")
    kept.write_bytes(kept.read_bytes()[:1000])
    assert load_model(published.name, progress=False).info == first.info
    assert model_file.read(kept).info == first.info


def test_a_zoo_name_is_not_mistaken_for_a_folder_of_that_name(
    published: zoo.Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(zoo.path_of(published).parents[2])
    assert Path("torchvision/1.0-224-v2").is_dir()
    assert load_model("torchvision/1.0-224-v2", progress=False).info.classes == 5
    with pytest.raises(FileError, match="is a folder"):
        load_model("torchvision")


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'torchvision/1\.0-224-v"):
        load_model("torchvision/1.0-224-v3")
    with pytest.raises(FileError, match="does not exist"):
        load_model("models/mine.safetensors")


# -- back to torchvision


@pytest.mark.few(3)
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"width_mult": 0.35},
        {"bn_eps": 1e-3},
        {"bn_eps": 1e-7},
        {"outputs": 7, "stages": ((1, 16, 1, 1), (6, 20, 2, 2), (4, 44, 2, 2)), "round_nearest": 4},
        # timm's mobilenetv2_110d: wide, deep, with narrow ends
        {"width_mult": 1.1, "last_channels": 1280,
         "stages": tuple((t, c, n, s) for (t, c, _, s), n in zip(STAGES, (1, 3, 4, 5, 4, 4, 1), strict=True))},
    ],
    ids=["1.0", "0.35", "eps 1e-3", "eps 1e-7", "own table", "110d"],
)  # fmt: skip
def test_torchvision_computes_the_same_from_what_is_exported(
    tmp_path: Path, random_model: RandomModel, fields: dict[str, object], kind: str
) -> None:
    model = random_model(**fields)
    file = tmp_path / f"out.{kind}"
    call = export_torchvision(model, file)
    network = eval(call, {"torchvision": torchvision})
    network.load_state_dict(load_file(file) if kind == "safetensors" else torch.load(file, weights_only=True))
    expected, found = logits(ours(model)), logits(network)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_an_export_imports_again(tmp_path: Path, random_model: RandomModel) -> None:
    model = random_model(width_mult=0.1)
    export_torchvision(model, tmp_path / "out.pth")
    again = import_file(tmp_path / "out.pth")
    assert again.info.spec.backbone == model.info.spec.backbone
    for name, value in model.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"padding": "same"}, "padding 'same'"),
        ({"output_stride": 16}, "output_stride 16"),
        ({"in_channels": 1}, "in_channels 1"),
        ({"activation": "relu"}, "activation 'relu'"),
        ({"bottleneck": "relu6"}, "bottleneck 'relu6'"),
        ({"shortcut": "none"}, "shortcut 'none'"),
        ({"stem_channels": 24}, "stem_channels 24"),
        ({"last_channels": 640}, "last_channels 640"),
    ],
)
def test_what_torchvision_cannot_express_is_refused_by_name(
    tmp_path: Path, random_model: RandomModel, fields: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=f"torchvision cannot express .*{message}"):
        export_torchvision(random_model(width_mult=0.1, **fields), tmp_path / "out.pth")
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_refused(tmp_path: Path, random_model: RandomModel) -> None:
    with pytest.raises(UsageError, match=r"\.pth, \.pt or \.safetensors"):
        export_torchvision(random_model(width_mult=0.1), tmp_path / "out.h5")


def test_without_torch_safetensors_can_still_be_written(
    tmp_path: Path, random_model: RandomModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"needs torch: pip install .*\[train\]"):
        export_torchvision(random_model(width_mult=0.1), tmp_path / "out.pth")
    assert list(tmp_path.iterdir()) == []
    export_torchvision(random_model(width_mult=0.1), tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").exists()
