"""Something that one thread at a time does, and that is done once more if it was wanted meanwhile."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class OneAtATime:
    """Runs a function for whoever asks; who asks while it runs does not wait, and it runs again."""

    __slots__ = ("_again", "_function", "_running")

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._running = threading.Lock()
        self._again = False

    def run(self) -> None:
        """Run it, or have who runs it do so once more."""
        while True:
            if not self._running.acquire(blocking=False):
                self._again = True
                # He may have let go between the attempt and the mark.
                if not self._running.acquire(blocking=False):
                    return
            try:
                self._again = False
                self._function()
            finally:
                self._running.release()
            if not self._again:
                return
