"""The writers of TFLite files, for those who test their import."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tflite_detector_files import write_detector
from tflite_files import Author, write_network
from tflite_segmentation_files import write_segmenter


@pytest.fixture(scope="session")
def author() -> Callable[..., Author]:
    """`author(model, ...)`: the model as a converter would write it to a TFLite file."""
    return write_network


@pytest.fixture(scope="session")
def author_of_detectors() -> Callable[..., Author]:
    """`author_of_detectors(model, ...)`: the detector as TensorFlow's exporter would write it to a TFLite file."""
    return write_detector


@pytest.fixture(scope="session")
def author_of_segmenters() -> Callable[..., Author]:
    """`author_of_segmenters(model, ...)`: the network as TensorFlow's exporter would write it to a TFLite file."""
    return write_segmenter
