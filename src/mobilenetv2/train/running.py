"""How a run is stopped without losing anything, and kept quiet and repeatable around Lightning."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator

import torch

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):  # noqa: N818 : not an error
    """The run was asked to stop, and everything is saved."""


class StopRequest:
    """Whether Ctrl-C or SIGTERM asked the run to stop after the current step."""

    asked = False


@contextlib.contextmanager
def interruptible(stop: StopRequest) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM asks `stop`, the second does what it always did. Lightning's handling would end the
    process."""
    if threading.current_thread() is not threading.main_thread():  # signals come to the main thread only
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def ask(number: int, frame: object) -> None:
        stop.asked = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    for number in _SIGNALS:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without Lightning's lines about devices and processes, its advertisements, and warnings that are its own or about
    its own code: what concerns the user is said in our words."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            # Lightning 2.6 asks torch's trees for their leaves as torch 2.15 no longer wants to be asked
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """torch's CPU generator seeded, and given back as it was. Numbers too small for full precision are flushed to 0:
    they make the first steps from random weights several times as slow."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)
