"""The engine's clock: does what the agenda says when it is due, and has sleepers wake in time for it.

Runs in: the parent, whichever thread drives. While the agenda is empty nothing here runs.
"""

from __future__ import annotations

from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import Any

    from corral._engine.agenda import Agenda

_NEVER_S = float("inf")


class Alarm:
    """Wakes whoever drives when the next entry of an agenda is due."""

    __slots__ = ("_agenda", "_kick", "_lock", "_set_to_s")

    def __init__(self, agenda: Agenda, lock: threading.RLock, kick: Callable[[], None]) -> None:
        """Run the entries of `agenda` under `lock`; `kick` has whoever waits look at the clock again."""
        self._agenda = agenda
        self._lock = lock
        self._kick = kick
        self._set_to_s = _NEVER_S  # until when the background sleeps at most

    def set(self) -> None:
        """Something was entered: have who waits know."""
        next_s = self._agenda.next_s
        if next_s is not None and next_s < self._set_to_s:
            self._set_to_s = next_s
            self._kick()

    def rest(self, timeout_s: float | None) -> float | None:
        """As `until`, for the background, which others rely on to wake in time."""
        # In this order: who enters something meanwhile is seen here, or sees that he must kick.
        self._set_to_s = _NEVER_S
        timeout_s = self.until(timeout_s)
        self._set_to_s = _NEVER_S if self._agenda.next_s is None else self._agenda.next_s
        return timeout_s

    def until(self, timeout_s: float | None) -> float | None:
        """Do what is due; return for how long to wait at most, being ready to wait for `timeout_s`."""
        first_s = self._agenda.next_s
        if first_s is None:
            return timeout_s
        self._ring()
        next_s = self._agenda.next_s
        if next_s is None:
            return timeout_s
        span_s = max(0.0, next_s - monotonic())
        return span_s if timeout_s is None else min(span_s, timeout_s)

    def _ring(self) -> None:
        entry: Any = None
        try:
            with self._lock:
                entry = self._agenda.pop_due(monotonic())
                while entry is not None:
                    entry.run()
                    entry = self._agenda.pop_due(monotonic())
        except BaseException:
            # A signal's handler raised: what was begun is finished the next time.
            with self._lock:
                if entry is not None:
                    self._agenda.add(monotonic(), entry)
            raise
