"""`multiprocessing.resource_tracker` beside corral, which has none: nothing of ours needs one.

Role in the flow: programs call `unregister` to keep the standard library's tracker from unlinking a segment
that they have merely opened. With `corral.shared_memory` there is nothing to keep it from, and that is what
they get; what a program registers by itself goes to the standard library's tracker.
Runs in: any process, any thread.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ensure_running", "getfd", "register", "unregister"]

_registered: set[tuple[str, str]] = set()


def register(name: str, rtype: str) -> None:
    """Have the standard library's tracker remove a resource of the program's own when it is left behind."""
    _theirs().register(name, rtype)
    _registered.add((name, rtype))


def unregister(name: str, rtype: str) -> None:
    """Take back a `register`; what was not registered here nobody would remove."""
    if (name, rtype) in _registered:
        _registered.discard((name, rtype))
        _theirs().unregister(name, rtype)


def ensure_running() -> None:
    """Do nothing: `register` starts the standard library's tracker, if it doesn't run."""


def getfd() -> int:
    """Return the descriptor on which the standard library's tracker listens."""
    found: int = _theirs().getfd()
    return found


def _theirs() -> Any:
    __import__("multiprocessing.resource_tracker")
    return sys.modules["multiprocessing.resource_tracker"]
