"""Whether other processes use the cores: they slow the two sides of a comparison unevenly."""

import os
import time
from pathlib import Path

WINDOW = 2.0  # seconds of listening before and after
LIMIT = 0.05  # share of all cores' time that others may take
_BUSY = (0, 1, 2, 5, 6, 7)  # of /proc/stat: user, nice, system, irq, softirq, stolen by the host
Moment = tuple[float, float]


def moment() -> Moment | None:
    """Seconds on the clock, CPU seconds of all other processes; None where there is no account."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    busy = sum(int(fields[i]) for i in _BUSY) / os.sysconf("SC_CLK_TCK")
    return time.monotonic(), busy - sum(os.times()[:4])


def share(since: Moment | None, until: Moment | None) -> float | None:
    """Which share of all cores' time other processes took between two moments."""
    if since is None or until is None:
        return None
    cores_in_use = (until[1] - since[1]) / (until[0] - since[0])
    return max(0.0, cores_in_use / (os.cpu_count() or 1))


def listen() -> float | None:
    """The share of others over the next two seconds, in which this process sleeps."""
    before = moment()
    time.sleep(WINDOW)
    return share(before, moment())


def is_quiet(share: float | None) -> bool:
    """Whether timings stand; not where nothing is known."""
    return share is not None and share <= LIMIT
