"""What the processes of `test_connection` run; importable by name."""

from __future__ import annotations

import os
import signal
from typing import Any

from corral.connection import Connection, Pipe


def echo(connection: Connection) -> None:
    """Send back what comes, until None comes."""
    for message in iter(connection.recv, None):
        connection.send(message)
    connection.close()


def echo_bytes(connection: Connection) -> None:
    for message in iter(connection.recv_bytes, b""):
        connection.send_bytes(message)


def send_all(connection: Connection, messages: list[Any]) -> None:
    for message in messages:
        connection.send(message)


def send_range(connection: Connection, party: int, count: int) -> None:
    for number in range(count):
        connection.send((party, number, b"x" * (number % 50 * 200)))


def receive_range(source: Connection, sink: Connection) -> None:
    """Pass on the first two of what comes until None comes."""
    for party, number, _ in iter(source.recv, None):
        sink.send((party, number))


def hold(connection: Connection, *_: object) -> None:
    """Say that this process runs, and wait for the end."""
    connection.send("here")
    connection.poll(None)


def ignore(connection: Connection) -> None:
    """Say that this process runs, and never read anything."""
    connection.send("here")
    signal.pause()


def die(connection: Connection, how: str) -> None:
    """Say so, then end in one of the ways to end."""
    connection.send(how)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "at once":
        os._exit(3)
    if how == "raises":
        raise SystemExit(4)


def send_a_new_pipe(connection: Connection) -> None:
    """Send an end of a new pipe, and use the other."""
    ours, theirs = Pipe()
    connection.send(theirs)
    theirs.close()
    ours.send(f"from {os.getpid()}")
    connection.send(ours.recv())
    ours.close()
    connection.recv()  # until the other has everything


def send_a_pipe_and_leave(connection: Connection) -> None:
    reader, writer = Pipe(duplex=False)
    writer.send("left behind")
    connection.send(reader)


def write_through(received: Any) -> str:
    """Use a connection that came as an argument of a task."""
    received.send("written")
    received.close()
    return "done"


def sum_of(connection: Any) -> int:
    total = 0
    for number in iter(connection.recv, None):
        total += number
    return total


def readable_end() -> Connection:
    """Give a connection as a result."""
    reader, writer = Pipe(duplex=False)
    writer.send("in the result")
    _kept.append(writer)
    return reader


_kept: list[Connection] = []
