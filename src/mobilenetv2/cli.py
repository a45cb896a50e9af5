"""The command line: one function per verb, which parses, calls one library function, and prints.

What a verb needs is imported inside it, so that `mobilenetv2 --help` answers at once.
"""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mobilenetv2 import cli_evaluate, cli_paper, cli_training, terminal
from mobilenetv2.cli_options import Backend, Crop, Json, Model, MultiScale, Resize, Slide, Threads, pixels_or_none
from mobilenetv2.errors import Error, UsageError, unknown_name
from mobilenetv2.terminal import progress_bar, say, table

app = typer.Typer(
    name="mobilenetv2",
    help="Train MobileNetV2 on your own pictures, and run the result from one file without PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: Rich alone takes 0.15 s to import
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Background(StrEnum):
    first = "first"
    last = "last"
    none = "none"


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    if version:
        from mobilenetv2 import __version__

        print(f"mobilenetv2 {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        raise UsageError("a verb is missing: see mobilenetv2 --help")


@app.command()
def predict(
    model: Model,
    photos: Annotated[list[str], typer.Argument(metavar="PHOTO...", help="Picture files.")],
    as_json: Json = False,
    draw: Annotated[Path | None, typer.Option(metavar="DIR", help="Write each photo with its answers here.")] = None,
    coco: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Write a detector's boxes as COCO's list of results.")
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="A classifier's number of answers; else 5.")] = None,
    background: Annotated[bool, typer.Option("--background", help="Show the background class among them.")] = False,
    score: Annotated[
        float | None, typer.Option(min=0, max=1, help="A detector's least score, 0 to 1; else the model's own.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each photo's mask here: classes as values, VOC's palette.")
    ] = None,
    rle: Annotated[bool, typer.Option("--rle", help="With --json: each class's run lengths as COCO has them.")] = False,
    multi_scale: MultiScale = False,
    slide: Slide = False,
    backend: Backend = "engine",
    threads: Threads = None,
    resize: Resize = None,
    crop: Crop = None,
) -> None:
    """Say what is on photos."""
    from mobilenetv2 import files
    from mobilenetv2.predictor import load
    from mobilenetv2.results import Detections, Segmentation, coco_categories, coco_image_id
    from mobilenetv2.terminal import Beside, draw_answer

    predictor = load(model, backend=backend, threads=threads, resize=pixels_or_none(resize), crop=crop)
    given = {
        "--top": top, "--background": background or None, "--score": score, "--coco": coco, "--masks": masks,
        "--rle": rle or None, "--multi-scale": multi_scale or None, "--slide": slide or None,
    }  # fmt: skip
    options = _decoding(predictor.info.task, given)
    drawings = Beside(draw, ".answers.png", photos) if draw is not None else None
    mask_files = Beside(masks, ".png", photos) if masks is not None else None
    entries: list[dict[str, Any]] = []
    failed = 0
    with progress_bar("predict", "photos") as advance:
        answers = predictor.many(photos, errors="yield", **options)
        for done, (photo, answer) in enumerate(zip(photos, answers, strict=True), start=1):
            if len(photos) > 1:
                advance(done, len(photos))
            if isinstance(answer, Error):
                failed += 1
                if as_json:
                    print(_dumps({"file": photo, "error": str(answer)}))
                else:
                    say(f"error: {answer}")
                continue
            if drawings is not None:
                say(f"drawn: {draw_answer(photo, answer, drawings.path(photo))}")
            ways: dict[str, Any] = {}
            if isinstance(answer, Segmentation):
                ways = {"run_lengths": rle}
                if mask_files is not None:
                    ways["mask"] = mask_files.path(photo)
                    answer.save_mask(ways["mask"])
                    if not as_json:
                        say(f"mask: {ways['mask']}")
            if coco is not None and isinstance(answer, Detections):
                entries += answer.to_coco(coco_image_id(photo), coco_categories(predictor.info))
            print(_dumps(answer.to_json(file=photo, **ways)) if as_json else f"{photo}\n{answer}")
    if coco is not None:
        files.write_bytes(coco, _dumps(entries).encode())
        say(f"wrote {coco}: {len(entries)} boxes")
    if failed:
        raise typer.Exit(1)


app.command()(cli_evaluate.evaluate)


