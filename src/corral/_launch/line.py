"""Hold the line from a zygote's child to its parent: it carries the exit code, and its end is the child's.

Role in the flow: the socket on which `child.serve` received its request stays open on both sides; the parent
reads it in `forkserver`.
Runs in: child, main thread.
Invariants:
    INV-LINE-1: the parent sends nothing after the request: any event on the line means that it is gone, and
        the kernel kills the child for it, without a thread that watches.
    INV-LINE-2: only the child itself speaks for itself, not a process that it has forked.
Failure: where the kernel cannot signal, the zygote still kills its children when the parent dies.
"""

from __future__ import annotations

import os

from corral._launch import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

__all__ = ["hold", "prepare", "tell_exit_code"]

_held: tuple[int, wire.socket] | None = None


def prepare(sock: wire.socket) -> None:
    """Make ready to hold the line, before the request comes over it."""
    import fcntl

    fcntl.fcntl(sock.fileno(), fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sock.fileno(), fcntl.F_SETSIG, _signal.SIGKILL)


def hold(sock: wire.socket) -> None:
    """Be killed with the line, from now on: the request has come."""
    import fcntl

    global _held  # noqa: PLW0603  (one line per process)
    _held = (os.getpid(), sock)
    fcntl.fcntl(sock.fileno(), fcntl.F_SETFL, os.O_RDWR | os.O_ASYNC)
    if wire.is_closed(sock):
        # The parent went before the kernel was told to tell.
        os._exit(-_signal.SIGKILL & 0xFF)


def tell_exit_code(code: int) -> None:
    """Tell the parent the code that this process is about to exit with, if it is on a line."""
    if _held is None or _held[0] != os.getpid():
        return
    try:
        wire.send(_held[1], bytes([code]), flags=wire.MSG_DONTWAIT)
    except OSError:
        # The zygote will tell.
        return
