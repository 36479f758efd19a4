"""Asks tasks to stop that run for too long or were cancelled, and has the deaf killed.

Role in the flow: the crew tells of each task with a time limit that it sends; the engine runs the entries
made here when the agenda says so. What is to be done `deadlines` decides; here it is carried out.

Runs in: the parent, under the engine's lock.

Invariants:
    INV-WARDEN-1: while a task with a limit is in flight at a seat, the agenda has an entry for the seat, due
        before the limit can have passed. None for each task: short tasks under a long limit would pile
        up.
"""

from __future__ import annotations

from time import monotonic

from corral._channel import wire
from corral._engine.deadlines import ASK, GRACE_S, KILL, Watch
from corral._engine.obituary import timed_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from corral._engine.crew import Crew
    from corral._engine.ledger import Task
    from corral._engine.seats import Seat
    from corral._engine.terms import Terms
else:
    import _signal

_NS = 1_000_000_000


class Warden:
    """Looks after the tasks of one crew."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._agenda = crew.agenda

    def sent(self, seat: Seat, terms: Terms) -> None:
        """A task under `terms` was sent to `seat`."""
        if terms.timeout_s is not None:
            self._have_looked_at(seat, monotonic() + terms.timeout_s)

    def stop(self, task: Task) -> None:
        """Stop a task that a worker has taken, by and by."""
        _Stop(self, task).run()

    def _have_looked_at(self, seat: Seat, due_s: float) -> None:
        if due_s < seat.look_at_s:
            seat.look_at_s = due_s
            self._agenda.add(due_s, _Look(self, seat, due_s))

    def look_at(self, seat: Seat) -> None:
        """See whether what runs at `seat` has run for too long."""
        seat.look_at_s = float("inf")
        crew, now_s = self._crew, monotonic()
        if not crew.is_manned(seat):
            return
        flying = crew.ledger.flying[seat.index]
        limits = [
            task.terms.timeout_s
            for task in flying.values()
            if task.terms is not None and task.terms.timeout_s is not None
        ]
        if not limits:
            return
        again_s = now_s + min(limits)
        progress = seat.link.progress()
        task = None if progress is None else flying.get(progress[1])
        if (
            progress is not None
            and task is not None
            and task.terms is not None
            and task.terms.timeout_s is not None
        ):
            verdict, look_s = seat.watch.look(
                now_s,
                progress[0],
                since_s=progress[3] / _NS,
                limit_s=task.terms.timeout_s,
                grace_s=task.terms.grace_s,
            )
            again_s = min(again_s, look_s)
            if verdict is ASK:
                seat.link.ask(wire.ENTRY | progress[0])
                seat.child.send_signal(_signal.SIGURG)
            elif verdict is KILL:
                crew.condemn(seat, task, timed_out(task, seat.child, progress[2] - 1))
        elif self._is_stuck(seat, next(iter(flying.values())), now_s):
            return
        self._have_looked_at(seat, again_s)

    def _is_stuck(self, seat: Seat, first: Task, now_s: float) -> bool:
        """End a worker that does not take the task that is its turn: it was stopped, or is beside itself.

        Nobody loses anything by it: what was not taken is sent elsewhere.
        """
        if first.terms is None or first.terms.timeout_s is None or not seat.is_between_tasks():
            seat.stuck = None
            return False
        if seat.stuck is None or seat.stuck[0] != first.id:
            seat.stuck = (first.id, now_s)
        if now_s < seat.stuck[1] + first.terms.timeout_s + first.terms.grace_s:
            return False
        taken = seat.link.taken(first.position, first.id)
        return self._crew.condemn(seat, first, timed_out(first, seat.child, None) if taken else None)

    def look_at_cancelled(self, stop: _Stop) -> None:
        """See whether the task that `stop` is about has stopped."""
        task = stop.task
        seat = self._crew.seat_of(task)
        if seat is None:
            return
        grace_s = GRACE_S if task.terms is None else task.terms.grace_s
        verdict, again_s = stop.watch.look(
            monotonic(), task.id, since_s=stop.since_s, limit_s=0.0, grace_s=grace_s
        )
        if verdict is KILL:
            self._crew.condemn(seat, task, None)
        else:
            seat.link.ask(wire.CANCEL | task.id)
            seat.child.send_signal(_signal.SIGURG)
        self._agenda.add(again_s, stop)


class _Look:
    """An entry of the agenda: a seat where a task with a limit is in flight."""

    __slots__ = ("_due_s", "_seat", "_warden")

    def __init__(self, warden: Warden, seat: Seat, due_s: float) -> None:
        self._warden = warden
        self._seat = seat
        self._due_s = due_s

    def run(self) -> None:
        if self._due_s == self._seat.look_at_s:  # else there is an earlier one
            self._warden.look_at(self._seat)


class _Stop:
    """An entry of the agenda: a task that was cancelled while it ran."""

    __slots__ = ("_warden", "since_s", "task", "watch")

    def __init__(self, warden: Warden, task: Task) -> None:
        self._warden = warden
        self.task = task
        self.watch = Watch()
        self.since_s = monotonic()

    def run(self) -> None:
        self._warden.look_at_cancelled(self)


class Return:
    """An entry of the agenda: a task that was put off."""

    __slots__ = ("_crew", "_task")

    def __init__(self, crew: Crew, task: Task) -> None:
        self._crew = crew
        self._task = task

    def run(self) -> None:
        self._crew.resume(self._task)
