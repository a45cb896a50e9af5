"""`make fuzz`: cases of every class in forked children, what became of them, and where faults were found."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

for _threads in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX"):
    os.environ.setdefault(_threads, "1")  # before NumPy comes: a parent that forks has no threads

from fuzz import campaign  # noqa: E402 - behind the environment


def main() -> int:
    options = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    options.add_argument("--cases", type=int, default=20_000, help="of all classes together (default: 20,000)")
    options.add_argument("--seed", type=int, default=0, help="another one gives other cases (default: 0)")
    options.add_argument("--class", dest="classes", action="append", metavar="NAME", help="one class; may be repeated")
    options.add_argument("--case", type=int, help="run this one again and keep what it was given; needs --class")
    options.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="children at a time (default: 2)"
    )
    options.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where faults go (default: build/fuzz)")
    options.add_argument("--each", action="store_true", help="--cases are those of each class")
    options.add_argument("--json", action="store_true", help="the results as one JSON object on stdout")
    options.add_argument("--list", action="store_true", help="the classes")
    chosen = options.parse_args()
    known = campaign.targets()
    if chosen.list:
        print("\n".join(known))
        return 0
    names = [name for one in chosen.classes or known for name in one.split(",")]
    if unknown := [name for name in names if name not in known]:
        options.error(f"no class {unknown[0]}: there are {', '.join(known)}")
    if chosen.case is not None:
        if len(names) != 1:
            options.error("--case needs the one --class that it is of")
        return campaign.replay(known[names[0]], chosen.seed, chosen.case, chosen.out)
    counts = campaign.shares([known[name] for name in names], chosen.cases, each=chosen.each)
    found = campaign.run(counts, seed=chosen.seed, jobs=chosen.jobs, out=chosen.out)
    if chosen.json:
        print(json.dumps({name: asdict(result) for name, result in found.items()}))
    else:
        print(campaign.text(found, seed=chosen.seed, out=chosen.out))
    return 1 if any(result.faults for result in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
