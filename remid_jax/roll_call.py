"""Processes that find one another at an address, and talk through process 0."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, BinaryIO

from remid_jax.errors import UserError

_POLL = 0.2  # seconds between tries to reach process 0
_LONGEST = 1000  # bytes of the first message, which may be a stranger's
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}  # a lost host: 2 minutes


class Roll:
    """Processes that have come together; each line between them is JSON.

    Attributes:
      index: of this process.
      count: processes in all.
    """

    def __init__(self, index: int, count: int, connections: Mapping[int, socket.socket]) -> None:
        self.index, self.count = index, count
        self._connections = dict(connections)  # process 0 has one to each, the others one to it
        self._files: dict[int, BinaryIO] = {}
        for i, connection in self._connections.items():
            connection.settimeout(None)  # the others may work for hours
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEP_ALIVE.items():
                if option := getattr(socket, name, None):
                    connection.setsockopt(socket.IPPROTO_TCP, option, value)
            self._files[i] = connection.makefile("rb")

    def gather(self, value: Any) -> list[Any]:
        """What each process says, in their order; all of them call this, and wait here.

        Raises:
          UserError: a process is gone.
        """
        if self.index:
            self._say(0, value)
            return self._hear(0)
        said = [value, *(self._hear(i) for i in range(1, self.count))]
        for i in range(1, self.count):
            self._say(i, said)
        return said

    def close(self) -> None:
        """Ends the talk; process 0 closes last, so that its port is free."""
        for i, connection in self._connections.items():
            with contextlib.suppress(OSError):
                if not self.index:
                    self._files[i].read(1)
                self._files[i].close()
                connection.close()

    def _say(self, other: int, value: Any) -> None:
        try:
            self._connections[other].sendall(json.dumps(value).encode() + b"\n")
        except OSError:
            self._refuse(other)

    def _hear(self, other: int) -> Any:
        line = b""
        with contextlib.suppress(OSError):
            line = self._files[other].readline()
        if not line.endswith(b"\n"):
            self._refuse(other)
        return json.loads(line)

    def _refuse(self, other: int) -> None:
        raise UserError(
            f"process {other} has ended before its work was done; what is finished is kept: "
            "start all processes again"
        )


def roll_call(coordinator: str, count: int, index: int, digest: str, patience: float) -> Roll:
    """Returns when all processes are there, each with an index of its own and one configuration.

    Args:
      coordinator: HOST:PORT of process 0, which listens there; the others tell it who they are.
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
        address = (host.strip("[]"), int(port))
        return Roll(index, count, {0: _report(address, [index, digest], deadline, absent)})
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
        found: dict[int, socket.socket] = {}
        refused, fault = [], ""
        while len(found) < count - 1 and not fault:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection = stack.enter_context(server.accept()[0])
            except TimeoutError:
                missing = ", ".join(str(i) for i in range(1, count) if i not in found)
                fault = f"{absent} (missing: {missing})"
                break
            connection.settimeout(1)
            with contextlib.suppress(OSError, ValueError, TypeError):  # not one of ours
                other, theirs = json.loads(_read_line(connection))
                fault = _fault_of(other, theirs, digest, {0, *found})
                if other in found:
                    refused.append(connection)
                found.setdefault(other, connection)
        for connection in (*found.values(), *refused):
            with contextlib.suppress(OSError):
                connection.sendall((fault or "ok").encode() + b"\n")
        if fault:
            raise UserError(fault)
        server.close()
        stack.pop_all()
    return Roll(0, count, found)


def _read_line(connection: socket.socket) -> str:
    """One line, and nothing after it: what follows is read by the `Roll`."""
    line = b""
    while not line.endswith(b"\n") and len(line) < _LONGEST and (byte := connection.recv(1)):
        line += byte
    return line.decode(errors="replace").removesuffix("\n")


def _fault_of(index: int, theirs: str, digest: str, there: set[int]) -> str:
    if index in there:
        return f"two processes were started with config.processes.index {index}; each needs its own"
    if theirs != digest:
        return (
            f"process {index} was started with another configuration than process 0; only "
            "config.processes.index may differ"
        )
    return ""


def _report(address: tuple[str, int], own: list, deadline: float, absent: str) -> socket.socket:
    """Tells process 0 who this is, and returns the connection once all are there."""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise UserError(absent)
        with contextlib.ExitStack() as stack:
            try:
                connection = socket.create_connection(address, timeout=left)
                stack.enter_context(connection)
                connection.sendall(json.dumps(own).encode() + b"\n")
                connection.settimeout(max(0.01, deadline + 1 - time.monotonic()))
                said = _read_line(connection)
            except OSError:
                time.sleep(min(_POLL, left))
                continue
            if said == "ok":
                stack.pop_all()
                return connection
        if said.isprintable() and said:
            raise UserError(said)
        raise UserError(
            f"what listens at {address[0]}:{address[1]} does not wait for process {own[0]}: the "
            "processes have come together already, one of them with this index, or "
            "config.processes.coordinator is another program's"
        )
