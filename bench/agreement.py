"""Our answers beside another runtime's on the same pictures: accuracy of both, and how often the first answers agree.

    python bench/agreement.py MODEL LIST.txt ANSWERS.csv [--resize none --crop 224 --backend torch]

LIST has `path,label` lines; ANSWERS has a header and lines `file name,label,top1,...,top5` with -1 for background.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Annotated

import typer

from mobilenetv2.data.classification import open_classification
from mobilenetv2.errors import Error
from mobilenetv2.predictor import load


def main(
    model: str,
    listing: Path,
    answers: Path,
    resize: str = "none",
    crop: int = 224,
    backend: Annotated[str, typer.Option()] = "reference",
) -> None:
    predictor = load(model, backend=backend, resize="none" if resize == "none" else int(resize), crop=crop)
    data = open_classification(listing, classes=predictor.info)
    with open(answers, newline="") as file:
        theirs = {row[0]: [int(value) for value in row[2:7]] for row in list(csv.reader(file))[1:]}
    ours_right, theirs_right, same = [0, 0], [0, 0], 0
    results = predictor.many([sample.path for sample in data.samples], top=5, with_background=True, batch=8)
    for sample, result in zip(data.samples, results, strict=True):
        assert not isinstance(result, Error)  # errors are raised
        ours = [prediction.index for prediction in result.predictions]
        other = theirs[sample.path.name]
        for right, answer in ((ours_right, ours), (theirs_right, other)):
            right[0] += answer[0] == sample.label
            right[1] += sample.label in answer
        same += ours[0] == other[0]
    n = len(data.samples)
    print(f"{n} pictures; answers as the network gives them, background among them")
    print(f"ours    top-1 {100 * ours_right[0] / n:.2f} %  top-5 {100 * ours_right[1] / n:.2f} %  ({backend})")
    print(f"theirs  top-1 {100 * theirs_right[0] / n:.2f} %  top-5 {100 * theirs_right[1] / n:.2f} %")
    print(f"the same first answer: {same} of {n}, {100 * same / n:.1f} %")


if __name__ == "__main__":
    typer.run(main)
