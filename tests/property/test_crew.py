"""The crew against workers made of lists: whatever they do, each task settles exactly once.

No process is started: a fake link holds frames, and the machine decides when its worker takes one, answers,
or dies. Only a task that was taken may be lost.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from corral._channel import wire
from corral._engine.crew import Arrivals, Crew
from corral._engine.engine import Engine
from corral._engine.ledger import Task
from corral.errors import WorkerLost

ROOM = 6  # frames that a fake ring holds


class FakeLink:
    def __init__(self) -> None:
        self.queue: list[tuple[int, int, int, Any, int]] = []
        self.back: list[tuple[int, int, int, bytes]] = []
        self.running: tuple[int, int] | None = None  # position, id
        self.next_position = 0

    def send(self, kind: int, task_id: int, aux: int, body: Any, buffers: Any = None) -> int:
        if len(self.queue) >= ROOM:
            return -1
        self.next_position += 8
        self.queue.append((kind, task_id, aux, body, self.next_position))
        return self.next_position

    def revoke(self, position: int, task_id: int) -> bytes | None:
        for frame in self.queue:
            if frame[4] == position and frame[1] == task_id:
                self.queue.remove(frame)
                return bytes(frame[3])
        return None

    def taken(self, position: int, task_id: int) -> bool:
        return all(frame[4] != position for frame in self.queue)

    def recv_many(
        self, limit: int, frames: list[tuple[int, int, int, bytes]]
    ) -> list[tuple[int, int, int, bytes]]:
        taken, self.back = self.back[:limit], self.back[limit:]
        frames.extend(taken)
        return frames

    def settle(self) -> int:
        return 0

    def progress(self) -> tuple[int, int, int, int] | None:
        return None

    def phase(self) -> int:
        return 0


class FakeChild:
    def __init__(self, pid: int) -> None:
        self.pid = self.identity = self.sentinel = pid
        self.alive = True

    def wait(self, timeout_s: float | None = None) -> int:
        return -9

    def kill(self) -> None:
        self.alive = False

    terminate = kill

    def close(self) -> None: ...


class FakeWaitSet:
    def add_link(self, token: int, link: Any) -> None: ...
    def add_fd(self, token: int, fd: int) -> None: ...
    def remove(self, token: int) -> None: ...
    def kick(self) -> None: ...


class FakeBackend:
    spin_us = 0
    memory_bytes: int | None = None

    def weigh(self, pid: int) -> int:
        return 0

    def __init__(self) -> None:
        self.waitset: Any = FakeWaitSet()
        self.launched: list[tuple[FakeLink, FakeChild]] = []

    def launch(self, seat: int) -> Any:
        self.launched.append((FakeLink(), FakeChild(len(self.launched) + 1)))
        return self.launched[-1]

    def last_words(self, child: Any) -> str:
        return ""

    def bury(self, child: Any) -> None: ...
    def tidy(self) -> None: ...


class Recorder:
    """A sink that remembers every outcome of its task."""

    def __init__(self) -> None:
        self.outcomes: list[object] = []
        self.ever_taken = False

    def settled(self, task: Task, kind: int, elapsed_ns: int, body: Any) -> None:
        self.outcomes.append("ok")

    def failed(self, task: Task, error: BaseException) -> None:
        self.outcomes.append(error)

    def cancel(self) -> bool:
        return False


class CrewMachine(RuleBasedStateMachine):
    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.backend = FakeBackend()
        self.crew = Crew(self.backend, 3, quota=None, on_demand=False)  # type: ignore[arg-type]
        self.crew.launch()
        self.sinks: dict[int, Recorder] = {}
        self.cancelled: set[int] = set()

    def seats(self) -> list[Any]:
        return [seat for seat in self.crew._seats.values() if seat.child.alive]

    def deliver(self, tokens: list[int]) -> None:
        arrivals = Arrivals()
        self.crew.take_in(tokens, arrivals)
        if self.crew.ledger.waiting:
            self.crew.refill()
        else:
            self.crew.steal(again=True)
        arrivals.deliver()

    @rule(target=tasks)
    def submit(self) -> Task:
        sink = Recorder()
        task = Task(wire.CALL, len, 1, (), b"body", None, sink)
        task.id = len(self.sinks) + 1
        self.sinks[task.id] = sink
        self.crew.post(task)
        return task

    @rule(task=consumes(tasks))
    def cancel(self, task: Task) -> None:
        if self.crew.cancel(task):
            assert not self.sinks[task.id].outcomes
            self.cancelled.add(task.id)

    @precondition(lambda self: self.seats())
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(self.seats())).link
        if link.running is None and link.queue:
            _, task_id, _, _, position = link.queue.pop(0)
            link.running = (position, task_id)
            self.sinks[task_id].ever_taken = True

    @precondition(lambda self: self.seats())
    @rule(data=st.data(), elapsed_ns=st.sampled_from([100, 5_000, 10**9]), heard=st.booleans())
    def answer(self, data: st.DataObject, elapsed_ns: int, heard: bool) -> None:
        seat = data.draw(st.sampled_from(self.seats()))
        if seat.link.running is not None:
            seat.link.back.append((wire.OK, seat.link.running[1], elapsed_ns, b""))
            seat.link.running = None
        if heard:
            self.deliver([seat.token << 1])

    @precondition(lambda self: self.seats())
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        seat = data.draw(st.sampled_from(self.seats()))
        seat.child.alive = False
        seat.ready = True  # a worker that had started well: replaced
        self.deliver([seat.token << 1 | 1])

    @invariant()
    def no_task_settles_twice(self) -> None:
        assert all(len(sink.outcomes) <= 1 for sink in self.sinks.values())

    @invariant()
    def only_what_was_taken_is_lost(self) -> None:
        if self.crew.broken is None:
            for sink in self.sinks.values():
                assert sink.ever_taken or not isinstance((sink.outcomes or [None])[0], WorkerLost)

    @invariant()
    def every_unsettled_task_is_in_the_book_once(self) -> None:
        book = [task.id for task in self.crew.ledger.tasks()]
        open_ids = {
            task_id
            for task_id, sink in self.sinks.items()
            if not sink.outcomes and task_id not in self.cancelled
        }
        assert sorted(book) == sorted(open_ids)

    @invariant()
    def nothing_waits_while_a_worker_is_idle(self) -> None:
        assert not (self.crew.ledger.waiting and self.crew._scheduler.has_idle())

    @invariant()
    def loads_are_what_is_under_way(self) -> None:
        crew = self.crew
        for seat in crew._seats.values():
            assert crew._scheduler.load(seat.index) == len(crew.ledger.flying[seat.index])

    def teardown(self) -> None:
        # Let every worker finish: then every task has settled.
        for _ in range(10_000):
            if not self.crew.ledger or self.crew.broken is not None:
                break
            for seat in self.seats():
                link = seat.link
                if link.running is None and link.queue:
                    frame = link.queue.pop(0)
                    link.running = (frame[4], frame[1])
                if link.running is not None:
                    link.back.append((wire.OK, link.running[1], 1000, b""))
                    link.running = None
                self.deliver([seat.token << 1])
        assert not self.crew.ledger


TestCrew = CrewMachine.TestCase
TestCrew.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_a_worker_whose_ring_is_full_is_told_to_leave_when_there_is_room() -> None:
    backend = FakeBackend()
    crew = Crew(backend, 1, quota=None, on_demand=False)  # type: ignore[arg-type]
    crew.launch()
    link = backend.launched[0][0]
    while link.send(wire.CALL, 1, 0, b"") >= 0:
        pass
    crew.dismiss()
    assert crew.tell_again()
    link.queue.pop(0)
    assert not crew.tell_again()
    assert link.queue[-1][0] == wire.STOP


def test_a_worker_that_could_not_be_replaced_is_launched_later() -> None:
    backend = FakeBackend()
    crew = Crew(backend, 2, quota=None, on_demand=False)  # type: ignore[arg-type]
    crew.launch()
    launch, seat = backend.launch, next(iter(crew._seats.values()))

    def refuse(_seat: int) -> Any:
        raise OSError("no room")

    backend.launch = refuse  # type: ignore[method-assign]
    crew.take_in([seat.token << 1 | 1], Arrivals())
    assert (len(crew), crew.is_short) == (1, True)
    backend.launch = launch  # type: ignore[method-assign]
    crew.fill_up()
    assert (len(crew), crew.is_short) == (2, False)


def test_workers_launched_before_one_that_cannot_be_are_ended() -> None:
    backend = FakeBackend()
    launch = backend.launch

    def launch_two(seat: int) -> Any:
        if len(backend.launched) == 2:
            raise OSError("no room")
        return launch(seat)

    backend.launch = launch_two  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no room"):
        Engine(backend, 3)  # type: ignore[arg-type]
    assert not any(child.alive for _, child in backend.launched)
