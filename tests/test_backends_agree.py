"""Every backend gives the same answers, on real pictures and real weights."""

from pathlib import Path

import numpy as np
import pytest

import mobilenetv2
from mobilenetv2.importers import import_file

AGREE = 1e-5  # of the largest logit: float32 sums in different orders


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["tf2_mobilenet_v2_1.0_224_ptq", "mobilenet_v2_1.0_224_quant"])
def test_engine_and_torch_give_the_same_first_answer_for_every_picture(real_data: Path, weights: str) -> None:
    model = import_file(real_data / "weights" / "google-coral" / f"{weights}.tflite")
    folder = real_data / "classification" / "imagenet_val_300"
    names = [line.rpartition(",")[0] for line in (folder / "dataset.txt").read_text().splitlines()]
    photos = [folder / name for name in names if (folder / name).is_file()]
    assert len(photos) == 300
    engine, torch = (mobilenetv2.load(model, backend=name, resize="none", crop=224) for name in ("engine", "torch"))
    for photo in photos:
        found, expected = (predictor.raw(photo)[0]["logits"] for predictor in (engine, torch))
        assert found.argmax() == expected.argmax(), photo
        assert np.abs(found - expected).max() < AGREE * np.abs(expected).max(), photo
