"""From everybody's MobileNetV2 checkpoints to model files, and back to torchvision's.

model = import_file("mobilenet_v2-b0353104.pth")     # the source is found out from the file
model = load_model("timm/1.0-224")                   # a published checkpoint, or a model file
export_torchvision(model, "for_torchvision.pth")
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import safetensors

from mobilenetv2 import checks, files, limits, model_file, signatures
from mobilenetv2.errors import FileError, ModelFileError, SpecError, UsageError, WeightsError, unknown_name
from mobilenetv2.importers import detector_names, names
from mobilenetv2.importers.torchvision_export import export_torchvision
from mobilenetv2.model_file import ModelFile
from mobilenetv2.spec import Background
from mobilenetv2.spec_fields import OUTPUT_STRIDES

if TYPE_CHECKING:
    from mobilenetv2.importers.ncnn import Pair

__all__ = ["SOURCES", "export_torchvision", "import_file", "load_any", "load_model"]

SOURCES = (*names.NAMINGS, *detector_names.SOURCES, "keras", "tflite", "ncnn")
_REVISION = 1  # raised when the importers make something else of the same file: cached imports are then made again
_SUFFIXES = (
    ".safetensors",
    ".pth",
    ".pt",
    ".tar",
    ".bin",
    ".h5",
    ".hdf5",
    ".keras",
    ".tflite",
    ".onnx",
    ".param",
    ".npz",
)


def import_file(
    path: str | os.PathLike[str],
    *,
    source: str | None = None,
    labels: str | os.PathLike[str] | None = None,
    background: Background | None = None,
    size: int | None = None,
    output_stride: int | None = None,
) -> ModelFile:
    """A model of another library's checkpoint: `.pth`, `.bin`, `.safetensors`, `.h5`, `.keras`, `.tflite`, `.param`.

    A folder of Hugging Face's stands for the weights in it; the configuration beside them is read. Of ncnn's two files,
    `.param` and `.bin`, either is given and the other lies beside it under the same name.
    `source` is one of `SOURCES`; None finds it out from what is in the file. `labels` is a text file with one
    class name per line, or a label map (`.pbtxt`, `.prototxt`); None means ImageNet's for a classifier's 1000 classes,
    Pascal VOC's for 20 of the other tasks, COCO's for a detector's 80, none otherwise. `background` None means the
    first of a classifier's 1001 outputs, else what the source has. `size` is the input size in pixels; None means what
    the zoo knows of this very file, else what it says itself (also in its name), else what such networks were trained
    at. `output_stride` (8, 16 or 32) is for networks for masks in files of named tensors; None means what the
    configuration says, else the source's usual one. What was decided, and that people should know, is in
    `info.provenance["notes"]`, one sentence each.

    Raises `UsageError` for an unknown source or labels that do not fit, `FileError` where a file cannot be read,
    and `WeightsError` where the checkpoint is damaged, unsafe, or no MobileNetV2 of a task that is known here.
    """
    from mobilenetv2.importers import huggingface

    path = Path(path)
    if os.path.isdir(path):
        path = huggingface.weights_in(path)
    if source is not None and source not in SOURCES:
        raise unknown_name("source", str(source), SOURCES)
    if size is not None:
        size = checks.whole("size", size, 1, limits.SIDE)
    if output_stride is not None:
        output_stride = checks.choice("output_stride", output_stride, OUTPUT_STRIDES)
    if background is not None:
        background = checks.choice("background", background, get_args(Background))
    _refuse_named_pipe(path)
    with files.on_disk(path) as file:
        try:
            return _import(file, source, labels, background, size, output_stride)
        except (FileError, UsageError, WeightsError) as error:
            if file == path:
                raise
            raise type(error)(str(error).replace(str(file), str(path))) from None


def _refuse_named_pipe(path: Path) -> None:
    """A pipe that lies in a folder may have nobody at its other end; one that another program holds open ends."""
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISFIFO(os.stat(path).st_mode) and os.path.exists(os.path.realpath(path)):
            raise FileError(f"{path} is a pipe: write what comes out of it to a file, and import that")


def _import(
    path: Path, source: str | None, labels: str | os.PathLike[str] | None, background: Background | None,
    size: int | None, output_stride: int | None,
) -> ModelFile:  # fmt: skip
    """As `import_file`, of one file on the disk."""
    from mobilenetv2.importers import huggingface, ncnn
    from mobilenetv2.importers.complete import complete, file_sha256, published

    for file in (path, path.with_suffix(".bin")) if path.suffix.lower() == ".param" else (path,):
        kind = signatures.kind_of(file)
        if signatures.is_lfs_pointer(kind):
            raise WeightsError(f"{file} is a Git LFS pointer: fetch the file that it stands for with git lfs pull")
        if signatures.is_picture(kind):
            raise WeightsError(f"{file} is {kind}, no file of weights")
    pair = ncnn.pair(path)
    weights = path if pair is None else pair.bin
    sha256 = file_sha256(weights)
    entry = published(sha256)
    if size is None and entry is not None:
        size = entry.resolution
    if weights.stat().st_size == 0:
        raise WeightsError(f"{weights} is empty")
    try:
        model = _read(path, pair, source, size, output_stride, sha256)
    except (WeightsError, SpecError) as error:
        text = str(error)
        beside = (path.with_name(name) for name in (huggingface.CONFIG, huggingface.PROCESSOR))
        named = text.startswith(tuple(map(str, (*(pair or (path,)), *beside))))
        raise WeightsError(text if named else f"{path}: {text}") from None
    if output_stride not in (None, model.info.spec.backbone.output_stride):
        raise UsageError(
            f"{path}: its output stride is {model.info.spec.backbone.output_stride}; it can be said only of a network "
            "for masks whose file has named tensors"
        )
    return complete(model, weights, labels=labels, background=background, sha256=sha256, entry=entry)


def load_model(name_or_path: str | os.PathLike[str], *, progress: bool = True) -> ModelFile:
    """A model file, the folder in which training left one, or a published checkpoint by its zoo name.

    A published checkpoint is downloaded and imported the first time; the imported model is kept beside it.
    `progress` shows a bar on a terminal while it downloads.

    Raises `UsageError` for an unknown name, `FileError` or `ModelFileError` for a file, `DownloadError`.
    """
    name = os.fspath(name_or_path)
    if isinstance(name_or_path, os.PathLike) or _is_path(name):
        return model_file.read(_model_in(Path(name)) if os.path.isdir(name) else name)
    from mobilenetv2 import zoo  # with what it takes to download: 20 ms, and most models are files

    entry = zoo.find(name)
    kept = zoo.path_of(entry).with_name(f"imported-{_REVISION}.safetensors")
    if os.path.exists(kept):
        with contextlib.suppress(ModelFileError):  # damaged, or of another format version: made again
            return model_file.read(kept)
    fetched = zoo.fetch(entry, progress=None if progress else False)
    model = import_file(fetched, source=entry.source, size=entry.resolution)
    with contextlib.suppress(FileError):  # a cache that cannot be written to only costs time
        model_file.write(kept, model)
    return model


def load_any(name: str, *, progress: bool = True) -> ModelFile:
    """As `load_model`; a path may also be another library's checkpoint or folder, which is imported."""
    from mobilenetv2.importers import huggingface

    path = Path(name)
    if huggingface.is_folder(path):
        path = huggingface.weights_in(path)
    elif not _is_path(name):
        return load_model(name, progress=progress)
    foreign = path.suffix.lower() in _SUFFIXES and not os.path.isdir(path) and not _is_ours(path)
    return import_file(path) if foreign else load_model(path, progress=progress)


