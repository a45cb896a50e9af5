"""Our masks beside those that another program stored: mean IoU of both, and on how many pixels they agree.

    python bench/mask_agreement.py DATASET MASKS [--model MODEL] [--backend engine] [--split val]

MASKS is a folder with a PNG of class numbers of each picture's name. Without a model only the stored masks are scored.
"""

from __future__ import annotations

from pathlib import Path

import typer

from mobilenetv2 import evaluate_segmentation as evaluation
from mobilenetv2.data.segmentation import open_segmentation
from mobilenetv2.predictor import load


def main(
    dataset: Path, masks: Path, model: str | None = None, backend: str = "engine", split: str | None = None
) -> None:
    predictor = None if model is None else load(model, backend=backend)
    names = None if predictor is None else evaluation.class_names(predictor.info)
    data = open_segmentation(dataset, split=split, classes=names)
    theirs = evaluation.evaluate_masks(data, evaluation.stored_masks(data, masks), backend=str(masks))
    print(f"theirs  {theirs.n} pictures, mean IoU {100 * theirs.scores.miou:.2f} %  ({masks.name})")
    if predictor is not None:
        ours = evaluation.evaluate(predictor, data)
        print(f"ours    {ours.n} pictures, mean IoU {100 * ours.scores.miou:.2f} %  ({backend})")
        print(f"the same class: {100 * evaluation.share_of_equal_pixels(ours, theirs):.2f} % of all pixels")


if __name__ == "__main__":
    typer.run(main)
