"""The command line: one function per verb, which parses, calls one library function, and prints.

What a verb needs is imported inside it, so that `mobilenetv2 --help` answers at once.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mobilenetv2 import cli_evaluate, cli_paper, cli_predict, cli_training, terminal
from mobilenetv2.cli_options import Json, Model
from mobilenetv2.errors import UsageError, unknown_name
from mobilenetv2.terminal import progress_bar, say, show, show_json, table

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


app.command()(cli_predict.predict)
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
        show_json(planned) if as_json else show(describe.text(planned))
        if draw is not None:
            files.write_bytes(draw, charts.memory(planned))
            say(f"drawn: {draw}")
        return
    if size is not None or budget is not None or draw is not None:
        raise UsageError("--size, --budget and --draw are the plan's: give --plan too")
    from mobilenetv2.summary import summarise, text

    summary = summarise(found)
    show_json(summary) if as_json else show(text(summary))


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
            show_json(timing.to_json())
        return
    say(f"{_one_line(loaded.info)}, run at {inputs[0]}x{inputs[1]}")
    say(measure.machine())
    show(measure.text(timings))


@app.command()
def models(as_json: Json = False) -> None:
    """List the published checkpoints that can be used by name."""
    import dataclasses

    from mobilenetv2 import zoo

    if as_json:
        for entry in zoo.entries():
            show_json({**dataclasses.asdict(entry), "cached": zoo.path_of(entry).exists()})
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
    show(table(rows, header=header, right=(1, 2, 3, 4, 5)))


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


def _one_line(info: Any) -> str:
    height, width = info.preprocessing.size
    return f"{info.task}, {info.classes} classes, {height}x{width}, width {info.spec.backbone.width_mult:g}"


if __name__ == "__main__":
    main()
