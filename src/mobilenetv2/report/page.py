"""A run's report as one page: what came of it, how it learned, where it errs, what from, and how to do it again."""

from __future__ import annotations

import datetime
import os
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mobilenetv2 import __version__, charts, image, plots
from mobilenetv2.data.check import gallery, open_parts
from mobilenetv2.data.classification import ClassificationData, Picture, is_there, place
from mobilenetv2.errors import Error
from mobilenetv2.metrics import Reliability
from mobilenetv2.plots import Tile
from mobilenetv2.report.facts import Facts
from mobilenetv2.report.markup import Html, chart, command, document, photos, table, tag

MISTAKES = 24  # thumbnails: 8 KB each
GALLERY = 24
FINDINGS = 1000  # sentences
_MACHINE = ("cpu", "cpus", "system", "device", "processes", "threads", "precision")


def page(facts: Facts) -> str:
    """The HTML of the whole report."""
    name = facts.files.path.resolve().name
    sections = (
        ("How it learned", _curves(facts)),
        ("How well it does", _classes(facts)),
        ("The surest mistakes", _mistakes(facts)),
        ("The pictures", _data(facts)),
        ("The recipe", _recipe(facts)),
        ("Where it ran", _origin(facts)),
        ("Use it, repeat it", _commands(facts)),
    )
    return document(
        f"{name}: training report",
        tag("header", tag("p", "mobilenetv2 training report", class_="kicker"), tag("h1", name), _lead(facts)),
        *(tag("p", sentence, class_="notice") for sentence in (*_unfinished(facts), *facts.lacking)),
        _cards(facts),
        *(tag("section", tag("h2", title), *content) for title, content in sections if content),
        tag("footer", f"Written by mobilenetv2 {__version__} on {datetime.date.today()}."),
    )


def _lead(facts: Facts) -> Html:
    height, width = facts.info.preprocessing.size
    provenance, recipe = facts.info.provenance, facts.settings["recipe"]
    pictures = facts.pictures.get("train")
    return tag(
        "p",
        f"A classifier of {facts.info.classes} classes: MobileNetV2 of width {facts.info.spec.backbone.width_mult:g} "
        f"for {height} × {width} pixels, started from {provenance.get('started_from', 'unknown weights')}, "
        f"trained on {_number(pictures)} pictures by the recipe “{recipe.get('name', 'unknown')}”.",
        class_="lead",
    )


def _unfinished(facts: Facts) -> Iterable[str]:
    if not facts.settings["finished"]:
        done = int(facts.rows[-1]["epoch"]) if facts.rows else 0
        yield (
            f"This run has not ended: {done} of {facts.settings['recipe'].get('epochs', '?')} epochs are done. "
            "The same command with --resume goes on."
        )


def _cards(facts: Facts) -> Html:
    last: Mapping[str, float] = facts.rows[-1] if facts.rows else {}
    accuracy, costs = facts.accuracy, facts.costs
    cards: list[tuple[str, str, str]] = []
    if accuracy is not None:
        interval = f"95 % interval {100 * accuracy.low:.1f} to {100 * accuracy.high:.1f} %, {accuracy.n:,} pictures"
        cards.append(("val accuracy", _percent(accuracy.share), interval))
    elif facts.pictures.get("val") == 0:
        cards.append(("val accuracy", "-", "no pictures were held out: nothing is measured"))
    keep = {"best": "the best on validation pictures", "last": "the last"}
    cards += [
        ("classes", _number(facts.info.classes), _some([facts.info.label(i) for i in range(facts.info.classes)])),
        ("kept epoch", f"{_number(facts.kept_epoch)} of {_number(last.get('epoch'))}",
         keep.get(str(facts.settings["recipe"].get("keep")), "")),
        ("pictures", _number(facts.pictures.get("train")),
         f"to learn from, {_number(facts.pictures.get('val'))} to measure"),
        ("time", _duration(last.get("seconds")), f"{_number(last.get('pictures_per_second'))} pictures/s in training"),
        ("model file", f"{facts.model_bytes / 1e6:.1f} MB", facts.files.model.name),
        ("parameters", _short(costs.parameters), f"{costs.parameters:,}"),
        ("multiply-adds", _short(costs.multiply_adds), f"{costs.multiply_adds:,} per picture"),
    ]  # fmt: skip
    return tag("div", *(
        tag("div", tag("span", what, class_="what"), tag("strong", value), tag("span", more, class_="more"))
        for what, value, more in cards
    ), class_="cards")  # fmt: skip