def _model_in(folder: Path) -> Path:
    """The model file in `folder`, as training leaves one there.

    Raises `FileError` where there are no weights, and `ModelFileError` where they could be imported, which takes its
    own command.
    """
    from mobilenetv2.importers import huggingface

    found = huggingface.weights_in(folder)
    if not _is_ours(found):
        way_out = f"mobilenetv2 import {folder} -o model.safetensors makes a model file of it"
        raise ModelFileError(f"{folder} is a folder of another library's weights: {way_out}")
    return found


def _is_ours(path: Path) -> bool:
    if path.suffix.lower() != ".safetensors" or not os.path.isfile(path):
        return False
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return "mobilenetv2" in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError):
        return True  # damaged: to be said as of a model file


def _is_path(name: str) -> bool:
    """Whether `name` means a file or a folder rather than a zoo name: a zoo name may be a folder's, too."""
    path = Path(name)
    if os.path.isfile(path) or name.lower().endswith(_SUFFIXES):
        return True
    from mobilenetv2 import zoo

    return os.path.exists(path) and not any(name == entry.name for entry in zoo.entries())


def _read(
    path: Path, pair: Pair | None, source: str | None, size: int | None, output_stride: int | None, sha256: str
) -> ModelFile:
    # imported here: each brings a library that the others do not need
    from mobilenetv2.importers import containers, keras, named_detectors, named_segmenters, ncnn, tflite, torch_family

    if source == "ncnn" and pair is None:
        raise WeightsError("not one of ncnn's two files: X.param and X.bin must lie beside each other")
    if pair is not None and source in (None, "ncnn"):
        return ncnn.read(pair, size=size)
    if source == "keras" or (source is None and keras.recognises(path)):
        return keras.read(path, size=size)
    if source == "tflite" or (source is None and tflite.recognises(path)):
        return tflite.read(path, size=size)
    if containers.is_safetensors(path):
        with contextlib.suppress(safetensors.SafetensorError), safetensors.safe_open(path, framework="numpy") as file:
            if "mobilenetv2" in (file.metadata() or {}):
                raise UsageError(f"{path} is a model file already: it needs no import")
    tensors, notes = containers.read(path)
    if (segmenter := named_segmenters.recognise(path, tensors)) and source in (None, segmenter):
        return named_segmenters.read(
            path, tensors, notes, source=segmenter, size=size, output_stride=output_stride
        )  # fmt: skip
    detector = source if source in detector_names.SOURCES else None
    if detector or (source is None and (detector := named_detectors.recognise(tensors))):
        return named_detectors.read(path, tensors, notes, source=detector, size=size)
    return torch_family.read(path, tensors, notes, source=source, size=size, sha256=sha256)