@app.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="Another library's file or folder; with --to, a model file or zoo name.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file to write.")],
    source: Annotated[str | None, typer.Option("--from", help="Its source, where it cannot be found out.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="The other way: write what torchvision reads.")] = None,
    labels: Annotated[Path | None, typer.Option(help="A text file of class names, one per line.")] = None,
    background: Annotated[Background | None, typer.Option(help="Which output is no real class.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Input size in pixels, where the file does not say.")] = None,
    output_stride: Annotated[
        int | None, typer.Option(help="8, 16 or 32: how much smaller the map of a network for masks is.")
    ] = None,
) -> None:
    """Make a model file of a torchvision, timm, Hugging Face, Keras, TFLite ... checkpoint."""
    from mobilenetv2 import importers, model_file

    if to is not None:
        if to != "torchvision":
            raise unknown_name("target", to, ["torchvision"])
        call = importers.export_torchvision(importers.load_model(file), out)
        say(f"wrote {out}: the state dict of {call}")
        return
    choice: Literal["first", "last", "none"] | None = background.value if background else None
    model = importers.import_file(
        Path(file), source=source, labels=labels, background=choice, size=size, output_stride=output_stride
    )
    for note in model.info.provenance.get("notes", []):
        say(f"note: {note}")
    model_file.write(out, model)
    say(f"wrote {out}: {_one_line(model.info)}")


@app.command()
def info(
    model: Model,
    as_json: Json = False,
    plan: Annotated[bool, typer.Option("--plan", help="How the engine runs it: steps, schedules, memory.")] = False,
    size: Annotated[int | None, typer.Option(min=1, help="The plan's input size in pixels; else the model's.")] = None,
    threads: Annotated[int, typer.Option(min=1, max=256, help="The plan's threads.")] = 1,
    budget: Annotated[str | None, typer.Option(help="The plan's most memory for activations, such as 512KB.")] = None,
    draw: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw what lives when in the plan's memory.")] = None,
) -> None:
    """Show what a model file holds."""
    from mobilenetv2.importers import load_model

    found = load_model(model).info
    if plan:
        from mobilenetv2 import charts, files
        from mobilenetv2.engine import describe

        limit = files.parse_bytes(budget, "--budget") if budget else None
        inputs = (size, size) if size else found.preprocessing.size
        planned = describe.describe(found.spec, inputs, threads=threads, budget=limit)
        print(_dumps(planned) if as_json else describe.text(planned))
        if draw is not None:
            files.write_bytes(draw, charts.memory(planned))
            say(f"drawn: {draw}")
        return
    if size is not None or budget is not None or draw is not None:
        raise UsageError("--size, --budget and --draw are the plan's: give --plan too")
    from mobilenetv2.summary import summarise, text

    summary = summarise(found)
    print(_dumps(summary) if as_json else text(summary))


@app.command()
def bench(
    model: Model,
    as_json: Json = False,
    size: Annotated[int | None, typer.Option(min=1, help="Input size in pixels; else the model's.")] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, max=256, help="Else 1, and all CPUs, at most 4.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Pictures per call; else 1.")] = None,
    runtime: Annotated[
        list[str] | None, typer.Option(help="Compare with this one; else all that are installed.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each runtime gets.")] = 10,
) -> None:
    """Measure how fast a model runs here, beside the other runtimes that are installed."""
    from mobilenetv2.benchmark import measure
    from mobilenetv2.importers import load_model

    loaded = load_model(model)
    inputs = (size, size) if size else loaded.info.preprocessing.size
    with progress_bar("bench", "rounds") as advance:
        timings = measure.benchmark(
            loaded, size=inputs, threads=threads, batches=batch or [1], runtimes=runtime, rounds=rounds,
            progress=advance,
        )  # fmt: skip
    if as_json:
        for timing in timings:
            print(_dumps(timing.to_json()))
        return
    say(f"{_one_line(loaded.info)}, run at {inputs[0]}x{inputs[1]}")
    say(measure.machine())
    print(measure.text(timings))


@app.command()
def models(as_json: Json = False) -> None:
    """List the published checkpoints that can be used by name."""
    import dataclasses

    from mobilenetv2 import zoo

    if as_json:
        for entry in zoo.entries():
            print(_dumps({**dataclasses.asdict(entry), "cached": zoo.path_of(entry).exists()}))
        return
    rows = [
        (
            entry.name,
            entry.width_mult,
            entry.resolution,
            f"{100 * entry.top1:.1f}" if entry.top1 else "",
            f"{100 * entry.top5:.1f}" if entry.top5 else "",
            f"{entry.megabytes:.1f}" if entry.megabytes else "",
            entry.licence,
            "here" if zoo.path_of(entry).exists() else "",
        )
        for entry in zoo.entries()
    ]
    header = ("name", "width", "size", "top-1 %", "top-5 %", "MB", "licence", "")
    print(table(rows, header=header, right=(1, 2, 3, 4, 5)))


app.command()(cli_training.check)
app.command()(cli_training.train)
app.command()(cli_training.recipes)
app.command()(cli_training.report)
app.add_typer(cli_paper.app, name="paper")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Where pictures, model and report go.")] = Path("demo"),
    seconds: Annotated[float, typer.Option(min=5, help="Time for training.")] = 90,
) -> None:
    """Train a small network on generated pictures and show it working: about two minutes.

    As many pictures as this machine trains on three times in its time. Exit code 1 where the result is near chance.
    """
    cli_training.training()
    from mobilenetv2.demo import demo as run_demo

    if run_demo(out, seconds=seconds).near_chance:
        raise typer.Exit(1)


def main() -> None:
    """The console script: an `Error` becomes one line on stderr and its exit code."""
    # GNU OpenMP's threads, which torch's are, spin for milliseconds while they wait. Beside a busy program that
    # takes the core of the thread waited for. Training pictures/s with 2 threads alone / beside one busy program
    # (width 0.35, 64 px, batch 32, 2 cores of a Xeon 2.8 GHz, torch 2.15, 11.2026): default 317 / 2, 10,000
    # spins 252 / 76, none 160 / 154.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    terminal.run(app)


_DECODING = {
    "classification": {"--top": "top", "--background": "with_background"},
    "detection": {"--score": "score", "--coco": None},  # what is None is not the predictor's
    "segmentation": {"--multi-scale": "multi_scale", "--slide": "slide", "--masks": None, "--rle": None},
}


def _decoding(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """The predictor's options among those that were given. Raises `UsageError` for one of another task."""
    options: dict[str, Any] = {}
    for option, value in given.items():
        if value is None:
            continue
        if option not in _DECODING[task]:
            raise UsageError(f"{option} is not for {task}: this model's options are {', '.join(_DECODING[task])}")
        if name := _DECODING[task][option]:
            options[name] = value
    return options


def _one_line(info: Any) -> str:
    height, width = info.preprocessing.size
    return f"{info.task}, {info.classes} classes, {height}x{width}, width {info.spec.backbone.width_mult:g}"


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
