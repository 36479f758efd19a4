"""Start a process and learn how it ended: fork, forkserver, spawn.

Role in the flow: `corral.process` and the engine's backends call `launch`; it calls `corral._native` alone.
Runs in: parent (`forkserver`, `spawn`, `fork`, `ending`), zygote (`zygote`), child (`boot`, `child`).

        parent                     zygote                      child
    launch("forkserver") --order--> fork ----------------------> waits for its request
         |  <-- (serial, pid, pidfd, socket) --'                    |
         '---------------- request (entry, payload, fds) ---------> runs the entry, ends
    Child.wait <- pidfd readable;  exit code <--- reaps <-----------'

    With "spawn" the parent starts the child's interpreter itself and sends the same request;
    with "fork" memory itself is the request.

Invariants:
    INV-LAUNCH-1: a child dies with its parent, however the parent dies.
    INV-LAUNCH-2: at the parent's exit the zygote and its spare children are gone before the parent is.
Failure: what cannot be launched raises `OSError`; what dies is known by its `Child`.
See: docs/decisions.
"""

from __future__ import annotations

from corral._launch import kin
from corral._launch.exits import at_exit
from corral._launch.tree import heap, parent_fd, parents_heap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from corral._launch.ending import Child as Child

__all__ = ["METHODS", "Child", "at_exit", "begin", "heap", "launch", "parent_fd", "parents_heap", "warm_up"]

METHODS = ("fork", "spawn", "forkserver")
"""The start methods of this system, the default first."""


def launch(
    method: str,
    entry: str,
    payload: bytes,
    *,
    fds: Sequence[int] = (),
    call: Callable[[], None] | None = None,
    about: dict[str, Any] | None = None,
) -> Child:
    """Launch a process that runs `entry` and ends with the exit code its outcome means.

    Args:
        method: "fork", "forkserver" or "spawn".
        entry: "package.module:function", called in the child as function(payload, fds).
        payload: what the child gets; a memoryview of it when it is large.
        fds: descriptors the child gets, under numbers of its own.
        call: with "fork", called in the child instead of the entry.
        about: what the process is told of itself (`kin.describe`); without it, that it is a nameless daemon.

    Raises:
        OSError: no room for another process or its descriptors.
        ValueError: there is no such method.
    """
    _flush_output()
    if about is None:
        about = kin.describe("")
    if method == "forkserver":
        from corral._launch.forkserver import launch_forkserver

        return launch_forkserver(entry, payload, fds, about)
    if method == "spawn":
        from corral._launch.spawn import launch_spawn

        return launch_spawn(entry, payload, fds, about)
    if method == "fork":
        from corral._launch.fork import launch_fork

        return launch_fork(call or _entry_call(entry, payload, fds), about)
    raise ValueError(f"no start method {method!r}: choose one of {', '.join(METHODS)}")


def begin(method: str) -> None:
    """Start what the first launch by `method` will wait for; don't wait, there are other things to do."""
    if method == "forkserver":
        from corral._launch.forkserver import begin as begin_forkserver

        begin_forkserver()


def warm_up() -> None:
    """Make now what a process makes once and keeps: its heap, and a zygote with children ready."""
    from corral._launch.forkserver import warm_up as warm_up_forkserver

    warm_up_forkserver()


def _entry_call(entry: str, payload: bytes, fds: Sequence[int]) -> Callable[[], None]:
    """Return the call of an entry in a forked child, where descriptors keep their numbers."""

    def call() -> None:
        from corral._launch.child import resolve

        resolve(entry)(payload, list(fds))

    return call


def _flush_output() -> None:
    """Write out what is buffered, so that it comes before what the child writes, and only once."""
    import sys

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):
            # None, closed or replaced.
            continue


def __getattr__(name: str) -> object:
    if name == "Child":
        from corral._launch.ending import Child

        return Child
    raise AttributeError(f"module 'corral._launch' has no attribute {name!r}")
