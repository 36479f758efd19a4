"""Launch by plain fork: the child has all that the parent has.

Role in the flow: `launch` for method "fork".
Runs in: parent, any thread.
Failure: no room for a process: `OSError`.
"""

from __future__ import annotations

import os

from corral._launch import tree
from corral._launch.child import run_forked
from corral._launch.ending import OwnChild

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["launch_fork"]


def launch_fork(call: Callable[[], None], name: str) -> OwnChild:
    """Fork a child that runs `call`."""
    # Both must exist before the fork: the child inherits them.
    parent_fd = tree.self_fd()
    tree.heap()
    creator = tree.creator()
    # Room for the child's pidfd: better no child than one that has to be killed for want of it.
    room = os.dup(parent_fd)
    try:
        pid = os.fork()
        if pid == 0:
            os.close(room)
            run_forked(call, name, parent_fd, creator)
    finally:
        os.close(room)
    return OwnChild(pid)
