"""Keep a worker below its memory limit: between two tasks it leaves by itself, and is replaced.

Role in the flow: the loop takes its frames by way of a `Guard` if the pool has a limit. What exceeds the
limit during a task is the parent's business, for a task does not stop to be weighed.

What counts is a process's own memory; what it shares with others, above all the heap with its arrays, does
not.
"""

from __future__ import annotations

import os

from corral._channel import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from corral._native import Link

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def own_bytes(pid: int | str = "self") -> int:
    """How much memory of its own a process uses; 0 if it is gone, or nobody tells."""
    try:
        with open(f"/proc/{pid}/statm", "rb", buffering=0) as file:
            _, resident, shared = file.read(256).split()[:3]
    except (OSError, ValueError):
        return 0
    return max(0, int(resident) - int(shared)) * _PAGE_BYTES


class Guard:
    """Lets a worker go on only while it is well below the limit, so that the next task need not be killed."""

    def __init__(self, link: Link, limit_bytes: int) -> None:
        """Look before each frame."""
        self._link = link
        self._limit_bytes = limit_bytes // 10 * 9

    def recv(self) -> tuple[int, int, int, Any] | None:
        """As the link's; STOP if the worker has grown above its limit."""
        used = own_bytes()
        if used <= self._limit_bytes:
            return self._link.recv()
        self._link.reply(wire.LEAVING, 0, used, b"")
        return wire.STOP, 0, 0, b""
