"""Section 5 of the paper on this machine: memory and time of blocks in t parts, with the engine's kernels.

    python bench/section5.py

One thread, bound to one core; every t is compared with t = 1 before anything is timed, and all take turns.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time

import machine
from points import ROOT

from mobilenetv2.engine import cpu as cpus
from mobilenetv2.paper import section5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="input size in pixels")
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    def progress(done: int, total: int) -> None:
        if done % 10 == 0:
            print(f"{done} of {total}", file=sys.stderr, flush=True)

    splits = section5.measure(size=options.size, rounds=options.rounds, progress=progress)
    timed = {split.t: split.seconds for split in splits if split.seconds is not None}
    best = min((seconds, t) for t, seconds in timed.items() if t)
    lines = [
        f"# Blocks in t parts, width 1.0 at {options.size}, float32, one thread",
        "",
        f"{cpus.model_name()}, {os.cpu_count()} CPUs, {platform.system()}, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}; medians of {options.rounds} rounds. `python bench/section5.py`",
        "",
        section5.table(splits).markdown(),
        "",
        f"Fastest in parts: t = {best[1]}. Time is of the 16 blocks with an expansion, each part's map added to the "
        "sum of those before it. Bytes of our kernels: the block that needs most, with its input and output; of the "
        "engine's own schedule: the arena of the whole network.",
        "",
    ]
    path = machine.report_path("section5")
    path.write_text("\n".join(lines))
    path.with_suffix(".png").write_bytes(section5.draw(splits))
    print("\n".join(lines))
    print(f"written to {path.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