def _curves(facts: Facts) -> list[Html]:
    if not facts.rows:
        return []
    text = f"Losses, accuracy and learning rate over {len(facts.rows)} epochs"
    return [chart(charts.curves(facts.rows, facts.kept_epoch), text)]


def _classes(facts: Facts) -> list[Html]:
    found = facts.evaluation
    if found is None:
        return []
    names = [facts.info.label(i) for i in range(facts.info.classes)]
    counts = np.zeros((len(names), len(names) + 1), np.int64)  # the last column is "no answer": never the engine's
    taken_for: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for true, answer, pictures in found["confusion"]:
        counts[true, answer] = pictures
        if answer != true:
            taken_for[true].append((pictures, answer))

    def confused(index: int) -> str:
        if not taken_for[index]:
            return ""
        pictures, answer = max(taken_for[index], key=lambda pair: (pair[0], -pair[1]))
        return f"{names[answer]} ({pictures})"

    # the weakest first; of equally weak ones the larger, whose figure means more
    measured = sorted(
        (row for row in found["classes"] if row["pictures"]), key=lambda row: (row["recall"], -row["pictures"])
    )
    rows = [
        (row["label"], f"{row['pictures']:,}", _bar(row["recall"]), _percent(row["recall"]),
         _percent(row["precision"]), _percent(row["f1"]), confused(row["index"]))
        for row in measured
    ]  # fmt: skip
    header = ("class", "pictures", "", "accuracy", "precision", "F1", "most often taken for")
    shown = (
        f"Measured by the {found['backend']} on {found['n']:,} pictures that training has not seen, the weakest class "
        f"first. The mean of the classes’ accuracies is {_percent(found['macro_recall'])}."
    )
    return [
        tag("p", shown),
        table(rows, header=header, right=(1, 3, 4, 5)),
        chart(charts.confusion(counts, names), f"Confusion matrix of {len(measured)} classes"),
        tag("p", "Whether answers are right as often as the model is sure of them:"),
        chart(charts.reliability(_reliability(found["calibration"])), "Reliability diagram"),
    ]


def _reliability(bins: Sequence[Mapping[str, Any]]) -> Reliability:
    pictures = np.array([bin_["pictures"] for bin_ in bins], np.int64)
    confidence, accuracy = (np.array([bin_[name] for bin_ in bins], float) for name in ("confidence", "accuracy"))
    return Reliability(pictures, confidence, accuracy)  # None has become NaN


def _mistakes(facts: Facts) -> list[Html]:
    if facts.evaluation is None:
        return []
    mistakes = facts.evaluation["mistakes"]
    if not mistakes:
        return [tag("p", f"None: all {facts.evaluation['n']:,} answers were right.")]
    surest = sorted(mistakes, key=lambda mistake: -mistake["predictions"][0]["score"])[:MISTAKES]
    shown = f"{len(mistakes):,} of {facts.evaluation['n']:,} answers were wrong"
    most = f"; the {len(surest)} that the model was surest of" if len(surest) < len(mistakes) else ""
    pictures = {str(sample.picture): sample.picture for data in _parts(facts).values() for sample in data.samples}
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        tiles = [
            tile for tile in pool.map(lambda mistake: _mistake(mistake, pictures, facts), surest) if tile is not None
        ]
    return [tag("p", f"{shown}{most if tiles else ''}."), *([photos(tiles)] if tiles else [])]


def _mistake(mistake: Mapping[str, Any], pictures: Mapping[str, Picture], facts: Facts) -> Tile | None:
    """None where the picture is no longer there."""
    picture = pictures.get(mistake["file"])
    if picture is None:
        return None
    try:
        rgb = plots.thumbnail(image.read(picture))
    except Error:
        return None
    answer = mistake["predictions"][0]
    where = place(picture, facts.dataset or "")
    lines = (f"{answer['label']} ({_percent(answer['score'])})", f"true class: {mistake['true']['label']}", where)
    return Tile(rgb, lines, right=False)


def _data(facts: Facts) -> list[Html]:
    check, used = facts.check, _mapping(facts, "pictures")
    if check is None:
        return [tag("p", "What is in the data set is unknown: mobilenetv2 check finds out.")]
    columns = {**check.counts}
    for title, part in (("learned from", "train"), ("measured on", "val")):
        counts = tuple(used.get(part, ()))
        if len(counts) == len(check.names) and counts != columns.get(part):
            columns[title] = counts
    rows = [(name, *(f"{counts[i]:,}" for counts in columns.values())) for i, name in enumerate(check.names)]
    rows.append(("all", *(f"{sum(counts):,}" for counts in columns.values())))
    found = [_relative(finding, facts) for finding in check.findings]
    if len(found) > FINDINGS:
        found[FINDINGS:] = [f"and {len(found) - FINDINGS:,} more, which mobilenetv2 check lists"]
    decided = facts.settings.get("notes", [])[len(check.findings) :]  # the findings come first
    return [
        table(rows, header=("class", *columns), right=range(1, len(columns) + 1), class_="counts"),
        *_sentences("What the data check found:" if found else "The data check found nothing wrong.", found),
        *(_sentences("What follows from that, and from the starting weights:", decided) if decided else []),
        *_gallery(facts),
    ]


