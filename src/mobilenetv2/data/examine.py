"""Every picture of a data set read once, and what came of it: kept between runs for pictures in shards."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mobilenetv2 import __version__, image
from mobilenetv2.data import shard_files
from mobilenetv2.data.classification import Sample
from mobilenetv2.data.shards import Shard, ShardMember
from mobilenetv2.errors import FileError, ImageError

_SUFFIX = ".examined"


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """A picture: the SHA-256 of its file, and its RGB pixels [H, W, 3] or why it cannot be read."""

    sample: Sample
    digest: str
    pixels: npt.NDArray[np.uint8] | None
    problem: str | None
    shape: tuple[int, int] = (0, 0)  # height, width

    def without_pixels(self) -> Examined:
        return dataclasses.replace(self, pixels=None)


def examine(samples: Iterable[Sample], *, chunk: int = 64) -> Iterator[Examined]:
    """Every picture read, in order. Chunks bound what waits in memory. What came of whole shards is kept.

    Raises `DownloadError` and `DatasetError` where a shard cannot be had or has changed.
    """
    waiting = list(samples)
    of_shard: list[Examined] = []
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode") as pool:
        for start in range(0, len(waiting), chunk):
            for one in pool.map(examine_one, waiting[start : start + chunk]):
                if of_shard and _shard(one.sample) != _shard(of_shard[0].sample):
                    _keep(of_shard)
                    of_shard = []
                if _shard(one.sample) is not None:
                    of_shard.append(one.without_pixels())
                yield one
    _keep(of_shard)


def recall(samples: Sequence[Sample]) -> list[Examined] | None:
    """What `examine` found before, without the pixels; None where not all of these lie in shards that it has read."""
    found: list[Examined] = []
    for shard, run in itertools.groupby(samples, key=_shard):
        known = None if shard is None else _kept(shard)
        if known is None:
            return None
        for sample in run:
            assert isinstance(sample.picture, ShardMember)
            if (row := known.get(sample.picture.name)) is None:
                return None
            digest, problem, height, width = row
            found.append(Examined(sample, digest, None, problem, (height, width)))
    return found


def examine_one(sample: Sample) -> Examined:
    """One picture, read."""
    digest, pixels, problem = "", None, None
    try:
        digest = hashlib.sha256(sample.read_bytes()).hexdigest()
        pixels = image.read(sample.picture)
    except (ImageError, FileError) as error:
        problem = str(error)
    shape = (0, 0) if pixels is None else (pixels.shape[0], pixels.shape[1])
    return Examined(sample, digest, pixels, problem, shape)


def _shard(sample: Sample) -> Shard | None:
    return sample.picture.shard if isinstance(sample.picture, ShardMember) else None


def _keep(ones: Sequence[Examined]) -> None:
    """Keep what was found in a shard; nothing where the disk refused, which another time it may not."""
    if not ones or any(not one.digest for one in ones):
        return
    shard = _shard(ones[0].sample)
    assert shard is not None
    rows = {
        one.sample.picture.name: (one.digest, one.problem, *one.shape)
        for one in ones
        if isinstance(one.sample.picture, ShardMember)
    }
    shard_files.keep(shard, _SUFFIX, json.dumps([__version__, rows], separators=(",", ":")).encode())


def _kept(shard: Shard) -> dict[str, tuple[str, str | None, int, int]] | None:
    text = shard_files.kept(shard, _SUFFIX)
    if text is None:
        return None
    version, rows = json.loads(text)
    return rows if version == __version__ else None
