"""Two models on the same pictures: how often they agree, and whether one is right more often than by chance."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mobilenetv2 import evaluate, files, image, labels, plots
from mobilenetv2.data.classification import ClassificationData, Sample
from mobilenetv2.errors import DatasetError, UsageError
from mobilenetv2.evaluate import Evaluation, cut, json_number
from mobilenetv2.model_file import ModelInfo
from mobilenetv2.predictor import Predictor
from mobilenetv2.results import Prediction
from mobilenetv2.text import LONGEST_LINE, joined, plain

LISTED = 10  # differences in the text
DRAWN = 60  # differences on the contact sheet


@dataclass(frozen=True, slots=True)
class Difference:
    """A picture with two first answers; both are named and numbered as the first model does it."""

    sample: Sample
    first: Prediction
    second: Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """How two models did on one data set; the counts are of the `n` pictures that both could read.

    `models` are their names, `first` and `second` their evaluations. `same` pictures got the same first answer.
    `both_right`, `only_first`, `only_second` and `neither` say whose first answer was right; their sum is n.
    `kappa` is `cohen_kappa` of the first answers. `differences` are in the order of the data.
    """

    models: tuple[str, str]
    first: Evaluation
    second: Evaluation
    n: int
    same: int
    both_right: int
    only_first: int
    only_second: int
    neither: int
    kappa: float
    differences: tuple[Difference, ...]

    @property
    def p_value(self) -> float:
        return mcnemar(self.only_first, self.only_second)

    @property
    def unreadable(self) -> tuple[tuple[str, str], ...]:
        """The files that one of the models could not read, each once, with the reason."""
        return tuple(dict((*self.second.unreadable, *self.first.unreadable)).items())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: the first model's evaluation, and what `beside_json` adds."""
        return {**self.first.to_json(), **self.beside_json()}

    def beside_json(self) -> dict[str, Any]:
        """What comparing adds: "model" and "beside", the models' names with the second's evaluation, and "agreement",
        the counts and every difference."""
        return {
            "model": self.models[0],
            "beside": {"model": self.models[1], **self.second.to_json()},
            "agreement": {
                "n": self.n,
                "same_answer": self.same,
                "same_answer_share": round(self.same / self.n, 6),
                "both_right": self.both_right,
                "only_first_right": self.only_first,
                "only_second_right": self.only_second,
                "neither_right": self.neither,
                "kappa": json_number(self.kappa),
                "mcnemar_p": self.p_value,  # not rounded: it may be far below 1e-6
                "differences": [
                    {
                        "file": str(found.sample.picture),
                        "true": {"index": found.sample.label, "label": self.first.names[found.sample.label]},
                        "first": _prediction(found.first),
                        "second": _prediction(found.second),
                    }
                    for found in self.differences
                ],
            },
        }

    def text(self) -> str:
        """The first model's evaluation; then the scores of both, how often they agree, and where they differ."""
        kappa = "not defined" if math.isnan(self.kappa) else f"{self.kappa:.3f}"
        return joined(
            [
                *self.first.text().split("\n"),
                "",
                *self._scores(),
                f"the same first answer on {self.same:,} of {self.n:,} pictures, {100 * self.same / self.n:.2f} %; "
                f"Cohen's kappa {kappa}",
                f"both right {self.both_right:,}, only the first {self.only_first:,}, only the second "
                f"{self.only_second:,}, neither {self.neither:,}",
                f"p = {self.p_value:.3g} that models which are equally often right differ so much "
                "(McNemar's exact test, two-sided)",
                *self._listed(),
            ]
        )

    def __str__(self) -> str:
        return self.text()

    def _scores(self) -> list[str]:
        models = [plain(name, LONGEST_LINE) for name in self.models]
        width = max(map(len, models)) + len("second: ")
        lines = [f"{'two models':{width}}  top-1 %  95 % interval  top-5 %  ECE %"]
        for place, name, found in zip(("first", "second"), models, (self.first, self.second), strict=True):
            low, high = (100 * bound for bound in found.interval95)
            lines.append(
                f"{place + ': ' + name:{width}}  {100 * found.top1:7.2f}  {f'{low:.1f} to {high:.1f}':>13}"
                f"  {100 * found.top5:7.2f}  {100 * found.calibration.ece:5.2f}"
            )
        return lines

    def _listed(self) -> list[str]:
        if not self.differences:
            return []
        some = f", the first {LISTED} of them" if len(self.differences) > LISTED else ""
        row = "  {:22}  {:30}  {:30}  {}".format
        return [
            "",
            f"they differ on {len(self.differences):,} pictures{some}:",
            row("true", "first", "second", "picture"),
            *(
                row(
                    cut(self.first.names[found.sample.label], 22), cut(_scored(found.first), 30),
                    cut(_scored(found.second), 30), found.sample.picture,
                )
                for found in self.differences[:LISTED]
            ),
        ]  # fmt: skip


