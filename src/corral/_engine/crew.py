"""The workers of an engine: seats, their links, and what is under way on them.

Role in the flow: the engine, holding its lock, hands tasks in (`post`) and reports what the wait set
saw (`take_in`); outcomes and endings are collected in an `Arrivals`, to be delivered once the lock is
released.

Invariants:
    INV-CREW-1: every method is called under the engine's lock; none runs users' code or blocks on a worker.
    INV-CREW-2: a frame that was sent has its task in `ledger.flying` of that seat until it is settled
        or taken back.

Failure: a worker's death shows on its pidfd. Its back ring is drained first (what it answered counts),
then the task it had taken is lost, those it had not are sent elsewhere, its heap blocks are taken back,
and it is replaced.
"""

from __future__ import annotations

from _pickle import dumps
from time import monotonic

from corral._channel import wire
from corral._codec import decode_failure
from corral._engine.agenda import Agenda
from corral._engine.arrivals import NOBODY, Arrivals
from corral._engine.ledger import ChunkTask, Ledger, Task
from corral._engine.messages import Said
from corral._engine.obituary import again, name_of, pool_broken, worker_lost
from corral._engine.outcome import raw
from corral._engine.scale import Scale
from corral._engine.scheduler import Scheduler
from corral._engine.seats import Seat
from corral._engine.sizing import IDLE_S, Idleness
from corral._engine.supervision import Supervisor
from corral._engine.warden import Return, Warden
from corral.errors import describe_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral._codec import Group
    from corral._engine.ledger import TermedTask
    from corral._engine.ports import Backend, Child

_BATCH = 1024
_UNDER_TERMS = wire.UNDER_TERMS  # looked at for every task
_MAX_PASSING = 256
_KILLED = {-9, -15}  # SIGKILL, SIGTERM: nobody does that to himself
_REAP_S = 1.0  # from the pidfd's word that a process is dead to its exit status


