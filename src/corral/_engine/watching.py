"""Let somebody watch how far the maps of this process are.

Role in the flow: maps announce themselves when they start; `corral run --progress` is the one who watches.
Runs in: parent, the thread that starts a map.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Watched(Protocol):
        """A map that is under way."""

        def progress(self) -> tuple[int, int | None]:
            """Return how many items have an outcome, and how many there are, if that is known."""

        @property
        def over(self) -> bool:
            """Whether nothing more will happen."""


__all__ = ["begin", "watch"]

_watcher: Callable[[Watched], None] | None = None
_pid = 0


def watch(watcher: Callable[[Watched], None]) -> None:
    """Have each map that starts from now on, in this process, announced to `watcher`."""
    global _pid, _watcher  # noqa: PLW0603  (one who watches is enough)
    _watcher = watcher
    _pid = os.getpid()


def begin(call: Watched) -> None:
    """Announce a map. What was forked from the watched process is not watched."""
    if _watcher is not None and os.getpid() == _pid:
        _watcher(call)
