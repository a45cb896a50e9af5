"""From a data set to a model file: one training run of a classifier."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from mobilenetv2 import image, model_file
from mobilenetv2.errors import TrainingError, UsageError
from mobilenetv2.image import Preprocessing
from mobilenetv2.model_file import ModelFile, ModelInfo
from mobilenetv2.nn import MobileNetV2, load_tensors, save_tensors
from mobilenetv2.spec import Spec, blocks, convolutions
from mobilenetv2.spec_fields import backbone, classifier
from mobilenetv2.train import recipes
from mobilenetv2.train.batches import training_batches, validation_batches
from mobilenetv2.train.classification import Classifier
from mobilenetv2.train.pictures import CACHE_BYTES, TrainingData, open_training_data
from mobilenetv2.train.progress import Display
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.run_folder import RunFolder, Saver, versions

DEFAULT_WIDTH, DEFAULT_SIZE = 1.0, 224


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What came of a run.

    `val_accuracy` (0..1) is that of the weights in the file `model`, measured as a share of the validation pictures;
    None without any. `epochs` counts what was trained, an unfinished last one included; `kept_epoch` is the one
    in the file. `seconds` is everything after the pictures were read, `pictures_per_second` training alone.
    `stopped` is True after Ctrl-C: `--resume` goes on.
    """

    model: Path
    val_accuracy: float | None
    epochs: int
    kept_epoch: int
    seconds: float
    pictures_per_second: float
    notes: tuple[str, ...] = ()
    stopped: bool = False

    def text(self) -> str:
        """The outcome in a few lines."""
        measured = "" if self.val_accuracy is None else f", val accuracy {100 * self.val_accuracy:.1f} %"
        lines = [
            f"{self.model}: epoch {self.kept_epoch} of {self.epochs}{measured}",
            f"trained for {self.seconds:.0f} s, {self.pictures_per_second:.0f} pictures/s",
        ]
        if self.stopped:
            lines.append("stopped before its end: the same command with --resume goes on after the last whole epoch")
        return "\n".join(lines)


def fit(
    dataset: Path,
    out: Path,
    *,
    recipe: Recipe | None = None,
    init: ModelFile | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    accelerator: str = "auto",
    cache_bytes: int = CACHE_BYTES,
) -> TrainingRun:
    """Train a classifier on the pictures of `dataset` and leave a model file in the folder `out`.

    `out` gets `model.safetensors` (rewritten whenever an epoch is to be kept, so it is there from the first epoch
    on), `last.ckpt`, `metrics.csv` and `run.json`. It must be empty or new, unless `resume` goes on with the run
    in it, or `overwrite` removes that run's files first. `recipe` of None is "basic", or the resumed run's own.

    `init` gives the weights to start from, its preprocessing and its width; its last layer is kept where its
    classes are the data's, in the same order. Folded batch norm in it stays as it is. Pictures are kept decoded in
    memory up to `cache_bytes`. `progress` shows notes, a bar and a line per epoch on stderr. `accelerator` is
    Lightning's: "auto", "cpu", "gpu", "mps".

    On a CPU the same arguments give the same weights, save where the recipe limits the time.
    Ctrl-C ends the run after the current step with what the last whole epoch gave; a second one kills it.

    Raises `DatasetError` for data that cannot be learned from, `UsageError` for arguments that do not fit each
    other, and `TrainingError` where the loss is no longer a number or Ctrl-C came before the first epoch's end.
    """
    dataset, folder, display = Path(dataset), RunFolder(Path(out)), Display(shown=progress)
    if resume:
        if init is not None:
            raise UsageError("a run that goes on has its weights already: leave out the starting weights (--init)")
        recipe = folder.recipe_to_resume(recipe)
    else:
        recipe = recipes.check(recipe or recipes.find("basic"))
        if not overwrite:
            folder.check_empty()
    with display.reading() as read:
        data = open_training_data(dataset, seed=recipe.seed, cache_bytes=cache_bytes, progress=read)
    if resume:  # padding, preprocessing and the rest may be those of weights that the run began with
        info, notes = model_file.read(folder.model).info, []
    else:
        info, notes = _model(data, recipe, init)
    data = dataclasses.replace(data, notes=(*data.notes, *notes))
    for note in data.notes:
        display.say(f"note: {note}")
    display.say(f"{len(data.names)} classes, {len(data.train)} pictures to train on, {len(data.val)} to measure")
    if resume:
        folder.check_data(data)
    else:
        folder.remove()
        folder.write_settings(recipe, data)

    saver = Saver(folder, info, recipe, said=lambda row: display.epoch(row, recipe.epochs))
    stop = _StopWhenAsked()
    stopped = False
    with _quiet_lightning(), _own_random_state(recipe.seed):
        train = training_batches(data.train, recipe, info.preprocessing.size[0])
        val = validation_batches(data.val, info.preprocessing)
        module = Classifier(
            _network(info, init, recipe), recipe, info.preprocessing,
            steps=recipe.epochs * len(train), frozen_norm=info.batch_norm == "folded",
        )  # fmt: skip
        trainer = Trainer(
            max_epochs=recipe.epochs,
            accelerator=accelerator,
            devices=1,
            callbacks=[*display.callbacks(), saver, stop],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if len(val) else 0,
            use_distributed_sampler=False,
        )
        try:
            with _interruptible(stop):
                trainer.fit(module, train, val, ckpt_path=folder.last if resume else None)
        except _Stopped:
            stopped = True
        except TrainingError as error:
            raise TrainingError(f"{error}; {_what_is_left(folder, saver)}") from None
        finally:
            if saver.kept is None:  # nothing worth keeping, and the next try needs the folder
                folder.remove()
    kept = saver.kept
    if kept is None:
        raise TrainingError("stopped before the end of the first epoch: there is no model yet")
    if not stopped:
        folder.write_settings(recipe, data, finished=True)
    return TrainingRun(
        model=folder.model,
        val_accuracy=kept.get("val_accuracy"),
        epochs=int(saver.rows[-1]["epoch"]),
        kept_epoch=int(kept["epoch"]),
        seconds=module.elapsed(),
        pictures_per_second=module.pictures / max(module.training_seconds, 1e-9),
        notes=data.notes,
        stopped=stopped,
    )


