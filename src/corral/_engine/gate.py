"""A thing to wait for that costs nothing until somebody sleeps on it."""

from __future__ import annotations

import threading

_creation = threading.Lock()


class Gate:
    """Opens once, and stays open.

    `done` is the plain flag that drivers look at; an event is made only for a thread that must sleep
    while another drives. No lock is needed between the two: the opener sets the flag and then looks for
    the event, the sleeper makes the event and then looks at the flag, so at least one of them sees the
    other.
    """

    __slots__ = ("_event", "done")

    def __init__(self) -> None:
        """Begin closed."""
        self.done = False
        self._event: threading.Event | None = None

    def open(self) -> None:
        """Let everybody through."""
        self.done = True
        if self._event is not None:
            self._event.set()

    def park(self, timeout_s: float | None) -> None:
        """Sleep until the gate opens or the time is up."""
        with _creation:
            if self._event is None:
                self._event = threading.Event()
        if not self.done:
            self._event.wait(timeout_s)
