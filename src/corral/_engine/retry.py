"""Whether a task that failed is tried again, and after how long.

Runs in: the parent. Pure: failures and dice in, verdicts out.

A death of the worker is a try like any other failure, whatever `retry_on` says, for it says nothing
about the task. But a task that was there at one death after the other is taken for their cause: it is not
tried any more, however many tries are left.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MAX_DEATHS: Final = 3
MAX_DELAY_S: Final = 60.0

AGAIN: Final = "again"
OVER: Final = "over"
POISON: Final = "poison"


class Tries:
    """How often one task, or one item of a map, was tried, and how often its worker died of it."""

    __slots__ = ("_left", "attempt", "deaths", "task")

    def __init__(self, retries: int) -> None:
        """Allow the first try and `retries` more."""
        self._left = retries
        self.attempt = 1
        self.deaths = 0
        self.task: object = None  # the task of the present try, if it is not the first

    def failed(self, *, lost: bool, retryable: bool) -> str:
        """Note a failure of the present try; return whether there is to be another.

        Args:
            lost: Whether its worker died.
            retryable: Whether the error is one that may pass.
        """
        if lost:
            self.deaths += 1
        if self._left > 0 and self.deaths < MAX_DEATHS and (lost or retryable):
            self._left -= 1
            self.attempt += 1
            return AGAIN
        return POISON if lost and self.deaths > 1 else OVER


def delay_s(backoff_s: float, attempt: int, dice: float) -> float:
    """How long to wait before try number `attempt` (2 is the first repetition).

    Doubles each time; `dice`, evenly from 0 to 1, takes up to half of it away, so that tasks which failed
    together do not come back together.
    """
    doublings = min(attempt - 2, 30)
    return float(min(MAX_DELAY_S, backoff_s * 2**doublings)) * (1.0 - dice / 2)