def evaluate_both(
    first: Predictor,
    second: Predictor,
    data: ClassificationData,
    *,
    models: tuple[str, str] = ("first", "second"),
    progress: Callable[[int, int], None] | None = None,
    batch: int = 8,
) -> Agreement:
    """Evaluate two models on `data`, whose labels are the first's classes, and compare their first answers.

    Each prepares the pictures by its own recipe. `models` are their names in the text. Classes are matched by name
    (see `class_order`). `progress(done, total)` counts each picture twice.

    Raises `UsageError` where the models have different classes, and what `evaluate.evaluate` raises.
    """
    order = class_order(first.info, second.info, models=models)
    number = {mine: theirs for theirs, mine in enumerate(order)}
    samples = tuple(Sample(sample.picture, number[sample.label]) for sample in data.samples)
    names = tuple(second.info.label(i) for i in range(second.info.classes))
    n = len(data.samples)
    told = progress or (lambda done, total: None)
    one = evaluate.evaluate(first, data, progress=lambda done, _: told(done, 2 * n), batch=batch)
    renamed = replace(data, samples=samples, names=names)
    other = evaluate.evaluate(second, renamed, progress=lambda done, _: told(n + done, 2 * n), batch=batch)
    return compare(one, other, order, models=models)


def class_order(
    first: ModelInfo, second: ModelInfo, *, models: tuple[str, str] = ("first", "second")
) -> tuple[int, ...]:
    """For each of the second model's classes in order, which of the first's it is.

    Classes are the same where both give them the same id (WordNet's), or else the same name as `labels.match`
    understands it; a number is a name. Raises `UsageError`, which names the models, where the classes differ.
    """
    names, theirs = ([info.label(i) for i in range(info.classes)] for info in (first, second))
    if len(names) != len(theirs):
        raise UsageError(
            f"{models[0]} has {len(names)} classes and {models[1]} has {len(theirs)}: "
            "only models of the same classes can be compared"
        )
    ids, their_ids = (info.label_ids or ("",) * info.classes for info in (first, second))
    if names == theirs and (ids == their_ids or not (first.label_ids and second.label_ids)):
        return tuple(range(len(names)))
    order: list[int] = []
    for name, identity in zip(theirs, their_ids, strict=True):
        try:
            mine = _class_of(identity, names, first.label_ids)
            mine = _class_of(name, names, first.label_ids) if mine is None else mine
        except DatasetError:
            raise UsageError(
                f"{models[1]}: its class {name!r} may be one of several of {models[0]}'s: both models need labels "
                "that differ from each other"
            ) from None
        if mine is None or mine in order:
            problem = "none" if mine is None else "the same as another"
            raise UsageError(
                f"{models[1]}: its class {name!r} is {problem} of {models[0]}'s classes: only models of the same "
                "classes can be compared"
            )
        order.append(mine)
    return tuple(order)


def _class_of(written: str, names: list[str], ids: tuple[str, ...]) -> int | None:
    if not written or (written.isdecimal() and written not in names):
        return None  # "7" is the class of this name, never the class with this number
    return labels.match(written, names, ids)


