"""How long the command line takes to answer, and how large the package is: a report in bench/results.

    python bench/startup.py

Medians of whole processes, so the interpreter's own start is in each figure.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import time

from machine import report_path
from points import stem, write_models

from mobilenetv2.engine.cpu import model_name

ROUNDS = 9
MODEL = str(stem("1.0 @ 224").with_suffix(".safetensors"))
ANSWER = (
    f"import numpy as np; from mobilenetv2.engine import Engine; "
    f"Engine({MODEL!r}).run(np.zeros((1, 224, 224, 3), np.uint8))"
)
UNCACHED = "engine to first answer, 1.0 at 224, nothing cached"
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import mobilenetv2": ["-c", "import mobilenetv2"],
    "import numpy": ["-c", "import numpy"],
    "mobilenetv2 --help": ["-m", "mobilenetv2.cli", "--help"],
    "mobilenetv2 models": ["-m", "mobilenetv2.cli", "models"],
    "mobilenetv2.load (imports alone)": ["-c", "import mobilenetv2; mobilenetv2.load"],
    "engine to first answer, 1.0 at 224, code cached": ["-c", ANSWER],
    UNCACHED: ["-c", ANSWER],
}


def main() -> None:
    write_models()
    subprocess.run([sys.executable, "-c", ANSWER], check=True)  # fills the cache
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):  # interleaved: a busy moment hits all alike
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            environment = {**os.environ, "MOBILENETV2_CACHE": "off"} if name == UNCACHED else None
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
            seconds[name].append(time.perf_counter() - start)
    cpu = model_name()
    rows = [
        f"| `{name}` | {statistics.median(values):.3f} | {min(values):.3f} | {max(values):.3f} |"
        for name, values in seconds.items()
    ]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("mobilenetv2", "numpy", "typer"))
    today = datetime.date.today()
    machine = f"{cpu}, {os.cpu_count()} CPUs, {platform.system()}"
    report = "\n".join(
        [
            "# Start-up",
            "",
            f"{machine}, Python {platform.python_version()}, {versions}, {today}.",
            f"`python bench/startup.py`: seconds of whole processes, {ROUNDS} interleaved rounds.",
            "",
            "| command | median | least | most |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
    path = report_path("startup")
    path.write_text(report)
    print(report)
    print(f"written to {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
