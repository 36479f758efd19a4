"""Which worker gets the next task, and who may help whom.

Runs in: the parent, under the engine's lock. Pure: it knows seats and counts, no processes, no clock.

Very short tasks go to a seat that is at work already, while its queue is short: to wake a worker for a
microsecond of work costs more than the work. Else an idle seat comes first, the lowest number of them,
so that with little work the same few workers stay warm. When none is idle, tasks are sent ahead, up to a
depth that follows the measured duration: short tasks many at a time, long ones one running and one
waiting. When a seat runs dry while others hold tasks that were sent ahead, `steal` names the seat to
take from: at once if much waits there, after a second look if little does.

Invariants:
    INV-SCHED-1: `_load[seat]` is the number of tasks sent to the seat and not yet settled or revoked.
    INV-SCHED-2: a seat is in `_idle` if and only if it is open and its load is zero.
"""

from __future__ import annotations

from heapq import heappop, heappush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

MIN_DEPTH: Final = 2  # one running, one waiting: hides the way there and back
MAX_DEPTH: Final = 512
AHEAD_NS: Final = 1_000_000  # send ahead about a millisecond of work
STEAL_NS: Final = 50_000  # less work than this is moved only if its seat is stuck
QUICK_NS: Final = 10_000  # a task is very short if it lasts less than this ...
QUEUE_NS: Final = 120_000  # ... and so much of them is a short queue (to wake a worker takes 20 to 46 us)


class Scheduler:
    """Loads of the seats and the choice between them. Not thread-safe."""

    __slots__ = (
        "_depth",
        "_idle",
        "_load",
        "_next",
        "_open",
        "_quick",
        "_saturated",
        "_settled",
        "_suspect",
        "_task_ns",
        "unsure",
    )

    def __init__(self, seats: int) -> None:
        """Begin with `seats` closed seats."""
        self._load = [0] * seats
        self._open = [False] * seats
        self._idle: list[int] = []
        self._next = 0
        self._saturated = False
        self._task_ns = float(AHEAD_NS)
        self._depth = MIN_DEPTH
        self._quick = 0  # how many tasks are a short queue; 0 while tasks are not very short
        self._settled = [0] * seats
        self._suspect = (-1, 0)
        self.unsure = False  # whether `steal` wants to be called soon

    def grow(self, seats: int) -> None:
        """Have `seats` seats; the new ones are closed."""
        more = seats - len(self._load)
        self._load += [0] * more
        self._open += [False] * more
        self._settled += [0] * more

    def idle(self) -> dict[int, int]:
        """The seats that have nothing to do, and how many tasks each has settled."""
        return {seat: self._settled[seat] for seat in self._idle}

    def open(self, seat: int) -> None:
        """A fresh worker sits here now, with nothing in flight."""
        self._load[seat] = 0
        self._saturated = False
        if not self._open[seat]:
            self._open[seat] = True
            heappush(self._idle, seat)

    def close(self, seat: int) -> None:
        """Nothing more goes to this seat until it is opened again."""
        self._open[seat] = False
        if seat in self._idle:
            self._idle = sorted(other for other in self._idle if other != seat)

    def pick(self, depth: int | None = None) -> int | None:
        """Return the seat for one more task, or None if every seat has enough.

        `depth` lowers the bound on tasks per seat (for chunks, whose size already follows their duration).
        """
        if depth is None and 0 < self._load[self._next] < self._quick and self._open[self._next]:
            # What ran there so far was short; whether this is too, or waits for what stands behind it, only
            # a second look tells.
            self.unsure = bool(self._idle)
            return self._next
        if self._idle:
            return self._idle[0]
        if self._saturated:
            return None
        bound = self._depth if depth is None else min(depth, self._depth)
        load, seats = self._load, len(self._load)
        seat = self._next
        for _ in range(seats):
            if self._open[seat] and load[seat] < bound:
                self._next = seat
                return seat
            seat = seat + 1 if seat + 1 < seats else 0
        if depth is None:
            self._saturated = True
        return None

    def sent(self, seat: int) -> None:
        """One task more is in flight at `seat`."""
        if self._load[seat] == 0:
            self._leave_idle(seat)
        self._load[seat] += 1
        if self._quick > 1:
            self._next = seat
        else:
            self._next = seat + 1 if seat + 1 < len(self._load) else 0

    def full(self) -> None:
        """A ring has no room although the load is below the depth: wait until something settles."""
        self._saturated = True

    def settled(self, seat: int, count: int, elapsed_ns: int) -> None:
        """`count` tasks of `seat` settled, the last of which took `elapsed_ns`."""
        self._task_ns += (elapsed_ns - self._task_ns) * 0.25
        self._depth = max(MIN_DEPTH, min(MAX_DEPTH, int(AHEAD_NS / (self._task_ns + 1.0))))
        self._quick = (
            min(self._depth, int(QUEUE_NS / (self._task_ns + 1.0))) if self._task_ns < QUICK_NS else 0
        )
        self._settled[seat] += count
        self.returned(seat, count)

    def returned(self, seat: int, count: int) -> None:
        """`count` tasks left `seat` (settled, revoked or lost)."""
        if count <= 0:
            return
        self._load[seat] -= count
        self._saturated = False
        if self._load[seat] == 0 and self._open[seat]:
            heappush(self._idle, seat)

    def steal(self, *, again: bool = False) -> tuple[int, int, int] | None:
        """Return ``(victim, thief, count)`` if moving `count` waiting tasks would end the work sooner.

        If little work waits it will soon be done where it is, unless a long task blocks its way: then
        `unsure` is set, and a later call with `again` decides by whether anything has settled there since.
        """
        self.unsure = False
        if not self._idle:
            return None
        load = self._load
        victim = max(range(len(load)), key=load.__getitem__)
        waiting = load[victim] - 1
        if waiting < 1:
            return None
        if waiting * self._task_ns < STEAL_NS:
            suspect = (victim, self._settled[victim])
            stuck = again and suspect == self._suspect
            self._suspect = suspect
            if not stuck:
                self.unsure = True
                return None
        return victim, self._idle[0], (waiting + 1) // 2

    def has_idle(self) -> bool:
        """Whether a worker has nothing to do."""
        return bool(self._idle)

    def load(self, seat: int) -> int:
        """Tasks in flight at `seat`."""
        return self._load[seat]

    def _leave_idle(self, seat: int) -> None:
        idle = self._idle
        if idle and idle[0] == seat:
            heappop(idle)
        elif seat in idle:
            self._idle = sorted(other for other in idle if other != seat)
