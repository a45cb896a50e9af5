"""One runtime with one network in a process of its own, which is told over stdin how often to run.

python -m mobilenetv2.benchmark.worker RUNTIME STEM THREADS BATCH HEIGHT WIDTH CHANNELS RESULT

Beside the files that runtimes read lies STEM.npz: the outputs, and the "mask", that the first picture should give. The
picture is STEM.npy, or noise. The first line of the answer, and then one for each line with a number, are JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from mobilenetv2.benchmark.runtimes import RUNTIMES, Array, Result, Run


def picture(size: tuple[int, int], *, channels: int = 3, batch: int = 1) -> Array:
    """float32 [B, H, W, C], as normalised pictures have it: always the same ones."""
    return np.random.default_rng(1).normal(size=(batch, *size, channels)).astype(np.float32)


def pixels_of(stem: Path, size: tuple[int, int], *, channels: int, batch: int) -> Array:
    """float32 [B, H, W, C]: the picture that was stored, again and again, or noise."""
    stored = stem.with_suffix(".npy")
    return np.repeat(np.load(stored), batch, 0) if stored.exists() else picture(size, channels=channels, batch=batch)


def started(name: str, stem: Path, threads: int, pixels: Array, result: Result) -> Run:
    """The runtime with its model, which gives the network's outputs or masks."""
    runtime, mask = RUNTIMES[name], result == "mask"
    start = runtime.mask if mask and runtime.mask is not None else runtime.start
    run = start(runtime.file(stem, mask=mask), threads, pixels)
    if result != "mask after":
        return run
    from mobilenetv2.benchmark import masks

    return masks.after(run, stem, threads, pixels.shape[1:3])


def main(name: str, stem: Path, threads: int, batch: int, size: tuple[int, int], channels: int, result: Result) -> None:
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = str(threads)
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a runtime prints is not a reply
    pixels = pixels_of(stem, size, channels=channels, batch=batch)
    before, begun = _peak_bytes(), time.perf_counter()
    run = started(name, stem, threads, pixels, result)
    answers = [np.array(values) for values in run()]
    first = time.perf_counter() - begun
    with np.load(stem.with_suffix(".npz")) as expected:
        names = [name for name in expected.files if (name == "mask") == (result != "outputs")]
        difference = max(_difference(answers, expected[name]) for name in names)
    reply = {"difference": difference, "first_s": first, "peak_bytes": _peak_bytes() - before}
    print(json.dumps(reply), file=replies, flush=True)
    for line in sys.stdin:
        times: list[float] = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), file=replies, flush=True)
    os._exit(0)  # some runtimes' threads do not end by themselves


def _difference(answers: Sequence[Array], expected: Array) -> float:
    """To that answer for the first picture which is the nearest: runtimes have outputs in orders of their own.

    A part of the largest output; of masks, the share of pixels with another class.
    """
    same = [answer[:1] for answer in answers if answer.shape[1:] == expected.shape[1:]]
    if expected.dtype == np.uint8:
        return min((float((one != expected).mean()) for one in same), default=float("inf"))
    return min((float(np.abs(one - expected).max() / np.abs(expected).max()) for one in same), default=float("inf"))


def _peak_bytes() -> int:
    """The most memory that this process has had; 0 where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    height, width = int(sys.argv[5]), int(sys.argv[6])
    main(
        sys.argv[1],
        Path(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]),
        (height, width),
        int(sys.argv[7]),
        cast("Result", sys.argv[8]),
    )
