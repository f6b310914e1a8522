"""Peak memory of a trial."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

# Linux starts to measure anew when 5 is written here (proc_pid_clear_refs(5)).
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def reset_peak() -> None:
    """Let the peak begin at what is in use now; elsewhere than on Linux it is that of the whole process."""
    if CLEAR.exists():
        CLEAR.write_text("5")


def peak_mib() -> float:
    """Return the largest resident memory of this process since `reset_peak`, in MiB."""
    if CLEAR.exists():
        [line] = [line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) / 2**10
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)
