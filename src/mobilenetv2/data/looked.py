"""Pictures and their masks, each read once: what of them can be learned from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mobilenetv2.data.check import Progress
from mobilenetv2.data.classification import Sample
from mobilenetv2.data.examine import Examined, examine_one
from mobilenetv2.data.masks import IGNORE
from mobilenetv2.data.segmentation import SegmentationData, SegmentationSample
from mobilenetv2.data.segmentation_augment import sizes_differ
from mobilenetv2.errors import Error

_CHUNK = 64  # pictures that wait in memory


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A picture and its mask, read: `pixels[i]` counts those of class i, `ignored` those that do not count.

    `problem` says why the picture cannot be read, `mask_problem` why the mask cannot be used; `pixels` is empty then.
    `blank` is where nothing of a mask counts.
    """

    sample: SegmentationSample
    digest: str
    problem: str | None
    mask_problem: str | None
    pixels: tuple[int, ...] = ()
    ignored: int = 0
    size: tuple[int, int] = (0, 0)  # height, width

    @property
    def blank(self) -> bool:
        return self.ignored > 0 and not any(self.pixels)

    @property
    def usable(self) -> bool:
        """Whether something can be learned from it."""
        return self.problem is None and self.mask_problem is None and not self.blank


def look_at_all(parts: Mapping[str, SegmentationData], *, progress: Progress | None = None) -> dict[str, list[Looked]]:
    """Every picture with its mask read, by part; `progress` as in `check`."""
    samples = [(part, sample) for part, data in parts.items() for sample in data.samples]
    found: dict[str, list[Looked]] = {part: [] for part in parts}
    classes = len(next(iter(parts.values())).names)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        for start in range(0, len(samples), _CHUNK):
            chunk = samples[start : start + _CHUNK]
            looked = pool.map(lambda one: look(one[1], classes), chunk)
            for done, ((part, _), one) in enumerate(zip(chunk, looked, strict=True), start=start + 1):
                found[part].append(one)
                if progress is not None:
                    progress(done, len(samples))
    return found


def look(sample: SegmentationSample, classes: int) -> Looked:
    """Read a picture and its mask."""
    picture: Examined = examine_one(Sample(sample.path, 0)).without_pixels()
    try:
        mask_HW = sample.read_mask()
    except Error as error:
        return Looked(sample, picture.digest, picture.problem, str(error))
    if picture.problem is None and picture.shape != mask_HW.shape:
        return Looked(sample, picture.digest, None, sizes_differ(sample, picture.shape, mask_HW.shape))
    counts = np.bincount(mask_HW.reshape(-1), minlength=256)
    pixels = tuple(counts[:classes].tolist())
    return Looked(sample, picture.digest, picture.problem, None, pixels, int(counts[IGNORE]), mask_HW.shape)
