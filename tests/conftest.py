"""What holds for every test: it leaves nothing behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# How long what a test has let go of may take to be gone: processes die and threads end in their own time.
GRACE_S = 5.0


class Traces(NamedTuple):
    """What a process holds of the world; two of them are compared."""

    children: frozenset[str]
    threads: frozenset[str]
    descriptors: frozenset[str]
    shared_memory: frozenset[str]

    @classmethod
    def take(cls) -> Traces:
        return cls(_children(), _threads(), _descriptors(), _shared_memory())

    def added_since(self, before: Traces) -> str:
        """Say what is here that was not there `before`; empty if nothing is."""
        return "\n".join(
            f"  {kind.replace('_', ' ')}: {', '.join(sorted(now - then))}"
            for kind, now, then in zip(self._fields, self, before, strict=True)
            if now - then
        )


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest, house: None) -> Iterator[None]:
    """Fail the test after which a process, a thread, a descriptor or a file in /dev/shm is left."""
    before = Traces.take()
    yield
    if request.node.get_closest_marker("leaks"):
        return
    # All other fixtures are torn down by now; pytest itself still holds their values.
    request.node.funcargs.clear()
    left = _left(before)
    deadline = time.monotonic() + GRACE_S
    while left and time.monotonic() < deadline:
        time.sleep(0.01)
        left = _left(before)
    if left:
        pytest.fail(f"the test left behind:\n{left}", pytrace=False)


@pytest.fixture(scope="session")
def house() -> None:
    """Open, before the first test, what a process opens once: heap, zygote, keeper, callback thread."""
    from corral._engine import callbacks
    from corral._launch import segments, warm_up

    warm_up()
    segments.connect()
    callbacks.defer(int)


def _left(before: Traces) -> str:
    left = Traces.take().added_since(before)
    if left:
        # An exception's traceback, or a cycle, may hold what the test has let go of.
        gc.collect()
        left = Traces.take().added_since(before)
    return left


def _children() -> frozenset[str]:
    me = os.getpid()
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it ended while we looked
        name, fields = text.rsplit(")", 1)  # the name may itself hold brackets and blanks
        if int(fields.split()[1]) == me:
            found.add(name.split()[0])  # not its name or state: these change while it lives
    return frozenset(found)


def _threads() -> frozenset[str]:
    return frozenset(f"{thread.name} ({thread.ident})" for thread in threading.enumerate())


def _descriptors() -> frozenset[str]:
    listing = f"/proc/{os.getpid()}/fd"
    found = set()
    for name in os.listdir(listing):
        try:
            target = os.readlink(f"{listing}/{name}")
        except OSError:
            continue  # closed meanwhile
        if target != listing:
            found.add(f"{name} -> {target}")
    return frozenset(found)


def _shared_memory() -> frozenset[str]:
    if not os.path.isdir("/dev/shm"):
        return frozenset()
    # The C library's semaphores are a neighbour's: corral has none.
    return frozenset(name for name in os.listdir("/dev/shm") if not name.startswith("sem."))
