"""Launch by plain fork: the child has all that the parent has.

Role in the flow: `launch` for method "fork".
Runs in: parent, any thread.
Failure: no room for a process: `OSError`.
"""

from __future__ import annotations

import os
import sys

from corral._launch import tree
from corral._launch.child import run_forked
from corral._launch.ending import OwnChild

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Any
else:
    import _signal

__all__ = ["launch_fork"]


def launch_fork(call: Callable[[], None], about: dict[str, Any]) -> OwnChild:
    """Fork a child that runs `call`."""
    # Both must exist before the fork: the child inherits them.
    parent_fd = tree.self_fd()
    tree.heap()
    creator = tree.creator()
    # Room for the child's pidfd: better no child than one that has to be killed for want of it.
    room = -1
    gate: tuple[int, ...] = ()
    try:
        room = os.dup(parent_fd)
        if _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN:
            gate = os.pipe()
        kept = _begin()
        try:
            pid = os.fork()
        finally:
            _end()
        if pid == 0:
            os.close(room)
            _pass(gate)
            run_forked(call, about, parent_fd, creator)
        os.close(room)
        room = -1
        child = OwnChild(pid)
        child.kept = kept
        return child
    finally:
        for fd in (room, *gate):
            if fd >= 0:
                os.close(fd)


def _begin() -> list[object]:
    """Return what the child about to be forked may use; it is kept by the child's object, not by a hook."""
    sharing = sys.modules.get("corral._launch.sharing")
    if sharing is None:
        return []
    sharing.own_fork(begins=True)
    found: list[object] = sharing.kept_on_fork()
    return found


def _end() -> None:
    sharing = sys.modules.get("corral._launch.sharing")
    if sharing is not None:
        sharing.own_fork(begins=False)


def _pass(gate: tuple[int, ...]) -> None:
    """Wait, in the child, until the parent has its pidfd: who ignores SIGCHLD has no zombie to open."""
    if gate:
        os.close(gate[1])
        os.read(gate[0], 1)
        os.close(gate[0])
