"""From a data set to a model file: one training run, of whatever task."""

from __future__ import annotations

import dataclasses
import inspect
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from mobilenetv2 import model_file, report
from mobilenetv2.errors import DatasetError, DownloadError, Error, FileError, ImageError, TrainingError, UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.train import origin, recipes, start
from mobilenetv2.train import task as tasks
from mobilenetv2.train.memory import keeping_memory
from mobilenetv2.train.pictures import CACHE_BYTES
from mobilenetv2.train.progress import Display
from mobilenetv2.train.recipe_fields import check
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.run_folder import RunFolder, Saver
from mobilenetv2.train.running import Stopped, StopRequest, interruptible, own_random_state, quiet_lightning


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What came of a run.

    `score` (0..1) is what the weights in the file `model` reach on the validation pictures, by the task's measure,
    which `measure` names; None without any pictures. `epochs` counts what was trained, an unfinished last one included;
    `kept_epoch` is the one in the file. `seconds` is everything after the pictures were read, `pictures_per_second`
    training alone.
    `report` is a page that shows all of it, None where it could not be written, which the last of the `notes` explains.
    `stopped` is True after Ctrl-C: `--resume` goes on.
    """

    model: Path
    score: float | None
    measure: str
    epochs: int
    kept_epoch: int
    seconds: float
    pictures_per_second: float
    notes: tuple[str, ...] = ()
    report: Path | None = None
    stopped: bool = False

    def text(self) -> str:
        """The outcome in a few lines."""
        measured = "" if self.score is None else f", {self.measure} {100 * self.score:.1f} %"
        lines = [
            f"{self.model}: epoch {self.kept_epoch} of {self.epochs}{measured}",
            f"trained for {self.seconds:.0f} s, {self.pictures_per_second:.0f} pictures/s",
        ]
        if self.report is not None:
            lines.append(f"report: {self.report}")
        if self.stopped:
            lines.append("stopped before its end: the same command with --resume goes on after the last whole epoch")
        return "\n".join(lines)


def fit(
    dataset: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    task: str | None = None,
    recipe: Recipe | None = None,
    init: ModelFile | None = None,
    teacher: ModelFile | None = None,
    resume: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    progress: bool = True,
    accelerator: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    precision: str = "auto",
    workers: int | None = None,
    recompute: bool = False,
    cache_bytes: int = CACHE_BYTES,
    places: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> TrainingRun:
    """Train on the pictures of `dataset` and leave a model file in the folder `out`.

    `task` is one of `train.task.TASKS`; None is found out from the data (`data.task`). `places` completes data with
    boxes or masks: the paths of "images", "labels" and "classes" and, for masks, the value to "ignore"
    (`data.segmentation.Places`).

    `out` gets `model.safetensors` (rewritten whenever an epoch is to be kept, so it is there from the first epoch
    on), `last.ckpt`, `metrics.csv`, `run.json` and TensorBoard's events, and at the end `report.html`, for which the
    engine measures the model. It must be empty or new, unless `resume` goes on with the run in it, or `overwrite`
    removes that run's files first. `recipe` of None is the task's own (`recipes.default`), or the resumed run's.
    `command` is the shell command that the report names to repeat the run (None: made of the arguments).

    `init` gives the weights to start from, its preprocessing and its width; a classifier's last layer is kept where its
    classes are the data's, in the same order, and of a detector or a segmentation network what its heads know of these
    classes. Folded batch norm in it stays as it is. `teacher` is a model of the same classes whose answers are learned
    from too. `strict` refuses data in which the check finds anything. Pictures are kept decoded in memory up to
    `cache_bytes`.
    `progress` shows notes, a bar and a line per epoch on stderr.

    `accelerator` is Lightning's: "auto", "cpu", "gpu", "mps"; so is `precision`, save that "auto" is bfloat16 where a
    GPU has it, float16 on other GPUs and float32 on a CPU. `devices` and `nodes` say on how much hardware the run is,
    which divides each batch; under torchrun its own numbers count. `workers` are processes that decode pictures, for
    each device (None: as many as help). `recompute` forgets the wide tensors of each block and computes them again
    for the gradients: less memory, more time, the same result.

    On a CPU the same arguments give the same weights, save where the recipe limits the time; a run that was killed
    at any moment and resumed gives the same weights as one that was not.
    Ctrl-C or SIGTERM ends the run after the current step, from where it can be resumed; a second one kills it.

    Raises `DatasetError` for data that cannot be learned from, `UsageError` for arguments that do not fit each
    other, and `TrainingError` where the loss is no longer a number, memory does not suffice, a picture cannot be read
    any more, or the run was stopped before the first epoch's end.
    """
    dataset, out = os.fspath(dataset), Path(out)
    kind = tasks.find(task or tasks.of_data(dataset, places or {}))
    folder = RunFolder(out)
    devices, nodes, rank = _place(devices, nodes)
    display = Display(shown=progress and rank == 0)
    if resume:
        if init is not None:
            raise UsageError("a run that goes on has its weights already: leave out the starting weights (--init)")
        recipe = folder.recipe_to_resume(recipe, task=kind.name)
    else:
        recipe = check(recipe or recipes.default(kind.name, init=init is not None))
        if recipe.task != kind.name:
            raise UsageError(f"the recipe {recipe.name!r} is for {recipe.task}, and this is {kind.name}")
        if not overwrite and rank == 0:
            folder.check_empty()
    if recipe.max_minutes is not None and devices * nodes > 1:
        raise UsageError("max_minutes is for one device: clocks differ, set max_minutes=none")
    with display.bar("reading pictures") as read:
        data: Any = kind.open(
            dataset, recipe, strict=strict, cache_bytes=cache_bytes, progress=read, places=places or {}
        )
    with own_random_state(recipe.seed):
        if resume:  # padding, preprocessing and the rest may be those of weights that the run began with
            first, notes = model_file.read(folder.start), []
        else:
            first, notes = kind.start(data, recipe, init)
    info = first.info
    learned_from = None if teacher is None else kind.teacher(teacher, info.labels)
    data = dataclasses.replace(data, notes=(*data.notes, *notes))
    for note in data.notes:
        display.say(f"note: {note}")
    classes = f"{len(data.names)} {'class' if len(data.names) == 1 else 'classes'}"
    display.say(f"{classes}, {len(data.train)} pictures to train on, {len(data.val)} to measure")
    options = {"strict": strict, "devices": devices, "nodes": nodes, "precision": precision, "workers": workers,
               "recompute": recompute}  # fmt: skip
    precision = _precision(precision, accelerator)
    facts = origin.of_run(
        dataset,
        data,
        places=places or {},
        command=command or _command(dataset, out, recipe, first, teacher is not None, options),
        machine=origin.machine(accelerator=accelerator, processes=devices * nodes, precision=precision),
    )
    if resume:
        folder.check_data(data)
    elif rank == 0:
        folder.remove()
        model_file.write(folder.start, first)
    if rank == 0:
        folder.write_settings(recipe, data, facts)

    stop = StopRequest()
    saver = Saver(folder, info, recipe, kind, stop, said=lambda row: display.epoch(row, recipe.epochs, kind.best))
    division: dict[str, Any] = {"rank": rank, "devices": devices * nodes}
    if workers is not None:
        division["workers"] = workers
    stopped = False
    with quiet_lightning(), own_random_state(recipe.seed), keeping_memory():
        train, val = kind.batches(data, recipe, info, **division)
        module = kind.learner(first, recipe, data, batches=len(train), teacher=learned_from, recompute=recompute)
        trainer = Trainer(
            max_epochs=recipe.epochs,
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision=precision,  # type: ignore[arg-type]
            accumulate_grad_batches=recipe.accumulate,
            gradient_clip_val=recipe.clip,
            callbacks=[*display.callbacks(), saver],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=1.0 if len(val) else 0,
            use_distributed_sampler=False,
        )
        try:
            with interruptible(stop):
                trainer.fit(module, train, val, ckpt_path=folder.last if resume and folder.last.exists() else None)
        except Stopped:
            stopped = True
        except TrainingError as error:
            raise TrainingError(f"{error}; {_what_is_left(folder, saver)}") from None
        except (DatasetError, DownloadError, FileError, ImageError) as error:
            reason = str(error).splitlines()[-1].removeprefix(f"mobilenetv2.errors.{type(error).__name__}: ")
            raise TrainingError(f"{reason}; {_what_is_left(folder, saver)}") from None
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            half = max(recipe.batch_size // 2, 2)
            raise TrainingError(
                f"memory does not suffice for batches of {recipe.batch_size}: try --set batch_size={half} --set "
                f"accumulate={2 * recipe.accumulate}, or --recompute; {_what_is_left(folder, saver)}"
            ) from None
        finally:
            if rank == 0 and saver.kept is None and not folder.last.exists():  # the next try needs the folder
                folder.remove()
    kept = saver.kept
    if kept is None:
        raise TrainingError(
            "stopped before the end of the first epoch: there is no model yet; the same command with --resume goes on"
        )
    if not stopped and rank == 0:
        folder.write_settings(recipe, data, facts, finished=True)
        folder.start.unlink(missing_ok=True)
    page, problem = _report(folder, display) if rank == 0 else (None, None)
    if problem is not None:
        display.say(problem)
    return TrainingRun(
        model=folder.model,
        score=kept.get(kind.best.column),
        measure=kind.best.words,
        epochs=int(saver.rows[-1]["epoch"]),
        kept_epoch=int(kept["epoch"]),
        seconds=module.elapsed(),
        pictures_per_second=module.pictures / max(module.training_seconds, 1e-9),
        notes=data.notes if problem is None else (*data.notes, problem),
        report=page,
        stopped=stopped,
    )


def _command(
    dataset: str, out: Path, recipe: Recipe, first: ModelFile, taught: bool, options: dict[str, object]
) -> str:
    """`origin.command` of `fit`'s own arguments; the model that the run begins with knows whether it was given."""
    defaults = inspect.signature(fit).parameters
    changed = {name: value for name, value in options.items() if value != defaults[name].default}
    init = first.info.provenance["started_from"] != start.RANDOM
    return origin.command(dataset, out, recipe, init=init, teacher=taught, options=changed)


