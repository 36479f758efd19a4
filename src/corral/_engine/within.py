"""Waiting in the midst of a step: users' code that rebuilds a result, or says it, waits for another one.

Role in the flow: the part of the engine that `wait_for` turns to when the thread is itself delivering.
Such a thread has to go on driving, for the other one may be delivering too, and wait likewise.

What arrives meanwhile is left for later, but for what it waits for: to deliver everything would nest one
such wait in the other, as deep as there are results. Only if nothing moves any more the rest is delivered
ahead.

Runs in: the parent, the thread that drives.
"""

from __future__ import annotations

from _thread import get_ident
from time import monotonic

from corral._engine.arrivals import Arrivals

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading

    from corral._engine.alarm import Alarm
    from corral._engine.onetime import OneAtATime
    from corral._engine.ports import Waitable
    from corral._native import WaitSet

_SPAN_S = 0.002
_PATIENCE = 3  # spans in which nothing came
_MAX_DEPTH = 30  # each takes about ten frames of the interpreter's stack


class WaitsWithin:
    """What an engine needs to wait within its own steps."""

    _alarm: Alarm
    _background_id: int
    _feeder: OneAtATime
    _foreground: threading.Lock
    _look_later: bool
    _undelivered: dict[Arrivals, int]
    _waitset: WaitSet
    _within: dict[int, int]

    def _take_in(self, tokens: list[int], arrivals: Arrivals) -> None:
        raise NotImplementedError

    def _look_for_stuck(self) -> None:
        raise NotImplementedError

    def announce(self) -> None:
        """Have who drives look whether what he waits for is done."""
        raise NotImplementedError

    def _is_within(self) -> bool:
        """Whether this thread is delivering."""
        return get_ident() in self._undelivered.values()

    def _wait_within(self, goal: Waitable, deadline: float | None) -> None:
        """Drive until `goal.done` or the time is up.

        Raises:
            RuntimeError: such waits are nested too deep.
        """
        me = get_ident()
        depth = self._within.get(me, 0)
        if depth >= _MAX_DEPTH:
            raise RuntimeError("too many results wait for others while they are rebuilt, one in the other")
        self._within[me] = depth + 1
        try:
            self._drive_within(goal, deadline, me)
        finally:
            self._within[me] = depth

    def _drive_within(self, goal: Waitable, deadline: float | None, me: int) -> None:
        for arrivals in self._own(me):
            arrivals.deliver_for(goal)
        self.announce()
        idle = 0
        while not goal.done and (deadline is None or monotonic() < deadline):
            if not self._come_forward(me):
                goal.park(_SPAN_S)
                idle += 1
            elif self._advance(goal, me):
                idle = 0
            else:
                idle += 1
            if idle > _PATIENCE and not goal.done:
                idle = 0
                for arrivals in self._own(me):
                    arrivals.deliver_ahead()
                self.announce()

    def _own(self, me: int) -> list[Arrivals]:
        return [arrivals for arrivals, thread in list(self._undelivered.items()) if thread == me]

    def _come_forward(self, me: int) -> bool:
        """Take the foreground, unless it is this thread's already; False if it is another's."""
        return me != self._background_id or self._foreground.acquire(blocking=False)

    def _advance(self, goal: Waitable, me: int) -> bool:
        """Take in what comes within a short span; return whether anything did."""
        try:
            self._alarm.until(None)
            tokens = self._waitset.wait(_SPAN_S, 0)
            if tokens:
                arrivals = Arrivals()
                self._take_in(tokens, arrivals)
                arrivals.deliver_for(goal)
            elif self._look_later:
                self._look_for_stuck()
        finally:
            if me == self._background_id:
                self._foreground.release()
        self._feeder.run()
        return bool(tokens)

    def _deliver_rest(self, arrivals: Arrivals) -> None:
        """At the end of a step: deliver what was left for later by waits within it."""
        self._undelivered.pop(arrivals, None)
        if self._within:
            me = get_ident()
            while self._within.get(me) == 0 and (left := self._own(me)):
                left[0].deliver()
                self._undelivered.pop(left[0], None)
            self._within.pop(me, None)
