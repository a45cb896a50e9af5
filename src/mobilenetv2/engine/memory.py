"""How much memory there is, asked before much of it is taken."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mobilenetv2.errors import Error
from mobilenetv2.limits import GIB, MIB

# Less than this is simply taken: asking costs 30 to 100 microseconds, and every network of the paper stays below it
UNASKED = 64 * MIB


def require(size: int, what: str, way_out: str, *, error: type[Error] = Error) -> None:
    """Raises `error` where `size` bytes for `what` are more than there are: how many of each, and the `way_out`."""
    if size > UNASKED and size > (there := available()):
        raise error(f"{what} needs {shown(size)} of memory, and {shown(there)} is available: {way_out}")


def available() -> int:
    """Bytes that this process may still take: what the system can give without swapping, within the limits of the
    process (ulimit -v) and of its container."""
    return max(min(_of_system(), _of_container(), of_process()), 0)


def shown(size: int) -> str:
    """ "14.6 GiB", "1.2e+09 GiB"."""
    if size < GIB:
        return f"{size / MIB:,.1f} MiB"
    if size < GIB * 10**6:
        return f"{size / GIB:,.1f} GiB"
    try:
        return f"{size / GIB:.1e} GiB"
    except OverflowError:
        return "more than 1e300 GiB"


def _of_system() -> int:
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return sys.maxsize


def _of_container() -> int:
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):  # version 2, version 1
        if (text := _text(place).strip()).isdecimal():
            return int(text)
    return sys.maxsize


def of_process() -> int:
    """Bytes of address space that this process may still take."""
    try:
        import resource
    except ImportError:  # Windows
        return sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    taken = _text("/proc/self/statm").split()
    return limit - int(taken[0]) * resource.getpagesize() if taken else limit


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
