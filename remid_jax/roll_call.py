"""Who is there, before JAX joins processes: what it would answer by a signal is said in a line."""

import contextlib
import json
import os
import socket
import time

from remid_jax.errors import UserError

_POLL = 0.2  # seconds between tries to reach process 0
_LONGEST = 200  # bytes of a message


def roll_call(coordinator: str, count: int, index: int, digest: str, patience: float) -> None:
    """Returns when all processes are there, each with an index of its own and one configuration.

    Process 0 listens at the port that JAX uses afterwards; the others tell it who they are.

    Args:
      coordinator: HOST:PORT of process 0.
      count: processes in all.
      index: of this one.
      digest: of its configuration.
      patience: seconds for all to come.

    Raises:
      UserError: in every process that has come, where one is missing, there twice, or differs.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + patience
    absent = (
        f"not all {count} processes have come to {coordinator} within {patience:g} s; start all of "
        "config.processes.count, with a coordinator that each of them reaches"
    )
    if index:
        _report((host.strip("[]"), int(port)), [index, digest], deadline, absent)
        return
    with contextlib.ExitStack() as stack:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            server = stack.enter_context(socket.create_server(("", int(port)), family=family))
        except OSError as e:
            reason = os.strerror(e.errno)
            raise UserError(
                f"process 0 cannot listen at port {port} ({reason}): is another process 0 "
                "running? Choose another in config.processes.coordinator"
            ) from None
        there, connections, fault = {0}, [], ""
        while len(there) < count and not fault:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection = stack.enter_context(server.accept()[0])
            except TimeoutError:
                missing = ", ".join(str(i) for i in range(count) if i not in there)
                fault = f"{absent} (missing: {missing})"
                break
            connection.settimeout(1)
            with contextlib.suppress(OSError, ValueError, TypeError):  # not one of ours
                other, theirs = json.loads(connection.recv(_LONGEST))
                fault = _fault_of(other, theirs, digest, there)
                there.add(other)
                connections.append(connection)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(fault.encode() or b"ok")
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)  # until the other side has closed: then the port is free
        if fault:
            raise UserError(fault)


def _fault_of(index: int, theirs: str, digest: str, there: set[int]) -> str:
    if index in there:
        return f"two processes were started with config.processes.index {index}; each needs its own"
    if theirs != digest:
        return (
            f"process {index} was started with another configuration than process 0; only "
            "config.processes.index may differ"
        )
    return ""


def _report(address: tuple[str, int], own: list, deadline: float, absent: str) -> None:
    """Tells process 0 who this is, and waits for what it says."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise UserError(absent)
        try:
            with socket.create_connection(address, timeout=left) as connection:
                connection.sendall(json.dumps(own).encode())
                connection.settimeout(max(0.01, deadline + 1 - time.monotonic()))
                said = connection.recv(1000).decode(errors="replace")
        except OSError:
            time.sleep(min(_POLL, left))
            continue
        if said == "ok":
            return
        if said.isprintable() and said:
            raise UserError(said)
        raise UserError(
            f"what listens at {address[0]}:{address[1]} does not wait for process {own[0]}: the "
            "processes have come together already, one of them with this index, or "
            "config.processes.coordinator is another program's"
        )
