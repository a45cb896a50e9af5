"""One session of a run: everything is made that can be refused, then it trains, and what ends it becomes one line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer

from mobilenetv2 import model_file
from mobilenetv2.errors import UsageError
from mobilenetv2.model_file import ModelFile
from mobilenetv2.run_files import ENDED
from mobilenetv2.text import plain
from mobilenetv2.train import failures
from mobilenetv2.train.failures import Interrupted
from mobilenetv2.train.hardware import Hardware
from mobilenetv2.train.learner import Learner
from mobilenetv2.train.progress import Display
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.run_folder import Going, RunFolder
from mobilenetv2.train.running import Stopped, StopRequest, interruptible
from mobilenetv2.train.saver import Saver
from mobilenetv2.train.task import Task


@dataclass(frozen=True, slots=True)
class Session:
    """What a session is about; `going` is None for a new run."""

    folder: RunFolder
    task: Task
    recipe: Recipe
    going: Going | None
    data: Any
    first: ModelFile
    facts: dict[str, Any]
    where: Hardware

    @property
    def lengthened(self) -> tuple[int, ...]:
        return () if self.going is None else self.going.lengthened

    @property
    def began(self) -> int:
        """The epochs after which the schedule began."""
        return self.lengthened[-1] if self.lengthened else 0

    def write_settings(self, ended: str | None = None) -> None:
        if self.where.first:
            self.folder.write_settings(self.recipe, self.data, self.facts, lengthened=self.lengthened, ended=ended)


def train(
    session: Session, display: Display, division: dict[str, Any], *, teacher: Any, recompute: bool
) -> tuple[str, Saver, Learner[Any]]:
    """Train, and say how that ended. Nothing is written before everything that can be refused was."""
    folder, recipe, where, kind = session.folder, session.recipe, session.where, session.task
    stop = StopRequest()
    train, val = kind.batches(session.data, recipe, session.first.info, **division)
    module = kind.learner(
        session.first, _scheduled(session), session.data, batches=len(train), teacher=teacher, recompute=recompute
    )
    rows = [] if session.going is None else folder.rows()
    if session.began:
        module.begin_anew(session.began, folder.seconds_at(session.began))
    saver = Saver(
        folder, session.first.info, recipe, kind, stop, rows=rows, began=session.began,
        digest=None if session.going is None else session.going.digest,
        said=lambda row: display.epoch(row, recipe.epochs, kind.best),
    )  # fmt: skip
    trainer = Trainer(
        max_epochs=recipe.epochs,
        accelerator=where.accelerator,
        devices=where.devices,
        num_nodes=where.nodes,
        strategy="ddp" if where.processes > 1 else "auto",
        precision=where.precision,  # type: ignore[arg-type]
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
    last = folder.last if session.going is not None and session.going.digest is not None else None
    ended = "interrupted"
    try:
        if session.going is None and where.first:
            folder.remove()
            model_file.write(folder.start, session.first)
        session.write_settings()
        try:
            with interruptible(stop):
                trainer.fit(module, train, val, ckpt_path=last)
        except SystemExit:  # Lightning's answer to a second Ctrl-C
            raise KeyboardInterrupt from None
        except Stopped:
            pass
        else:
            ended = _how_it_ended(saver, recipe)
        if not saver.rows:
            raise Interrupted(f"stopped before the end of the first epoch: {folder.what_is_left(0)}")
        session.write_settings(ended)
        if where.first and ended in ENDED:
            folder.start.unlink(missing_ok=True)
    except Interrupted:
        raise
    except Exception as error:
        left = folder.what_is_left(saver.saved)
        if (known := failures.explained(error, recipe, left)) is not None:
            raise known from None
        if last is not None and not saver.running:
            reason = plain(str(error) or "nothing more is known")
            way_out = folder.way_out(anew=not session.lengthened)
            raise UsageError(f"{last} cannot be read ({type(error).__name__}: {reason}): {way_out}") from None
        raise
    finally:
        if where.first and session.going is None and not (folder.last.exists() or folder.model.exists()):
            folder.remove()  # the next try needs the folder
    return ended, saver, module


def _scheduled(session: Session) -> Recipe:
    """The recipe as the schedule sees it: in a lengthened run that of the further epochs, which train everything, on
    whole pictures, from the first one on."""
    if not session.began:
        return session.recipe
    return dataclasses.replace(
        session.recipe, epochs=session.recipe.epochs - session.began, head_epochs=0.0, small_until=0.0
    )


def _how_it_ended(saver: Saver, recipe: Recipe) -> str:
    if not saver.rows or int(saver.rows[-1]["epoch"]) >= recipe.epochs:
        return "epochs"
    return "patience" if saver.out_of_patience else "time"
