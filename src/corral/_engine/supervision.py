"""Whether a worker that died is replaced, or the pool gives up.

Runs in: the parent. Pure: deaths and clock readings in, verdicts out.

OTP's restart intensity, refined: deaths are not equally ominous. One that cost a task made progress
(the task is settled as lost), so it does not count: a pool whose every task kills its worker ends when
its tasks do. One of a worker that
had started well counts little: somebody may be killing them. One of a worker that never got ready counts in
full, unless it was killed, or another has got ready since the death before it: then workers can start.
Else the next would hardly fare better, and replacing it for ever would never end.
"""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

WINDOW_S: Final = 10.0
_UNREADY: Final = 10
_READY: Final = 1


class Supervisor:
    """Weighs the deaths within a sliding window."""

    __slots__ = ("_deaths", "_limit", "_thriving", "_window_s")

    def __init__(self, workers: int, max_restarts: int | None = None, window_s: float = WINDOW_S) -> None:
        """Allow `max_restarts` deaths of workers that never got ready within `window_s`.

        Of workers that had been ready, ten times as many. The default is 3 per worker, at least 8.
        """
        self._limit = _UNREADY * (max(8, 3 * workers) if max_restarts is None else max_restarts)
        self._window_s = window_s
        self._deaths: deque[tuple[float, int]] = deque()
        self._thriving = False  # whether a worker got ready since the last death

    def got_ready(self) -> None:
        """A worker has started well."""
        self._thriving = True

    def may_restart(
        self, now_s: float, *, cost_a_task: bool, was_ready: bool, was_killed: bool = False
    ) -> bool:
        """Record a death at monotonic time `now_s`; return whether a replacement may be launched.

        `was_killed`: by a signal that only others send.
        """
        if cost_a_task:
            return True
        is_light = was_ready or was_killed or self._thriving
        self._deaths.append((now_s, _READY if is_light else _UNREADY))
        self._thriving = False
        while self._deaths[0][0] <= now_s - self._window_s:
            self._deaths.popleft()
        return sum(weight for _, weight in self._deaths) <= self._limit
