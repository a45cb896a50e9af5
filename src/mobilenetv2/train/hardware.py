"""On what a run is: devices, processes and precision, checked before anything is read or written."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from mobilenetv2 import checks
from mobilenetv2.errors import UsageError, unknown_name

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")
MOST_PROCESSES = 256  # devices of a machine without GPUs, and workers of a device: each is a process of 300 MB

_OTHER_NAMES = {
    **dict.fromkeys(("32", "fp32", "float32", "f32", "full"), "32-true"),
    **dict.fromkeys(("bf16", "bfloat16"), "bf16-mixed"),
    **dict.fromkeys(("16", "fp16", "float16", "f16", "half", "amp", "mixed"), "16-mixed"),
}


@dataclass(frozen=True, slots=True)
class Hardware:
    """`devices` are those of a machine, `nodes` the machines, `rank` is which of all processes this is, the first being
    0. `precision` is Lightning's. `note` says what was decided otherwise than asked, or is None."""

    accelerator: str
    devices: int
    nodes: int
    rank: int
    precision: str
    note: str | None = None

    @property
    def processes(self) -> int:
        return self.devices * self.nodes

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0


def choose(*, accelerator: str, devices: int, nodes: int, precision: str, workers: int | None) -> Hardware:
    """What `fit` was asked for, as it is on this machine. Raises `UsageError` for what does not exist, or not here."""
    if accelerator not in ACCELERATORS:
        raise unknown_name("accelerator", str(accelerator), ACCELERATORS)
    checks.whole("devices", devices)
    checks.whole("nodes", nodes)
    if workers is not None:
        checks.whole("workers", workers, 0, MOST_PROCESSES)
    on_gpu, on_mps = on_cuda(accelerator), on_apple(accelerator)
    if accelerator in ("gpu", "cuda", "mps") and not (on_gpu or on_mps):
        raise UsageError(f"accelerator is {accelerator}, and PyTorch finds none here: use cpu or auto")
    devices, nodes, rank = place(devices, nodes)
    most = torch.cuda.device_count() if on_gpu else 1 if on_mps else MOST_PROCESSES
    if devices > most:
        kind = f"there {'is one GPU' if most == 1 else f'are {most} GPUs'} here" if on_gpu or on_mps else "on CPUs"
        raise UsageError(f"devices must be at most {most}, got {devices}: {kind}")
    return Hardware(accelerator, devices, nodes, rank, *_precision(precision, on_gpu=on_gpu, on_mps=on_mps))


def place(devices: int, nodes: int) -> tuple[int, int, int]:
    """How many devices a node has, how many nodes there are, and which of all processes this is."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local, int(os.environ["RANK"])
    # the other processes are started by Lightning with the same command and these variables
    return devices, nodes, int(os.environ.get("NODE_RANK", 0)) * devices + int(os.environ.get("LOCAL_RANK", 0))


def on_cuda(accelerator: str) -> bool:
    """Whether Lightning's `accelerator` means an NVIDIA or AMD GPU here."""
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def on_apple(accelerator: str) -> bool:
    """Whether it means an Apple GPU here."""
    return accelerator in ("auto", "gpu", "mps") and not on_cuda(accelerator) and torch.backends.mps.is_available()


def _precision(asked: str, *, on_gpu: bool, on_mps: bool) -> tuple[str, str | None]:
    if asked not in PRECISIONS:
        if meant := _OTHER_NAMES.get(str(asked).lower()):
            raise UsageError(f"unknown precision {str(asked)!r}: did you mean {meant!r}?")
        raise unknown_name("precision", str(asked), PRECISIONS)
    if asked == "auto":
        if on_gpu:
            return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed", None
        return "32-true", None
    if asked == "16-mixed" and not (on_gpu or on_mps):  # PyTorch has no float16 for CPUs
        return "bf16-mixed", "precision 16-mixed is for GPUs: bf16-mixed is used on this CPU"
    return asked, None
