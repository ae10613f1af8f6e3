"""Several processes that run together: each by itself, or joined by JAX's own runtime."""

import dataclasses
import hashlib
import json
import re
import secrets
import socket
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from remid_jax.errors import UserError
from remid_jax.files import write_atomically
from remid_jax.messages import log
from remid_jax.roll_call import Roll, roll_call
from remid_jax.settings import key

_ADDRESS = re.compile(r"(\[[\da-fA-F:.%]+\]|[^\s:/\[\]]+):(\d{1,5})")
AUTOMATIC = "auto"  # coordinator: JAX finds it and the other processes, as on a TPU pod
PATIENCE = 120  # seconds for all processes to come
_roll: Roll | None = None  # of processes that JAX has not joined


@dataclasses.dataclass(frozen=True)
class ProcessConfig:
    """The group `processes` of a configuration."""

    coordinator: str = key("", "HOST:PORT of process 0, or `auto`; empty: one process")
    count: int = key(1, "processes in all", "[1, inf)")
    index: int = key(0, "of this one", "[0, inf)")


def join(config: ConfigDict, devices: bool = True) -> None:
    """Joins the other processes.

    Args:
      config: with the group `processes`.
      devices: whether JAX joins them too, so that a mesh may lie over the devices of all. Without,
        each process compiles and computes by itself, and finds the programs that it compiled.

    Raises:
      UserError: numbers that do not go together, an address that cannot be, processes that do not
        come within `PATIENCE`, an index that two have, or one whose configuration is another.
    """
    p = config.processes
    if p.coordinator != AUTOMATIC and not 0 <= p.index < p.count:
        raise UserError(
            f"config.processes.index {p.index} must lie in 0..{p.count - 1} "
            "(config.processes.count - 1)"
        )
    if not p.coordinator and p.count > 1:
        raise UserError(
            f"config.processes.count is {p.count}: name process 0 in "
            "config.processes.coordinator, as HOST:PORT"
        )
    if not p.coordinator:
        return
    own = config.copy_and_resolve_references()
    own.processes.index = 0
    digest = hashlib.sha256(own.to_json(sort_keys=True).encode()).hexdigest()
    if p.coordinator == AUTOMATIC:
        _initialize(initialization_timeout=PATIENCE)
        if other := _first_other(digest):
            raise UserError(
                f"process {other} was started with another configuration than process 0"
            )
        return
    _check_address(p.coordinator)
    log.info("waiting for %d processes at %s, at most %g s", p.count, p.coordinator, PATIENCE)
    roll = roll_call(p.coordinator, p.count, p.index, digest, PATIENCE)
    if not devices:
        global _roll
        _roll = roll
        return
    roll.close()
    _initialize(
        coordinator_address=p.coordinator, num_processes=p.count, process_id=p.index,
        initialization_timeout=PATIENCE,
    )  # fmt: skip


def _check_address(coordinator: str) -> None:
    """Refuses what is no HOST:PORT, or a host that is not known."""
    found = _ADDRESS.fullmatch(coordinator)
    if not found or not 0 < int(found[2]) < 2**16:
        raise UserError(f"config.processes.coordinator is {coordinator!r}; give HOST:PORT")
    host = found[1].strip("[]")
    try:
        socket.getaddrinfo(host, int(found[2]))
    except OSError as e:
        raise UserError(
            f"config.processes.coordinator {coordinator}: {host} is not known here ({e.strerror})"
        ) from None


def _initialize(**named: Any) -> None:
    try:
        jax.distributed.initialize(**named)
    except (RuntimeError, ValueError, jax.errors.JaxRuntimeError) as e:
        reason = str(e).strip().splitlines()[0]
        raise UserError(
            f"the processes of config.processes do not come together ({reason})"
        ) from None


def process_count() -> int:
    """Processes that run together."""
    return _roll.count if _roll else jax.process_count()


def process_index() -> int:
    """Of this process."""
    return _roll.index if _roll else jax.process_index()


def is_primary() -> bool:
    """Whether this process writes what is written once."""
    return process_index() == 0


def gather(value: Any) -> list[Any]:
    """What each process says, in their order: all of them call this, and wait for one another.

    Args:
      value: that JSON can hold.

    Raises:
      UserError: a process is gone, where JAX has not joined them.
    """
    if _roll:
        return _roll.gather(value)
    if jax.process_count() == 1:
        return [value]
    said = np.frombuffer(json.dumps(value).encode(), np.uint8)
    longest = int(multihost_utils.process_allgather(np.array([len(said)])).max())
    padded = np.pad(said, (0, longest - len(said)), constant_values=ord(" "))
    every = multihost_utils.process_allgather(padded).reshape(-1, longest)
    return [json.loads(row.tobytes()) for row in every]


def barrier() -> None:
    """Waits until all processes are here."""
    gather(None)


def agree(error: UserError | None) -> None:
    """Waits for all processes; raises a UserError in each of them where one has failed."""
    failed = gather(error is not None)
    if error is not None:
        raise error
    if any(failed):
        raise UserError(f"process {failed.index(True)} has failed; it says why")


def check_folder(folder: Path) -> None:
    """Refuses a work folder that is not the same for all processes; all of them call this.

    Raises:
      UserError: some process has another path, or sees another folder there.
    """
    if process_count() == 1:
        return
    if index := _first_other(str(folder.absolute())):
        raise UserError(
            f"process {index} was started with another --workdir than process 0 "
            f"({folder.absolute()} here); give all of them the same path"
        )
    sign = folder / ".processes"
    if is_primary():
        write_atomically(sign, [secrets.token_bytes(8)])
    barrier()
    index = _first_other(sign.read_bytes().hex() if sign.exists() else "")
    if is_primary():
        sign.unlink(missing_ok=True)
    if index:
        raise UserError(
            f"process {index} does not see what process 0 writes in {folder}; --workdir must lie "
            "on a file system that all processes share"
        )


def _first_other(text: str) -> int:
    """The first process whose text is not that of process 0; 0 where all are equal."""
    every = gather(text)
    return next((i for i, other in enumerate(every) if other != every[0]), 0)