def _report(folder: RunFolder, display: Display) -> tuple[Path | None, str | None]:
    """The report's place, or why there is none: the model is safe by now, and stays."""
    try:
        with display.bar("measuring the model", after=2) as advance:
            return report.write(folder.path, progress=advance), None
    except (Error, OSError, MemoryError) as error:
        why = str(error) or "not enough memory"
    except KeyboardInterrupt:
        why = "stopped"
    return None, f"no report: {why}; mobilenetv2 report {shlex.quote(str(folder.path))} tries again"


def _place(devices: int, nodes: int) -> tuple[int, int, int]:
    """How many devices a node has, how many nodes there are, and which of all processes this is."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local, int(os.environ["RANK"])
    # the other processes are started by Lightning with the same command and these variables
    return devices, nodes, int(os.environ.get("NODE_RANK", 0)) * devices + int(os.environ.get("LOCAL_RANK", 0))


def _precision(asked: str, accelerator: str) -> str:
    if asked != "auto":
        return asked
    if origin.on_gpu(accelerator):
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "32-true"


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)


def _what_is_left(folder: RunFolder, saver: Saver) -> str:
    if saver.kept is None:
        return "no epoch had ended, so nothing was saved"
    return f"epoch {int(saver.kept['epoch'])} is in {folder.model}"