# ---- what is trained


def _model(data: TrainingData, recipe: Recipe, init: ModelFile | None) -> tuple[ModelInfo, list[str]]:
    """What the model file will say, and notes about what was decided."""
    head = classifier(outputs=len(data.names), dropout=recipe.dropout)
    notes: list[str] = []
    if init is None:
        network = Spec(backbone(width_mult=recipe.width_mult or DEFAULT_WIDTH), head)
        preprocessing = _preprocessing(recipe.size or DEFAULT_SIZE, data)
        started_from = "random weights"
    else:
        network = Spec(init.info.spec.backbone, head)
        if recipe.width_mult not in (None, network.backbone.width_mult):
            raise UsageError(
                f"width_mult is {recipe.width_mult:g}, the starting weights have {network.backbone.width_mult:g}: "
                "set width_mult=none"
            )
        if network.backbone.in_channels != 3:
            raise UsageError(f"the starting weights take {network.backbone.in_channels} channels, pictures have 3")
        preprocessing = _of_size(init.info.preprocessing, recipe.size)
        if not _keeps_head(init.info, data.names):
            notes.append(
                f"a new last layer for {len(data.names)} classes (the starting weights have {init.info.classes} others)"
            )
        if init.info.batch_norm == "folded":
            notes.append("batch norm is folded in the starting weights: its statistics stay frozen")
        started_from = init.info.provenance.get("source", "a model file")
    provenance = {
        "source": "mobilenetv2 train",
        "started_from": started_from,
        "recipe": dataclasses.asdict(recipe),
        "data": {"train": len(data.train), "val": len(data.val), "fingerprint": data.fingerprint},
        "versions": versions(),
    }
    if init is not None and "licence" in init.info.provenance:
        provenance["licence"] = init.info.provenance["licence"]
    batch_norm = "live" if init is None else init.info.batch_norm
    return ModelInfo(network, preprocessing, data.names, batch_norm=batch_norm, provenance=provenance), notes


def _preprocessing(size: int, data: TrainingData) -> Preprocessing:
    """torchvision's second recipe; pictures that all are of the input's size are left as they are."""
    found = image.recipe("torchvision-v2", size)
    return image.override(found, resize=size) if data.square == size else found


def _of_size(preprocessing: Preprocessing, size: int | None) -> Preprocessing:
    """`preprocessing` for a square input of `size`, its resize in proportion."""
    height, width = preprocessing.size
    if size is None:
        if height != width:
            raise UsageError(f"the starting weights take {height} x {width} pixels: set size to train on squares")
        return preprocessing
    resize_to = preprocessing.resize_to
    if (height, width) == (size, size):
        return preprocessing
    if resize_to is not None:
        resize_to = max(size, round(resize_to * size / max(height, width)))
    return dataclasses.replace(preprocessing, size=(size, size), resize_to=resize_to, recipe="custom")


def _keeps_head(info: ModelInfo, names: tuple[str, ...]) -> bool:
    return info.spec.head.background == "none" and info.classes == len(names) and info.labels in ((), names)


def _network(info: ModelInfo, init: ModelFile | None, recipe: Recipe) -> MobileNetV2:
    network = MobileNetV2.from_spec(info.spec)
    if init is None:
        _initialise(network, recipe)
    else:
        tensors = dict(init.tensors)
        if not _keeps_head(init.info, info.labels):
            own = save_tensors(network)
            tensors |= {name: own[name] for name in own if name.startswith("classifier.")}
        load_tensors(network, tensors)
    return network


def _initialise(network: MobileNetV2, recipe: Recipe) -> None:
    net, std = network.spec.backbone, recipe.initial_std
    if std is not None:
        for conv in convolutions(net):
            nn.init.trunc_normal_(network.get_parameter(f"{conv.name}.weight"), std=std, a=-2 * std, b=2 * std)
    if recipe.zero_gamma:
        for block in blocks(net):
            if block.shortcut == "bottleneck":
                nn.init.zeros_(network.get_parameter(f"{block.project.norm}.weight"))


# ---- how it is run


class _Stopped(Exception):  # noqa: N818 : not an error
    """Ctrl-C, between two steps."""


class _StopWhenAsked(Callback):
    """Ends the run between two steps once `asked` is set, so that no weight is left half-way."""

    def __init__(self) -> None:
        self.asked = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._check()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._check()

    def _check(self) -> None:
        if self.asked:
            raise _Stopped


@contextlib.contextmanager
def _interruptible(stop: _StopWhenAsked) -> Iterator[None]:
    """The first Ctrl-C asks `stop`, the second is Python's own. Lightning's handling would end the process."""
    if threading.current_thread() is not threading.main_thread():  # signals come to the main thread only
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: object) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's lines about devices and its advertisements, and without warnings about its own code."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Lightning 2.6 asks torch's trees for their leaves as torch 2.15 no longer wants to be asked
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _own_random_state(seed: int) -> Iterator[None]:
    """torch's CPU generator seeded, and given back as it was. Numbers too small for full precision are flushed to 0:
    they make the first steps from random weights several times as slow."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)


def _what_is_left(folder: RunFolder, saver: Saver) -> str:
    if saver.kept is None:
        return "no epoch had ended, so nothing was saved"
    return f"epoch {int(saver.kept['epoch'])} is in {folder.model}"
