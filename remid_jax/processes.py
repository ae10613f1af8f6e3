"""Several processes that train together, by JAX's own runtime; one of them writes the files."""

import hashlib

import jax
import numpy as np
from ml_collections import ConfigDict

from remid_jax.errors import UserError

AUTOMATIC = "auto"  # coordinator: JAX finds it and the other processes, as on a TPU pod
PATIENCE = 120  # seconds for all processes to come


def process_config() -> ConfigDict:
    """The group `processes` of a configuration."""
    c = ConfigDict()
    c.coordinator = ""  # HOST:PORT of process 0, or `auto`; "": one process
    c.count = 1  # processes in all
    c.index = 0  # of this one
    return c


def join(config: ConfigDict) -> None:
    """Joins the other processes; their devices are one machine's from now on.

    Args:
      config: of a run; its group `processes` says who takes part.

    Raises:
      UserError: numbers that do not go together, processes that do not come, or one whose
        configuration is another.
    """
    p = config.processes
    if not p.coordinator:
        if p.count > 1:
            raise UserError(
                f"config.processes.count is {p.count}: name process 0 in "
                "config.processes.coordinator, as HOST:PORT"
            )
        return
    if p.coordinator != AUTOMATIC and not 0 <= p.index < p.count:
        raise UserError(
            f"config.processes.index {p.index} must lie in 0..{p.count - 1} "
            "(config.processes.count - 1)"
        )
    named = {} if p.coordinator == AUTOMATIC else {
        "coordinator_address": p.coordinator, "num_processes": p.count, "process_id": p.index,
    }  # fmt: skip
    try:
        jax.distributed.initialize(**named, initialization_timeout=PATIENCE)
    except (RuntimeError, ValueError, jax.errors.JaxRuntimeError) as e:
        raise UserError(
            f"the processes of config.processes do not come together ({_first_line(e)})"
        ) from None
    _check_same(config)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _check_same(config: ConfigDict) -> None:
    """Refuses processes that were started with different configurations."""
    from jax.experimental import multihost_utils

    own = config.copy_and_resolve_references()
    own.processes.index = 0
    digest = hashlib.sha256(own.to_json(sort_keys=True).encode()).digest()
    every = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    for index, other in enumerate(every.reshape(-1, len(digest))):
        if other.tobytes() != every.reshape(-1, len(digest))[0].tobytes():
            raise UserError(
                f"process {index} was started with another configuration than process 0; only "
                "config.processes.index may differ"
            )


def is_first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0


def meet(where: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)
