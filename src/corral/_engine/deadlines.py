"""What to do about a piece of work that may have run for too long: wait, ask it to stop, or kill its worker.

Runs in: the parent, under the engine's lock. Pure: what the worker is at and clock readings in, verdicts out.

Two steps. First the task is *asked*: an exception is raised inside it, so that it can clean up. Only if the
same piece of work still runs a grace later, its worker is killed. Both are counted from the instant the piece
of work began, which the worker writes down; but however late we come to look ourselves, the whole grace lies
between the question and the kill.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

WAIT: Final = "wait"
ASK: Final = "ask"
KILL: Final = "kill"

GRACE_S: Final = 1.0
# The question is not heard while the worker is at work for us (decoding, say), so it is repeated.
_ASKS: Final = 10


class Watch:
    """What has been done about the piece of work that one worker is at."""

    __slots__ = ("_asked_at_s", "_number")

    def __init__(self) -> None:
        """Begin: nothing has."""
        self._number: int | None = None
        self._asked_at_s = 0.0

    def look(
        self, now_s: float, number: int, *, since_s: float, limit_s: float, grace_s: float
    ) -> tuple[str, float]:
        """Return a verdict and when to look again.

        Args:
            number: Which piece of work it is; each has another.
            since_s: When it began.
            limit_s: How long it may run.
            grace_s: How long it may go on once it was asked to stop.
        """
        late_at_s = since_s + limit_s
        if now_s < late_at_s:
            return WAIT, late_at_s
        if number != self._number:
            self._number = number
            self._asked_at_s = now_s
        kill_at_s = self._asked_at_s + grace_s
        if now_s >= kill_at_s:
            return KILL, now_s + GRACE_S
        return ASK, min(kill_at_s, now_s + max(grace_s / _ASKS, 0.001))
