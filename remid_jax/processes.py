"""Several processes that train together, by JAX's own runtime; one of them writes the files."""

import dataclasses
import hashlib
import re
import secrets
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from remid_jax.errors import UserError
from remid_jax.files import write_atomically
from remid_jax.settings import key

_ADDRESS = re.compile(r"(\[[\da-fA-F:.%]+\]|[^\s:/\[\]]+):(\d{1,5})")
AUTOMATIC = "auto"  # coordinator: JAX finds it and the other processes, as on a TPU pod
PATIENCE = 120  # seconds for all processes to come
_LATER = 24 * 3600  # seconds after which XLA would give up, and end the process by a signal


@dataclasses.dataclass(frozen=True)
class ProcessConfig:
    """The group `processes` of a configuration."""

    coordinator: str = key("", "HOST:PORT of process 0, or `auto`; empty: one process")
    count: int = key(1, "processes in all", "[1, inf)")
    index: int = key(0, "of this one", "[0, inf)")


def join(config: ConfigDict) -> None:
    """Joins the other processes; their devices are one machine's from now on.

    What only JAX can notice, such as an index that two processes have, ends in its own way.

    Args:
      config: of a run; its group `processes` says who takes part.

    Raises:
      UserError: numbers that do not go together, an address that cannot be, processes that do not
        come within `PATIENCE`, or one whose configuration is another.
    """
    p = config.processes
    if p.coordinator != AUTOMATIC and not 0 <= p.index < p.count:
        raise UserError(
            f"config.processes.index {p.index} must lie in 0..{p.count - 1} "
            "(config.processes.count - 1)"
        )
    if not p.coordinator:
        if p.count > 1:
            raise UserError(
                f"config.processes.count is {p.count}: name process 0 in "
                "config.processes.coordinator, as HOST:PORT"
            )
        return
    if p.coordinator == AUTOMATIC:
        _initialize(initialization_timeout=PATIENCE)
    else:
        _check_address(p.coordinator, listens=p.index == 0)
        _join_at(p.coordinator, p.count, p.index)
    _check_same(config)


def _check_address(coordinator: str, listens: bool) -> None:
    """Refuses what is no HOST:PORT, a host that is not known, or a port that is taken here."""
    found = _ADDRESS.fullmatch(coordinator)
    if not found or not 0 < int(found[2]) < 2**16:
        raise UserError(f"config.processes.coordinator is {coordinator!r}; give HOST:PORT")
    host, port = found[1].strip("[]"), int(found[2])
    try:
        socket.getaddrinfo(host, port)
    except OSError as e:
        raise UserError(
            f"config.processes.coordinator {coordinator}: {host} is not known here ({e.strerror})"
        ) from None
    if not listens:
        return
    try:  # XLA would end the process by a signal
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("", port))
    except OSError as e:
        raise UserError(
            f"process 0 cannot listen at port {port} ({e.strerror}); choose another in "
            "config.processes.coordinator"
        ) from None


def _join_at(coordinator: str, count: int, index: int) -> None:
    print(f"waiting for {count} processes at {coordinator}, at most {PATIENCE} s", file=sys.stderr)
    failures: list[UserError] = []

    def initialize() -> None:
        try:
            _initialize(
                coordinator_address=coordinator, num_processes=count, process_id=index,
                initialization_timeout=_LATER,
            )  # fmt: skip
        except UserError as e:
            failures.append(e)

    beside = threading.Thread(target=initialize, daemon=True)  # it cannot be interrupted
    beside.start()
    beside.join(PATIENCE)
    if beside.is_alive():
        raise UserError(
            f"not all {count} processes have come to {coordinator} within {PATIENCE} s; start all "
            "of config.processes.count, with a coordinator that each of them reaches"
        )
    if failures:
        raise failures[0]


def _initialize(**named: Any) -> None:
    try:
        jax.distributed.initialize(**named)
    except (RuntimeError, ValueError, jax.errors.JaxRuntimeError) as e:
        reason = str(e).strip().splitlines()[0]
        raise UserError(
            f"the processes of config.processes do not come together ({reason})"
        ) from None


def _check_same(config: ConfigDict) -> None:
    """Refuses processes that were started with different configurations."""
    own = config.copy_and_resolve_references()
    own.processes.index = 0
    index = _first_other(own.to_json(sort_keys=True))
    if index:
        raise UserError(
            f"process {index} was started with another configuration than process 0; only "
            "config.processes.index may differ"
        )


def check_folder(folder: Path) -> None:
    """Refuses a work folder that is not one and the same for all processes; all of them ask.

    Raises:
      UserError: some process has another path, or sees another folder there.
    """
    if jax.process_count() == 1:
        return
    index = _first_other(str(folder.absolute()))
    if index:
        raise UserError(
            f"process {index} was started with another --workdir than process 0 "
            f"({folder.absolute()} here); give all of them the same path"
        )
    sign = folder / ".processes"
    if is_primary():
        write_atomically(sign, [secrets.token_bytes(8)])
    barrier("process 0 has written its sign")
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
    from jax.experimental import multihost_utils

    digest = hashlib.sha256(text.encode()).digest()
    every = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    every = every.reshape(-1, len(digest))  # that of a single process is not stacked
    return int(np.argmax((every != every[0]).any(-1)))


def is_primary() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def barrier(where: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)


def agree(error: UserError | None) -> None:
    """Waits for all processes; ends every one of them where one has failed.

    Raises:
      UserError: this process's own error, or that another one has failed.
    """
    from jax.experimental import multihost_utils

    failed = multihost_utils.process_allgather(np.array([error is not None])).reshape(-1)
    if error is not None:
        raise error
    if failed.any():
        raise UserError(f"process {int(failed.argmax())} has failed; it says why")


def broadcast(values: np.ndarray) -> np.ndarray:
    """The array that process 0 has."""
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.broadcast_one_to_all(values))