def compare(
    first: Evaluation,
    second: Evaluation,
    order: Sequence[int],
    *,
    models: tuple[str, str] = ("first", "second"),
) -> Agreement:
    """Compare the first answers of two evaluations of the same pictures; `order` as `class_order` gives it.

    Raises `UsageError` where the pictures are others, and `DatasetError` where there is none that both could read.
    """
    unreadable = {file for evaluation in (first, second) for file, _ in evaluation.unreadable}
    mine, theirs = (
        [
            (sample, index, score)
            for sample, index, score in zip(
                found.samples, found.answers.tolist(), found.confidences.tolist(), strict=True
            )
            if str(sample.picture) not in unreadable
        ]
        for found in (first, second)
    )
    if [sample.picture for sample, *_ in mine] != [sample.picture for sample, *_ in theirs]:
        raise UsageError("the two evaluations are of different pictures: evaluate both models on the same data")
    if not mine:
        raise DatasetError("there is no picture that both models could read")
    differences: list[Difference] = []
    right: Counter[tuple[bool, bool]] = Counter()
    for (sample, answer, score), (_, other, other_score) in zip(mine, theirs, strict=True):
        other = order[other]
        right[answer == sample.label, other == sample.label] += 1
        if answer != other:
            answers = Prediction(answer, first.names[answer], score), Prediction(other, first.names[other], other_score)
            differences.append(Difference(sample, *answers))
    return Agreement(
        models=models,
        first=first,
        second=second,
        n=len(mine),
        same=len(mine) - len(differences),
        both_right=right[True, True],
        only_first=right[True, False],
        only_second=right[False, True],
        neither=right[False, False],
        kappa=cohen_kappa([index for _, index, _ in mine], [order[index] for _, index, _ in theirs]),
        differences=tuple(differences),
    )


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """How far two lists of answers agree beyond chance: (p - e) / (1 - e), 1 where they agree on all.

    p is the share of equal answers, e the share to be expected from how often each gives each answer (Cohen 1960).
    NaN where e is 1: of nothing, and where both always give the same single answer.
    """
    n, ones, others = len(first), Counter(first), Counter(second)
    equal = n * sum(a == b for a, b in zip(first, second, strict=True))  # times n squared, as is what follows
    expected = sum(count * others[answer] for answer, count in ones.items())
    return (equal - expected) / (n * n - expected) if n * n > expected else math.nan


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test, 0..1.

    Were both models right equally often, a picture on which one alone is right would be either's with
    probability 1/2; this is how probable a split at least as uneven as the one given is.
    """
    if min(only_first, only_second) < 0:
        raise UsageError(f"mcnemar counts pictures, from 0 up, got {only_first} and {only_second}")
    n = only_first + only_second
    ways, tail = 1, 0  # of n over i, and their sum
    for i in range(min(only_first, only_second) + 1):
        tail += ways
        ways = ways * (n - i) // (i + 1)
    return min(1.0, 2 * tail / 2**n)


def write_report(agreement: Agreement, folder: str | os.PathLike[str]) -> Path:
    """The first model's report, `agreement.json`, and `disagreements.png` where there are any; returns `folder`.

    The JSON is `beside_json()`. The picture is a contact sheet of at most 60 differences, in the order of the score of
    the less sure answer, the surest first. An edge is green where the first model is right, red where the second is,
    and missing where neither is.

    Raises `FileError`, and `ImageError` where a picture has gone since it was evaluated.
    """
    folder = evaluate.write_report(agreement.first, folder)
    found_json = json.dumps(agreement.beside_json(), ensure_ascii=False, indent=1)
    files.write_text(folder / "agreement.json", found_json + "\n")
    surest = sorted(agreement.differences, key=lambda found: -min(found.first.score, found.second.score))[:DRAWN]
    tiles: list[plots.Tile] = []
    for found in surest:
        true = found.sample.label
        lines = (
            f"first: {_scored(found.first)}",
            f"second: {_scored(found.second)}",
            f"true: {agreement.first.names[true]}",
        )
        right = found.first.index == true if true in (found.first.index, found.second.index) else None
        tiles.append(plots.Tile(plots.thumbnail(image.read(found.sample.picture)), lines, right=right))
    if tiles:
        plots.write_png(folder / "disagreements.png", plots.contact_sheet(tiles))
    return folder


def _scored(found: Prediction) -> str:
    return f"{100 * found.score:.0f} % {found.label}"


def _prediction(found: Prediction) -> dict[str, Any]:
    return {"index": found.index, "label": found.label, "score": round(found.score, 6)}
