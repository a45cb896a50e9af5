"""How many pictures a second this machine trains on just now, by their size and the number of threads."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mobilenetv2.nn import mobilenet_v2
from mobilenetv2.train import hardware
from mobilenetv2.train.memory import keeping_memory
from mobilenetv2.train.recipes import Recipe
from mobilenetv2.train.running import own_random_state

_LEAST_STEPS = 2  # of each measurement, however long they take; one more comes first and is not counted


@dataclass(frozen=True, slots=True)
class Speed:
    """Pictures per second of bare training steps with `threads` threads, by the pictures' size in pixels.

    Reading, augmentation and measuring come on top: a run manages about `IN_A_RUN` of it.
    """

    threads: int
    pictures_per_second: Mapping[int, float]


IN_A_RUN = 0.75  # 0.70 to 0.83 of it at 48 to 96 pixels, width 0.35, batch 32, one thread of a Zen 4 server, 11.2026


def measure(
    recipe: Recipe, sizes: Sequence[int], *, classes: int, threads: Sequence[int] | None = None, seconds: float = 5.0
) -> Speed | None:
    """Training steps of the recipe's network from random weights, for about `seconds` in all.

    `threads` are the numbers to choose from, 1 and torch's own by default: beside busy programs one thread is often
    faster than two, which wait for each other (batches of 32 at 64 pixels, two cores with a load of 4: 129 and 290 ms
    a step). They are compared at the middle one of `sizes`. None where a GPU would train.
    """
    if hardware.on_cuda("auto"):
        return None
    counts = sorted({1, torch.get_num_threads()}) if threads is None else list(threads)
    middle = sorted(sizes)[len(sizes) // 2]
    share = seconds / (len(counts) + len(sizes) - 1)
    with own_random_state(recipe.seed), keeping_memory():
        network = mobilenet_v2(num_classes=classes, width_mult=recipe.width_mult or 1.0)
        network = network.to(memory_format=torch.channels_last).train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        labels = torch.arange(recipe.batch_size) % classes

        def pictures_per_second(size: int) -> float:
            images = torch.randn(recipe.batch_size, 3, size, size).to(memory_format=torch.channels_last)
            steps, began = -1, time.monotonic()
            while steps < _LEAST_STEPS or time.monotonic() - began < share:
                optimiser.zero_grad()
                F.cross_entropy(network(images), labels).backward()
                optimiser.step()
                steps += 1
                if not steps:  # the first one asks for memory and starts threads
                    began = time.monotonic()
            return steps * recipe.batch_size / (time.monotonic() - began)

        found: dict[int, float] = {}
        for count in counts:
            with using_threads(count):
                found[count] = pictures_per_second(middle)
        best = max(found, key=lambda count: found[count])
        with using_threads(best):
            by_size = {size: found[best] if size == middle else pictures_per_second(size) for size in sizes}
    return Speed(best, by_size)


@contextlib.contextmanager
def using_threads(count: int) -> Iterator[None]:
    """torch's operations use `count` threads within this block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
