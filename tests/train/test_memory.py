"""Memory is kept while training runs, and given back after it."""

import ctypes
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from mobilenetv2.train.memory import keeping_memory

BYTES = 256 << 20


def page_faults() -> int:
    """How many pages the system had to clear for a block that was written to."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(BYTES, np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs the C library glibc"
)
def test_a_freed_block_is_used_again_and_given_back_at_the_end() -> None:
    usual = page_faults()
    with keeping_memory():
        page_faults()
        assert page_faults() < usual / 10
        kept = resident()
    assert resident() < kept - BYTES / 2
    assert page_faults() > usual / 2


def test_an_error_passes_through() -> None:
    with pytest.raises(KeyError), keeping_memory():
        raise KeyError