class Crew:
    """The seats of one engine."""

    def __init__(self, backend: Backend, workers: int, *, quota: int | None, on_demand: bool) -> None:
        self._backend = backend
        self._waitset = backend.waitset
        self._quota = quota
        self._on_demand = on_demand
        self.ledger = Ledger(workers)
        self._scheduler = Scheduler(workers)
        self._supervisor = Supervisor(workers)
        self.agenda = Agenda()
        self._warden = Warden(self)
        self._seats: dict[int, Seat] = {}  # by token
        self._seat_at: list[Seat | None] = [None] * workers
        self._size = self._vacant = workers
        self._idleness: Idleness | None = None
        self._idle_s = IDLE_S
        self._scale: Scale | None = None
        if backend.memory_bytes is not None:
            self._scale = Scale(self, backend.memory_bytes, backend.weigh)
        self._next_token = 1
        self._said = Said()
        self._is_looking = False  # for those who have nothing to do
        self.dismissed = False
        self.broken: BaseException | None = None
        self.is_short = False  # whether a worker could not be replaced

    def __len__(self) -> int:
        return len(self._seats)

    def children(self) -> list[Child]:
        """The processes of this moment."""
        return [seat.child for seat in self._seats.values()]

    # Tasks out.

    def post(self, task: Task) -> None:
        """Send the task, or let it wait for a worker."""
        waiting = self.ledger.waiting
        pick = self._pick if self._vacant else self._scheduler.pick
        if waiting or (index := pick(None)) is None or not self._send(index, task):
            waiting.append(task)

    def has_room(self, depth: int | None) -> bool:
        """Whether a worker should get one more task now."""
        return not self.ledger.waiting and self._pick(depth) is not None

    def refill(self) -> None:
        """Send waiting tasks while there is room."""
        waiting = self.ledger.waiting
        while waiting:
            if waiting[0].seat < 0:  # else an interruption came between sending and the next line
                index = self._pick(None)
                if index is None or not self._send(index, waiting[0]):
                    return
            waiting.popleft()

    def _pick(self, depth: int | None) -> int | None:
        if self._vacant and self._on_demand and self.broken is None and not self._scheduler.has_idle():
            try:
                self.launch(1)
            except OSError:
                # One worker fewer than wanted; none at all is an error.
                if not self._seats:
                    raise
        return self._scheduler.pick(depth)

    def _send(self, index: int, task: Task) -> bool:
        seat = self._seat_at[index]
        if seat is None:
            return False
        for group in task.needs:
            if group.number not in seat.known and not self._define(seat, group):
                return False
        if task.kind >= _UNDER_TERMS and not self._tell_terms(seat, task):  # type: ignore[arg-type]
            return False
        if task.buffers:
            position = seat.link.send(task.kind, task.id, task.group, task.body, task.buffers)
        else:
            position = seat.send(task.kind, task.id, task.group, task.body)
        if position < 0:
            self._scheduler.full()
            return False
        task.seat = index
        task.position = position
        task.body = task.buffers = None
        self.ledger.flying[index][task.id] = task
        self._scheduler.sent(index)
        if seat.quota is not None:
            seat.quota -= 1
            if seat.quota == 0:
                self._stop(seat)
        if self._scale is not None or task.kind >= _UNDER_TERMS:
            self._look_after(seat, task)
        return True

    def _look_after(self, seat: Seat, task: Task) -> None:
        if self._scale is not None:
            self._scale.loaded()
        if task.terms is not None:
            self._warden.sent(seat, task.terms)

    def _tell_terms(self, seat: Seat, task: TermedTask) -> bool:
        """Send what precedes a task under terms; if the task itself is not sent, it does no harm."""
        first = None if task.span is None else task.span[0]
        terms = (task.origin or task.id, task.attempt, task.terms.timeout_s, name_of(task.function), first)
        if seat.send(wire.TERMS, task.id, 0, dumps(terms, 5)) < 0:
            self._scheduler.full()
            return False
        return True

    def _define(self, seat: Seat, group: Group) -> bool:
        for need in group.needs:
            if need.number not in seat.known and not self._define(seat, need):
                return False
        if seat.link.send(wire.DEFINE, group.number, 0, group.blob) < 0:
            self._scheduler.full()
            return False
        seat.known.add(group.number)
        if group.transient:
            self._forget_another(seat, group.number)
        return True

    def _forget_another(self, seat: Seat, number: int) -> None:
        """Keep a worker from gathering the lambda of every call there ever was."""
        seat.passing.append(number)
        if len(seat.passing) > _MAX_PASSING and seat.link.send(wire.FORGET, seat.passing[0], 0, b"") >= 0:
            seat.known.discard(seat.passing.popleft())

    # Tasks back before they ran.

    def cancel(self, task: Task) -> bool:
        """Withdraw the task; False if a worker has taken it or it has settled."""
        if task.seat < 0:
            return self.ledger.withdraw(task)
        seat = self._seat_at[task.seat]
        flying = self.ledger.flying[task.seat]
        if seat is None or flying.get(task.id) is not task or not self._revoke(seat, task):
            return False
        self._scheduler.returned(seat.index, 1)
        self.refill()
        return True

    def running(self, task: Task) -> bool:
        """Whether a worker has taken the task and not yet answered."""
        seat = self._seat_at[task.seat] if task.seat >= 0 else None
        if seat is None or self.ledger.flying[seat.index].get(task.id) is not task:
            return False
        return seat.link.taken(task.position, task.id)

    # Tasks tried again.

    def postpone(self, task: TermedTask, delay_s: float) -> bool:
        """Send the task once more, `delay_s` from now; False if no more tasks are taken."""
        if self.broken is not None or self.dismissed:
            return False
        self.ledger.later[task.id] = task
        self.agenda.add(monotonic() + delay_s, Return(self, task))
        return True

    def resume(self, task: Task) -> None:
        """The time has come for a task that was put off, unless it was withdrawn."""
        if self.ledger.later.get(task.id) is task:
            self.ledger.waiting.append(task)
            del self.ledger.later[task.id]
            self.refill()

    # Tasks stopped while they run.

    def seats(self) -> list[Seat]:
        """Those that have a worker."""
        return list(self._seats.values())

    def taken_at(self, seat: Seat) -> Task | None:
        """The task that a worker has taken and not answered; None if there is none."""
        for task in self.ledger.flying[seat.index].values():
            if seat.link.taken(task.position, task.id):
                return task
        return None

    def is_manned(self, seat: Seat) -> bool:
        """Whether the worker that was given this seat still has it."""
        return self._seat_at[seat.index] is seat

    def seat_of(self, task: Task) -> Seat | None:
        """Where the task is under way; None if it is not."""
        if task.seat < 0 or self.ledger.flying[task.seat].get(task.id) is not task:
            return None
        return self._seat_at[task.seat]

    def stop(self, task: Task) -> bool:
        """Stop a task that a worker has taken; False if it is not under way. Its sink hears no more of it."""
        if not self.running(task):
            return False
        task.sink = NOBODY
        self._warden.stop(task)
        return True

    def condemn(self, seat: Seat, task: Task, error: BaseException | None) -> bool:
        """Kill the worker for `task`, which fails with `error`; False if it has moved on to another."""
        others = [other for other in self.ledger.flying[seat.index].values() if other is not task]
        # What stands behind it goes elsewhere first: so, should the worker answer now, it finds nothing to
        # take.
        taken_back = [other for other in others if self._revoke(seat, other)]
        self._scheduler.returned(seat.index, len(taken_back))
        self.ledger.again(taken_back)
        if len(taken_back) < len(others):
            self.refill()
            return False
        seat.verdict = (task.id, error)
        seat.stopping = seat.told = True
        self._scheduler.close(seat.index)
        seat.child.kill()
        self.refill()
        return True

    @property
    def unsure(self) -> bool:
        """Whether a task waits behind another although a worker is idle; to be looked at again soon."""
        return self._scheduler.unsure

    def steal(self, *, again: bool = False) -> bool:
        """Give an idle worker what waits behind another's long task; return whether to look again soon."""
        move = self._scheduler.steal(again=again)
        if move is not None:
            self._move(*move)
        return self._scheduler.unsure

    def _move(self, victim: int, thief: int, count: int) -> None:
        seat = self._seat_at[victim]
        if seat is None:
            return
        moved: list[Task] = []
        for task in list(reversed(self.ledger.flying[victim].values()))[:count]:
            if not self._revoke(seat, task):
                break
            moved.append(task)
        self._scheduler.returned(victim, len(moved))
        for task in reversed(moved):
            if not self._send(thief, task):
                self.ledger.waiting.append(task)

    def _revoke(self, seat: Seat, task: Task) -> bool:
        try:
            body = seat.link.revoke(task.position, task.id)
        except ValueError as error:
            self._condemn(seat, error)
            return False
        if body is None:
            return False
        del self.ledger.flying[seat.index][task.id]
        task.body, task.buffers, task.seat, task.position = body, (), -1, -1
        return True

    # Outcomes in.

    def take_in(self, tokens: list[int], arrivals: Arrivals) -> None:
        """Read the links and mark the deaths that `tokens` of the wait set name."""
        for token in tokens:
            seat = self._seats.get(token >> 1)
            if seat is None:
                continue
            if token & 1:
                self._bury(seat, arrivals)
            elif seat.damage is None:
                try:
                    self._drain(seat, arrivals)
                except ValueError as error:
                    self._condemn(seat, error)

    def everything(self) -> list[int]:
        """The tokens of all that there may be to take in."""
        links = [seat.token << 1 for seat in self._seats.values()]
        deaths = [seat.token << 1 | 1 for seat in self._seats.values() if seat.child.poll() is not None]
        return links + deaths

    def _drain(self, seat: Seat, arrivals: Arrivals) -> int:
        """Take in a batch of frames; return how many."""
        # Here a signal's handler may raise after any call and before any turn of a loop. Between these, a
        # task goes from the book to the outcomes at once; and what was read stays in the inbox until done.
        flying = self.ledger.flying[seat.index]
        outcomes = arrivals.outcomes
        elapsed_ns = 0
        frames = seat.link.recv_many(_BATCH, seat.inbox)
        for kind, task_id, aux, body in frames:
            if kind in wire.SETTLING:
                if task_id in flying:
                    outcomes[task_id] = (flying[task_id], kind, aux, body)
                    del flying[task_id]
                    elapsed_ns = aux
            elif kind == wire.PARTIAL:
                if task_id in flying:
                    # Under a key of its own: the task's is for the rest. Read twice, it is taken note of
                    # once.
                    outcomes[-task_id << 32 | wire.part_of(aux)[0]] = (flying[task_id], kind, aux, body)
                    self._note_part(flying[task_id], aux)
            else:
                self._hear(seat, kind, body, arrivals)
        count = self._scheduler.load(seat.index) - len(flying)
        if count > 0:
            self._scheduler.settled(seat.index, count, elapsed_ns)
        if seat.stopping and not seat.told:
            self._stop(seat)
        read = len(frames)
        frames.clear()
        return read

    def _note_part(self, task: Task, aux: int) -> None:
        assert isinstance(task, ChunkTask), "only chunks are answered in parts"
        task.heard = sum(wire.part_of(aux))

    def _hear(self, seat: Seat, kind: int, body: Any, arrivals: Arrivals) -> None:
        """Take in a frame that is no answer."""
        if kind == wire.READY:
            seat.ready = True
            self._supervisor.got_ready()
        elif kind == wire.BROKEN:
            cause = decode_failure(raw(body))
            self.give_up(pool_broken("the initializer of a worker failed", cause), arrivals)
        elif kind == wire.LEAVING:
            seat.stopping = seat.told = True
            self._scheduler.close(seat.index)
        elif kind in wire.SAID:
            self._said.heard.append((kind, body))
            arrivals.said = self._said

    # Life and death.

    def fill_up(self) -> None:
        """Try again to start the workers that could not be started when they were to replace others."""
        self.is_short = False
        try:
            self.launch()
        except OSError:
            self.is_short = True
        self.refill()

    def launch(self, most: int | None = None) -> None:
        """Start workers in empty seats, `most` of them.

        Raises:
            OSError: a process could not be started.
        """
        for index, seat in enumerate(self._seat_at[: self._size]):
            if seat is None and (most is None or most > 0):
                self._launch(index)
                most = None if most is None else most - 1

    def _launch(self, index: int) -> None:
        link, child = self._backend.launch(index)
        seat = Seat(index, self._next_token, link, child, self._quota)
        self._next_token += 1
        self._seats[seat.token] = seat
        self._seat_at[index] = seat
        self._count_vacant()
        if self._idleness is not None:
            self._look_for_idle_soon()
        self._waitset.add_link(seat.token << 1, link)
        self._waitset.add_fd(seat.token << 1 | 1, child.sentinel)
        self._scheduler.open(index)

    def _count_vacant(self) -> None:
        self._vacant = self._seat_at[: self._size].count(None)

    # How many there are.

    def resize(self, workers: int) -> None:
        """Have `workers` workers; those who are too many leave once they have done what they run."""
        self._scheduler.grow(workers)
        self.ledger.grow(workers)
        self._seat_at += [None] * (workers - len(self._seat_at))
        self._size = workers
        self._count_vacant()
        for seat in self.seats():
            if seat.index >= workers and not seat.stopping:
                self._send_home(seat)
        if not self._on_demand:
            self.launch()
        self.refill()

    def breathe(self, least: int, idle_s: float) -> None:
        """Let workers leave that had nothing to do for `idle_s`, but for `least`; and come when needed."""
        self._on_demand = True
        self._idle_s = idle_s
        self._idleness = Idleness(least)
        self._look_for_idle_soon()

    def _look_for_idle_soon(self) -> None:
        assert self._idleness is not None, "only of a crew that breathes"
        if len(self._seats) > self._idleness.least and not self._is_looking:
            self._is_looking = True
            self.agenda.add(monotonic() + self._idle_s, self)

    def run(self) -> None:
        """Send workers home that have nothing to do (an entry of the agenda)."""
        self._is_looking = False
        if self.dismissed or self._idleness is None:
            return
        for index in self._idleness.look(self._scheduler.idle(), len(self._seats)):
            seat = self._seat_at[index]
            if seat is not None:
                seat.retired = True
                self._stop(seat)
        self._look_for_idle_soon()

    def _send_home(self, seat: Seat) -> None:
        """Have a worker leave for good, and what it has not begun done by others."""
        seat.retired = True
        flying = list(self.ledger.flying[seat.index].values())
        taken_back = [task for task in flying if self._revoke(seat, task)]
        self._scheduler.returned(seat.index, len(taken_back))
        self.ledger.again(taken_back)
        self._stop(seat)

    def scrap(self) -> None:
        """Not all could be launched: end those that were."""
        for child in self.children():
            child.kill()
        for seat in list(self._seats.values()):
            seat.child.wait(_REAP_S)
            self._leave(seat)

    def dismiss(self) -> None:
        """Have every worker leave once it has done what was sent to it."""
        self.dismissed = True
        for seat in self._seats.values():
            self._stop(seat)

    def tell_again(self) -> bool:
        """Tell those who are to leave and could not be told; return whether some still cannot be."""
        untold = [seat for seat in self._seats.values() if seat.stopping and not seat.told]
        for seat in untold:
            self._stop(seat)
        return not all(seat.told for seat in untold)

    def _stop(self, seat: Seat) -> None:
        if not seat.stopping:
            seat.stopping = True
            self._scheduler.close(seat.index)
        if not seat.told:
            # Without room in the ring it is told when the next of its answers makes some.
            seat.told = seat.link.send(wire.STOP, 0, 0, b"") >= 0

    def _condemn(self, seat: Seat, error: ValueError) -> None:
        """What the worker has written cannot be: end it, and believe no more of what is on its link."""
        seat.damage = error
        self._scheduler.close(seat.index)
        self._waitset.remove(seat.token << 1)
        seat.child.kill()

    def _last_answers(self, seat: Seat, arrivals: Arrivals) -> None:
        """Take in what the dead worker has answered, as far as that can be read."""
        try:
            while seat.damage is None and self._drain(seat, arrivals):
                pass
        except ValueError as error:
            seat.damage = error

    def _last_words(self, seat: Seat) -> tuple[int, str, tuple[int, int, int, int] | None]:
        """What the dead worker was doing, what else is known, and which items of a chunk had begun."""
        words = self._backend.last_words(seat.child)
        if seat.damage is not None:
            words = f"{seat.damage}: something in the worker has written where it must not\n{words}".rstrip()
        return seat.link.phase(), words, seat.link.progress()

    def _bury(self, seat: Seat, arrivals: Arrivals) -> None:
        self._last_answers(seat, arrivals)
        exitcode = seat.child.wait(_REAP_S)
        again: list[Task] = []
        killed: list[Task] = []
        for task in list(self.ledger.flying[seat.index].values()):
            (again if self._revoke(seat, task) else killed).append(task)
        self.ledger.flying[seat.index].clear()
        phase, words, progress = self._last_words(seat) if killed else (0, "", None)
        self._settle_link(seat)
        for task in killed:
            if isinstance(task, ChunkTask) and progress is not None and progress[1] == task.id:
                task.begun = progress[2]
            error = None if seat.verdict is None or seat.verdict[0] != task.id else seat.verdict[1]
            arrivals.call(
                task.sink.failed,
                task,
                error or worker_lost(task, seat.child, exitcode, phase, seat.reason or words),
            )
        self.ledger.again(again)
        self._leave(seat)
        if not self.dismissed and self.broken is None:
            self._replace(seat, exitcode, arrivals, cost_a_task=bool(killed))

    def _settle_link(self, seat: Seat) -> None:
        try:
            seat.link.settle()
        except ValueError as error:
            # What cannot be read cannot be given back; the heap recovers what the dead worker owned.
            seat.damage = error

    def _leave(self, seat: Seat) -> None:
        self._scheduler.close(seat.index)
        self._waitset.remove(seat.token << 1)
        self._waitset.remove(seat.token << 1 | 1)
        del self._seats[seat.token]
        self._seat_at[seat.index] = None
        self._count_vacant()
        self._backend.bury(seat.child)

    def _replace(self, seat: Seat, exitcode: int | None, arrivals: Arrivals, *, cost_a_task: bool) -> None:
        if seat.index >= self._size or (seat.retired and self._idleness is not None):
            return
        planned = seat.verdict is not None or (seat.stopping and exitcode == 0)
        if not planned and not self._supervisor.may_restart(
            monotonic(), cost_a_task=cost_a_task, was_ready=seat.ready, was_killed=exitcode in _KILLED
        ):
            message = f"workers keep dying (the last one {describe_exit(exitcode)})"
            self.give_up(pool_broken(message, None), arrivals)
            return
        try:
            self._launch(seat.index)
        except Exception as error:
            self.is_short = True
            if not self._seats:
                self.give_up(pool_broken("a worker could not be replaced", error), arrivals)

    def give_up(self, error: BaseException, arrivals: Arrivals) -> None:
        """The pool is broken: no task runs any more."""
        if self.broken is None:
            self.drop_all(error, arrivals)
            for child in self.children():
                child.kill()

    def drop_all(self, error: BaseException, arrivals: Arrivals) -> None:
        """Fail every task with `error`, and take no more."""
        self.broken = error
        self.dismissed = True
        for task in self.ledger.clear():
            arrivals.call(task.sink.failed, task, again(error))
        for seat in self._seats.values():
            self._scheduler.close(seat.index)
