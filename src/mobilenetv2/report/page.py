"""A run's report as one page: what came of it, how it learned, where it errs, what from, and how to do it again."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mobilenetv2 import __version__, charts
from mobilenetv2.report.facts import Facts
from mobilenetv2.report.markup import Html, chart, command, document, sentences, table, tag
from mobilenetv2.report.tasks import Card

FINDINGS = 1000  # sentences
_MACHINE = ("cpu", "cpus", "system", "device", "processes", "threads", "precision")


def page(facts: Facts) -> str:
    """The HTML of the whole report."""
    name = _title(facts)
    sections = (
        ("How it learned", _curves(facts)),
        *facts.task.sections(facts),
        ("The pictures", _data(facts)),
        ("The recipe", _recipe(facts)),
        ("Where it ran", _origin(facts)),
        ("Use it, repeat it", _commands(facts)),
    )
    return document(
        f"{name}: training report",
        tag("header", tag("p", "mobilenetv2 training report", class_="kicker"), tag("h1", name), _lead(facts)),
        *(tag("p", sentence, class_="notice") for sentence in (*_state(facts), *facts.lacking)),
        _cards(facts),
        *(tag("section", tag("h2", title), *content) for title, content in sections if content),
        tag("footer", f"Written by mobilenetv2 {__version__} on {datetime.date.today()}."),
    )


def _lead(facts: Facts) -> Html:
    height, width = facts.info.preprocessing.size
    provenance, recipe = facts.info.provenance, facts.settings["recipe"]
    width_mult = facts.info.spec.backbone.width_mult
    pictures = facts.pictures.get("train")
    return tag(
        "p",
        f"A {facts.task.NOUN} of {_classes(facts)}: {facts.task.NETWORK} of width {width_mult:g} "
        f"for {height} × {width} pixels, started from {provenance.get('started_from', 'unknown weights')}, "
        f"trained on {_number(pictures)} pictures by the recipe “{recipe.get('name', 'unknown')}”.",
        class_="lead",
    )


def _title(facts: Facts) -> str:
    """The data set's name and the run's, which often is "run"."""
    names = [Path(facts.dataset).name] if facts.dataset else []
    return ": ".join(dict.fromkeys([*names, facts.files.path.resolve().name]))


def _state(facts: Facts) -> Iterable[str]:
    """How the run ended, where not by its last epoch, and a judgement, where one is due."""
    recipe, ended = facts.settings["recipe"], facts.settings.get("ended")
    if not facts.settings["finished"]:
        state = "was interrupted" if ended == "interrupted" else "has not ended"
        yield f"This run {state}: {facts.done} are done. The same command with --resume goes on."
    elif ended == "time":
        yield f"This run ended at its time limit of {_value(recipe.get('max_minutes'))} minutes: {facts.done} are done."
    elif ended == "patience":
        patience = _value(recipe.get("patience"))
        yield f"This run ended early, after {facts.done}: {patience} in a row brought nothing better (patience)."
    for epoch in facts.settings.get("lengthened") or ():
        yield f"This run was lengthened after epoch {epoch}: the schedule began anew there."
    judgement = facts.task.judgement(facts)
    if judgement is not None:
        yield judgement


def _cards(facts: Facts) -> Html:
    last: Mapping[str, float] = facts.rows[-1] if facts.rows else {}
    score, costs = facts.task.card(facts), facts.costs
    cards: list[Card] = []
    if score is not None:
        cards.append(score)
    elif facts.pictures.get("val") == 0:
        cards.append(("val score", "-", "no pictures were held out: nothing is measured"))
    kept = {"best": "the best on validation pictures", "last": "the last"}.get(
        str(facts.settings["recipe"].get("keep"))
    )
    early = {"interrupted": "interrupted", "time": "time limit", "patience": "patience"}.get(
        str(facts.settings.get("ended"))
    )
    sessions = facts.settings.get("sessions") or 1
    cards += [
        ("classes", _number(facts.info.classes), _some(facts.names)),
        ("kept epoch", f"{_number(facts.kept_epoch)} of {_number(last.get('epoch'))}",
         "; ".join(filter(None, (kept, early and f"{facts.done}, {early}")))),
        ("pictures", _number(facts.pictures.get("train")),
         f"to learn from, {_number(facts.pictures.get('val'))} to measure"),
        ("time", _duration(last.get("seconds")),
         f"{f'in {sessions} sessions, ' if sessions > 1 else ''}"
         f"{_number(last.get('pictures_per_second'))} pictures/s in training"),
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
    text = f"Losses, scores and learning rate over {len(facts.rows)} epochs"
    return [chart(charts.curves(facts.rows, facts.kept_epoch), text)]


def _data(facts: Facts) -> list[Html]:
    check, used = facts.check, facts.setting("pictures")
    if check is None:
        return [tag("p", "What is in the data set is unknown: mobilenetv2 check finds out.")]
    columns: dict[str, Sequence[int]] = {**check.counts}
    for title, part in (("learned from", "train"), ("measured on", "val")):
        counts = tuple(used.get(part, ()))
        if len(counts) == len(check.names) and counts != columns.get(part):
            columns[title] = counts
    rows = [(name, *(f"{counts[i]:,}" for counts in columns.values())) for i, name in enumerate(check.names)]
    if facts.task.ADD_UP:
        rows.append(("all", *(f"{sum(counts):,}" for counts in columns.values())))
    rows += [
        (name, *(f"{numbers[part]:,}" if part in numbers else "" for part in columns))
        for name, numbers in facts.task.count_rows(facts)
    ]
    found = [facts.relative(finding) for finding in check.findings]
    if len(found) > FINDINGS:
        found[FINDINGS:] = [f"and {len(found) - FINDINGS:,} more, which mobilenetv2 check lists"]
    counted = "class" if facts.task.ADD_UP else "pictures with"
    decided = facts.settings.get("notes", [])[len(check.findings) :]  # the findings come first
    return [
        table(rows, header=(counted, *columns), right=range(1, len(columns) + 1), class_="counts"),
        *sentences("What the data check found:" if found else "The data check found nothing wrong.", found),
        *(sentences("What follows from that, and from the starting weights:", decided) if decided else []),
        *facts.task.gallery(facts),
    ]


def _recipe(facts: Facts) -> list[Html]:
    recipe, changed = facts.settings["recipe"], facts.setting("recipe_changed")
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
    machine, versions = facts.setting("machine"), facts.setting("versions")
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
    places = "".join(f" --{name} {shlex.quote(str(place))}" for name, place in facts.setting("places").items())
    repeat, where = facts.settings.get("command"), facts.settings.get("directory")
    return [
        tag("p", "What is on a photo; how good the model is on labelled pictures; what its file holds:"),
        command(f"mobilenetv2 predict {model} photo.jpg{facts.task.PREDICT}\n"
                f"mobilenetv2 evaluate {model} {dataset}{places}\n"
                f"mobilenetv2 info {model}"),
        tag("p", "In Python:"),
        command(f"import mobilenetv2\n\npredictor = mobilenetv2.load({os.path.abspath(facts.files.model)!r})\n"
                'print(predictor("photo.jpg"))'),
        tag("p", "The same run again, into another folder (--out)" + (f", in {where}" if where else "") + ":"),
        command(repeat) if isinstance(repeat, str) else tag("p", "unknown"),
    ]  # fmt: skip


def _classes(facts: Facts) -> str:
    return "one class" if facts.info.classes == 1 else f"{facts.info.classes} classes"


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
