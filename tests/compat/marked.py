"""The processes of a run, however they were started: all inherit a mark in their environment.

Failure: a process that leaves its environment behind (no suite does) is not found.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.compat.inner.boot import DUMP_SIGNAL, MARK

POLL_S = 0.05


def find(mark: str) -> dict[int, str]:
    """Return the living processes that bear the mark: by pid, what they are."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted not in folder.joinpath("environ").read_bytes():
                continue
            state = folder.joinpath("stat").read_text().rpartition(")")[2].split()[0]
            words = folder.joinpath("cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended while we looked
        if state not in "ZX":
            found[int(folder.name)] = f"{folder.name} ({b' '.join(words)[:160].decode(errors='replace')})"
    return found


def show_stacks(mark: str) -> None:
    """Have all of them write their stacks to their standard error."""
    for pid in find(mark):
        send(pid, DUMP_SIGNAL)
        time.sleep(0.1)  # one after the other, to be read


def sweep(mark: str, grace_s: float) -> str:
    """Kill those that have not ended by themselves within a time of grace; say what they were."""
    deadline = time.monotonic() + grace_s
    found = find(mark)
    while found and time.monotonic() < deadline:
        time.sleep(POLL_S)
        found = find(mark)
    if found:
        show_stacks(mark)
    named = ", ".join(found.values())
    while found:
        for pid in found:
            send(pid, signal.SIGKILL)
        time.sleep(0.01)
        found = find(mark)
    return named


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
