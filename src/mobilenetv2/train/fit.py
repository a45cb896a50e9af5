"""From a data set to a model file: one training run, of whatever task."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mobilenetv2 import model_file, report
from mobilenetv2.errors import Error, UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.run_files import ENDED
from mobilenetv2.text import plain
from mobilenetv2.train import hardware, origin, recipes, start
from mobilenetv2.train import task as tasks
from mobilenetv2.train.hardware import Hardware
from mobilenetv2.train.lock import locked
from mobilenetv2.train.memory import keeping_memory
from mobilenetv2.train.pictures import CACHE_BYTES
from mobilenetv2.train.progress import Display
from mobilenetv2.train.recipe_fields import check
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.run_folder import Going, RunFolder
from mobilenetv2.train.running import own_random_state, quiet_lightning
from mobilenetv2.train.saver import Saver
from mobilenetv2.train.session import Session, train


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What came of a run.

    `score` (0..1) is what the weights in the file `model` reach on the validation pictures, by the task's measure,
    which `measure` names; None without any pictures. `epochs` counts what was trained of the `planned` ones, an
    unfinished last one included; `kept_epoch` is the one in the file. `seconds` is everything after the pictures were
    read, in all `sessions` together, `pictures_per_second` training alone.
    `report` is a page that shows all of it, None where it could not be written, which the last of the `notes` explains.
    `ended` is a key of `run_files.ENDED`, or "interrupted" after Ctrl-C (`stopped` is True): `--resume` goes on.
    """

    model: Path
    score: float | None
    measure: str
    epochs: int
    planned: int
    kept_epoch: int
    seconds: float
    pictures_per_second: float
    ended: str
    sessions: int = 1
    notes: tuple[str, ...] = ()
    report: Path | None = None

    @property
    def stopped(self) -> bool:
        return self.ended == "interrupted"

    def text(self) -> str:
        """The outcome in a few lines."""
        measured = "" if self.score is None else f", {self.measure} {100 * self.score:.1f} %"
        sessions = "" if self.sessions == 1 else f" in {self.sessions} sessions"
        lines = [
            f"{self.model}: epoch {self.kept_epoch} of {self.epochs}{measured}",
            f"trained for {self.seconds:.0f} s{sessions}, {self.pictures_per_second:.0f} pictures/s",
        ]
        if self.report is not None:
            lines.append(f"report: {self.report}")
        if self.stopped:
            lines.append(
                f"interrupted after {self.epochs} of {self.planned} epochs: the same command with --resume goes on"
            )
        elif self.ended != "epochs":
            lines.append(f"ended after {self.epochs} of {self.planned} epochs: {ENDED[self.ended]}")
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
    removes that run's files first. One run at a time can be at work in it. `recipe` of None is the task's own
    (`recipes.default`), or the resumed run's. A finished run is lengthened by `resume` with its own recipe of more
    epochs: their schedule begins anew, from the weights and the optimiser's state at its end.
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
    Whatever goes wrong with the report, the model stays, and the run has succeeded.

    Raises `DatasetError` for data that cannot be learned from; `UsageError` for arguments that do not fit each other,
    before anything is written, and for a run that cannot go on; and `TrainingError` where the loss is no longer a
    number, memory or the disk does not suffice, or a picture cannot be read any more (`Interrupted` where the run was
    stopped before the first epoch's end).
    """
    dataset, out = os.fspath(dataset), Path(out)
    where = hardware.choose(accelerator=accelerator, devices=devices, nodes=nodes, precision=precision, workers=workers)
    kind = tasks.find(task or tasks.of_data(dataset, places or {}))
    if resume and init is not None:
        raise UsageError("a run that goes on has its weights already: leave out the starting weights (--init)")
    if resume and overwrite:
        raise UsageError("a run that goes on (--resume) overwrites nothing: leave out --overwrite")
    folder, display = RunFolder(out), Display(shown=progress and where.first)
    with locked(out) if where.first else contextlib.nullcontext():
        if where.first and out.is_dir():
            folder.tidy()
        going = folder.resume(recipe, task=kind.name) if resume else None
        recipe = going.recipe if going is not None else _new_recipe(recipe, kind, init)
        if going is None and not overwrite and where.first:
            folder.check_empty()
        if recipe.max_minutes is not None and where.processes > 1:
            raise UsageError("max_minutes is for one device: clocks differ, set max_minutes=none")
        with display.bar("reading pictures") as read:
            data: Any = kind.open(
                dataset, recipe, strict=strict, cache_bytes=cache_bytes, progress=read, places=places or {}
            )
        if going is not None:
            folder.check_data(data)
        first, notes = _first_weights(folder, going, kind, data, recipe, init)
        learned_from = None if teacher is None else kind.teacher(teacher, first.info.labels)
        data = dataclasses.replace(data, notes=(*data.notes, *notes, *_about(folder, going, where)))
        for note in data.notes:
            display.say(f"note: {note}")
        classes = f"{len(data.names)} {'class' if len(data.names) == 1 else 'classes'}"
        display.say(f"{classes}, {len(data.train)} pictures to train on, {len(data.val)} to measure")
        options = {"strict": strict, "devices": devices, "nodes": nodes, "precision": precision, "workers": workers,
                   "recompute": recompute}  # fmt: skip
        facts = origin.of_run(
            dataset,
            data,
            places=places or {},
            command=command or _command(dataset, out, recipe, first, teacher is not None, options),
            machine=origin.machine(accelerator=accelerator, processes=where.processes, precision=where.precision),
        )
        division: dict[str, Any] = {"rank": where.rank, "devices": where.processes}
        if workers is not None:
            division["workers"] = workers
        session = Session(folder, kind, recipe, going, data, first, facts, where)
        with quiet_lightning(), own_random_state(recipe.seed), keeping_memory():
            ended, saver, module = train(session, display, division, teacher=learned_from, recompute=recompute)
        page, problem = _report(folder, display) if where.first else (None, None)
        if problem is not None:
            display.say(problem)
        kept = _kept(folder, saver)
        return TrainingRun(
            model=folder.model,
            score=kept.get(kind.best.column),
            measure=kind.best.words,
            epochs=int(saver.rows[-1]["epoch"]),
            planned=recipe.epochs,
            kept_epoch=int(kept["epoch"]),
            seconds=module.elapsed(),
            pictures_per_second=module.pictures / max(module.training_seconds, 1e-9),
            ended=ended,
            sessions=folder.read_settings()["sessions"],
            notes=data.notes if problem is None else (*data.notes, problem),
            report=page,
        )


def _new_recipe(recipe: Recipe | None, kind: tasks.Task, init: ModelFile | None) -> Recipe:
    recipe = check(recipe or recipes.default(kind.name, init=init is not None))
    if recipe.task != kind.name:
        raise UsageError(f"the recipe {recipe.name!r} is for {recipe.task}, and this is {kind.name}")
    return recipe


def _first_weights(
    folder: RunFolder, going: Going | None, kind: tasks.Task, data: Any, recipe: Recipe, init: ModelFile | None
) -> tuple[ModelFile, list[str]]:
    """What the run begins, or began, with, and notes about it."""
    if going is None:
        with own_random_state(recipe.seed):
            return kind.start(data, recipe, init)
    # padding, preprocessing and the rest may be those of weights that the run began with
    return model_file.read(folder.model if going.lengthened else folder.start), []


def _about(folder: RunFolder, going: Going | None, where: Hardware) -> list[str]:
    """Notes about how the run goes on, and on what."""
    notes = [] if where.note is None else [where.note]
    if going is not None and going.more:
        done = going.lengthened[-1]
        notes.append(
            f"the run's {done} epochs are done: {going.recipe.epochs - done} more from the weights reached, with a "
            "schedule of their own"
        )
    if going is not None and going.digest is None and folder.rows():
        notes.append(f"{folder.last} is gone: the run begins again at its first epoch")
    return notes


def _kept(folder: RunFolder, saver: Saver) -> dict[str, float]:
    """The epoch that is in the model file. A run that was killed between two files has one there that is better than
    those it knows of, until it has trained that epoch again."""
    kept = dict(saver.kept or {})
    epoch = folder.kept_epoch()
    if epoch is not None and epoch != int(kept["epoch"]):
        scores = model_file.read(folder.model).info.provenance.get("scores", {})
        return {**scores, "epoch": epoch}
    return kept


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
    except KeyboardInterrupt:
        why = "stopped"
    except MemoryError:
        why = "not enough memory"
    except (Error, OSError) as error:
        why = str(error)
    except Exception as error:  # noqa: BLE001 : our own bug must not take the run with it
        why = f"{type(error).__name__}: {plain(str(error))}"
    return None, f"no report: {why}; mobilenetv2 report {shlex.quote(str(folder.path))} tries again"
