"""Whether other processes left the cores alone: shared cores slow the two sides unevenly."""

import dataclasses
import os
import time
from pathlib import Path

WINDOW = 2.0  # seconds of listening before and after
LIMIT = 0.05  # share of all cores' time that others may take
_BUSY = (0, 1, 2, 5, 6, 7)  # of /proc/stat: user, nice, system, irq, softirq, stolen by the host


@dataclasses.dataclass(frozen=True)
class Moment:
    """Seconds on the clock, and CPU seconds of everybody else, since some time."""

    clock: float
    others: float


def moment() -> Moment | None:
    """The present moment, or None where the system keeps no such account."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return None
    busy = sum(int(fields[i]) for i in _BUSY) / os.sysconf("SC_CLK_TCK")
    return Moment(time.monotonic(), busy - sum(os.times()[:4]))


def share(since: Moment | None, until: Moment | None) -> float | None:
    """Which share of all cores' time other processes took between two moments."""
    if since is None or until is None:
        return None
    cores = os.cpu_count() or 1
    return max(0.0, (until.others - since.others) / (until.clock - since.clock) / cores)


def listen() -> float | None:
    """The share of others over the next two seconds, in which this process sleeps."""
    before = moment()
    time.sleep(WINDOW)
    return share(before, moment())


def is_quiet(share: float | None) -> bool:
    """Whether timings stand; not where nothing is known."""
    return share is not None and share <= LIMIT
