"""Weighs the workers of a pool with a memory limit, while they work.

Runs in: the parent, under the engine's lock, as an entry of the agenda; only while something is under
way.

Failure: a task that takes all memory within one interval is not stopped in time; then the kernel's killer is.
"""

from __future__ import annotations

from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from corral._engine.crew import Crew

_INTERVAL_S = 0.1
_MIB = 1 << 20


class Scale:
    """Kills the workers that exceed `limit_bytes` during a task."""

    def __init__(self, crew: Crew, limit_bytes: int, weigh: Callable[[int], int]) -> None:
        self._crew = crew
        self._limit_bytes = limit_bytes
        self._weigh = weigh
        self._is_entered = False

    def loaded(self) -> None:
        """A task was sent."""
        if not self._is_entered:
            self._is_entered = True
            self._crew.agenda.add(monotonic() + _INTERVAL_S, self)

    def run(self) -> None:
        """Weigh all (an entry of the agenda)."""
        self._is_entered = False
        crew = self._crew
        for seat in crew.seats():
            used = self._weigh(seat.child.pid)
            if used <= self._limit_bytes:
                continue
            task = crew.taken_at(seat)
            if task is not None:
                seat.reason = (
                    f"it used {used / _MIB:.0f} MiB, above the memory limit of"
                    f" {self._limit_bytes / _MIB:.0f} MiB, and was killed for it"
                )
                crew.condemn(seat, task, None)
        if any(crew.ledger.flying):
            self.loaded()
