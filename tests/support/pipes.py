"""Processes that are killed while they send or receive, and what the survivors then check.

Runs in: `tests/faults/test_connection_kills.py`; as a program, in a build with faults at named steps.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

from corral.connection import Connection, Pipe

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

MESSAGES = 120
LIMIT_S = 20.0


def padded(number: int) -> tuple[int, bytes]:
    """A message: most are short, some lie in blocks, some in several segments."""
    return number, bytes((0, 0, 100, 0, 3000, 0, 0, 20_000)[number % 8])


def in_child(deed: Callable[[], None]) -> int:
    """Run `deed` in a forked child; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        deed()
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def is_readable(connection: Connection) -> bool:
    return bool(select.select([connection.fileno()], [], [], 0)[0])


def take(reader: Connection, seen: list[int]) -> object:
    """Receive what must be there soon."""
    if not reader.poll(LIMIT_S):
        raise AssertionError(f"nothing comes after {seen[-3:]}")
    return reader.recv()


def check_going_on(reader: Connection, writer: Connection, seen: list[int]) -> None:
    """The pipe works, and its descriptor tells the truth."""
    writer.send("next")
    while (message := take(reader, seen)) != "next":
        assert isinstance(message, tuple)
        seen.append(message[0])
    assert not is_readable(reader)
    writer.send("last")
    assert is_readable(reader)
    assert reader.recv() == "last"
    assert not is_readable(reader)


def kill_a_sender(arm: Callable[[], None], strike: Callable[[int], None], *, exact: bool) -> bool:
    """A child sends until it is killed; what it sent comes whole, in order, once. Was it killed?"""
    reader, writer = Pipe(duplex=False)
    if exact:
        reader.fileno()
    ready, go = os.pipe()

    def send() -> None:
        arm()
        os.write(go, b"x")
        for number in range(MESSAGES):
            writer.send(padded(number))

    pid = in_child(send)
    os.read(ready, 1)
    strike(pid)
    seen: list[int] = []
    deadline = time.monotonic() + LIMIT_S
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        assert time.monotonic() < deadline, "the sender hangs"
        if reader.poll(0.001):
            number, padding = reader.recv()
            assert padding == padded(number)[1]
            seen.append(number)
    code = reap(pid)
    check_going_on(reader, writer, seen)
    assert seen == list(range(len(seen))), seen
    assert code in {0, -signal.SIGKILL}, code
    assert code or len(seen) == MESSAGES
    writer.close()
    _expect_end(reader)
    _close(ready, go)
    return code != 0


def kill_a_receiver(arm: Callable[[], None], strike: Callable[[int], None], *, exact: bool) -> bool:
    """A child receives until it is killed; only what it had in its hands is lost. Was it killed?"""
    reader, writer = Pipe(duplex=False)
    if exact:
        reader.fileno()
    told, tell = os.pipe()

    def receive() -> None:
        arm()
        os.write(tell, (1 << 30).to_bytes(4, "little"))
        for _ in range(MESSAGES):
            os.write(tell, reader.recv()[0].to_bytes(4, "little"))

    pid = in_child(receive)
    os.read(told, 4)
    for number in range(MESSAGES // 2):
        writer.send(padded(number))
    strike(pid)
    for number in range(MESSAGES // 2, MESSAGES):
        writer.send(padded(number))
    code = _wait_for(pid)
    seen: list[int] = []
    check_going_on(reader, writer, seen)
    os.close(tell)
    taken = _numbers(told)
    lost = set(range(MESSAGES)) - set(taken) - set(seen)
    assert taken == sorted(set(taken)), taken
    assert seen == sorted(set(seen)), seen
    assert not set(taken) & set(seen)
    assert len(lost) <= (1 if code else 0), lost
    writer.close()
    _expect_end(reader)
    os.close(told)
    return code != 0


def _wait_for(pid: int) -> int:
    """Wait until the receiver is dead or has everything."""
    deadline = time.monotonic() + LIMIT_S
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        assert time.monotonic() < deadline, "the receiver hangs"
        time.sleep(0.0005)
    return reap(pid)


def _numbers(fd: int) -> list[int]:
    data = b""
    while chunk := os.read(fd, 1 << 16):
        data += chunk
    whole = len(data) // 4 * 4
    return [int.from_bytes(data[at : at + 4], "little") for at in range(0, whole, 4)]


def _expect_end(reader: Connection) -> None:
    try:
        message = reader.recv()
    except EOFError:
        reader.close()
    else:
        raise AssertionError(f"{message!r} instead of the end")


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def nothing(*_: object) -> None:
    """Neither arm nor strike."""


def kill_later(spans: random.Random, longest_s: float) -> Callable[[int], None]:
    """A strike at some time, soon."""

    def strike(pid: int) -> None:
        end = time.monotonic() + spans.random() * longest_s
        while time.monotonic() < end:
            pass
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    return strike


SENDER_STEPS = (
    "tenure.released",
    "channel.entered",
    "bell.ringing",
    "bell.unsure",
    "bell.sent",
    "block.intended",
    "block.given",
    "block.settled",
    "grow.intended",
    "grow.given",
    "grow.settled",
    "pack.allocated",
)
RECEIVER_STEPS = (
    "tenure.released",
    "channel.entered",
    "bell.muting",
    "bell.untaken",
    "bell.taken",
    "adopt.intended",
    "adopt.settled",
    "retire.intended",
    "retire.freed",
    "retire.settled",
)


def main() -> None:
    """Strike at each step, at several passings; print the steps at which nobody was killed."""
    from corral import _native

    arm_fault = _native.arm_fault  # type: ignore[attr-defined]
    missed = []
    for kill, steps in ((kill_a_sender, SENDER_STEPS), (kill_a_receiver, RECEIVER_STEPS)):
        for step in steps:
            killed = 0
            for nth in (1, 2, 3, 5, 9):
                for exact in (False, True):

                    def arm(step: str = step, nth: int = nth) -> None:
                        arm_fault(step, nth, signal.SIGKILL)

                    killed += kill(arm, nothing, exact=exact)
            if not killed:
                missed.append(f"{kill.__name__} at {step}")
    print(*missed, sep="\n")  # noqa: T201 - what the test reads


if __name__ == "__main__":
    sys.exit(main())