def _sentences(title: str, sentences: Sequence[str]) -> list[Html]:
    listed = tag("ul", *(tag("li", sentence) for sentence in sentences), class_="frame")
    return [tag("p", title), *([listed] if sentences else [])]


def _gallery(facts: Facts) -> list[Html]:
    assert facts.check is not None
    parts = {part: data for part, data in _parts(facts).items() if part in facts.check.counts}
    return [photos(gallery(facts.check, parts, most=GALLERY))] if parts else []


def _parts(facts: Facts) -> Mapping[str, ClassificationData]:
    """The data set's pictures; none where they are no longer there."""
    if facts.dataset is None or not is_there(facts.dataset):
        return {}
    try:
        return open_parts(facts.dataset)
    except Error:  # the folder is there, the pictures are not
        return {}


def _recipe(facts: Facts) -> list[Html]:
    recipe, changed = facts.settings["recipe"], _mapping(facts, "recipe_changed")
    source = facts.settings.get("recipe_source", "what it comes from is unknown.") or "none of the named recipes."
    fields = [
        tag("div", tag("dt", name), tag("dd", _value(value), *(
            [" ", tag("small", f"instead of {_value(changed[name])}")] if name in changed else []
        )), class_="changed" if name in changed else "")
        for name, value in recipe.items() if name != "name"
    ]  # fmt: skip
    said = f"“{recipe.get('name', 'unknown')}”: {source}"
    return [tag("p", said), tag("dl", *fields, class_="fields")]


def _origin(facts: Facts) -> list[Html]:
    date = facts.settings.get("date") or facts.info.provenance.get("date", "unknown")
    machine, versions = _mapping(facts, "machine"), _mapping(facts, "versions")
    of = {name: machine.get(name, "unknown") for name in _MACHINE}
    where = f"{of['cpu']}, {of['cpus']} CPUs; {of['system']}"
    how = f"{of['device']}, {of['processes']} × {of['threads']} threads, precision {of['precision']}"
    rows = (
        ("date", str(date).replace("T", " ")),
        ("data set", facts.dataset or "unknown"),
        ("fingerprint", facts.settings["fingerprint"]),
        ("machine", where if machine else "unknown"),
        ("trained on", how if machine else "unknown"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or "unknown"),
    )
    return [table(rows, class_="facts")]


def _commands(facts: Facts) -> list[Html]:
    model = shlex.quote(os.path.abspath(facts.files.model))
    divided = facts.dataset is not None and facts.check is not None and "val" in facts.check.counts
    dataset = shlex.quote(str(facts.dataset)) if divided else "OTHER_PICTURES"  # else those it learned from
    repeat, where = facts.settings.get("command"), facts.settings.get("directory")
    return [
        tag("p", "What is on a photo; how good the model is on labelled pictures; what its file holds:"),
        command(f"mobilenetv2 predict {model} photo.jpg\nmobilenetv2 evaluate {model} {dataset}\n"
                f"mobilenetv2 info {model}"),
        tag("p", "In Python:"),
        command(f"import mobilenetv2\n\npredictor = mobilenetv2.load({os.path.abspath(facts.files.model)!r})\n"
                'print(predictor("photo.jpg"))'),
        tag("p", "The same run again, into another folder (--out)" + (f", in {where}" if where else "") + ":"),
        command(repeat) if isinstance(repeat, str) else tag("p", "unknown"),
    ]  # fmt: skip


def _mapping(facts: Facts, name: str) -> Mapping[str, Any]:
    """What `run.json` has under `name`; empty where it is an earlier release's, which had not."""
    found = facts.settings.get(name)
    return found if isinstance(found, dict) else {}


def _relative(text: str, facts: Facts) -> str:
    """`text` with files named by their place in the data set."""
    return text if facts.dataset is None else text.replace(f"{facts.dataset}{os.sep}", "")


def _bar(share: float) -> Html:
    return tag("span", tag("span", style=f"width:{100 * share:.1f}%"), class_="bar")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]}, … {names[-1]}"


def _short(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count < 1e9 else f"{count / 1e9:.2f} G"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _value(value: object) -> str:
    """As it is written after --set."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
