"""The most memory that a program has had."""

from __future__ import annotations

import resource
from pathlib import Path


def peak() -> int:
    """Return the most memory that this program has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux `ru_maxrss` begins with what the process had that started this one (`exec` keeps the maximum).
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
