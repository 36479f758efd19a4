from __future__ import annotations

import threading
from time import monotonic

from corral._engine.agenda import Agenda
from corral._engine.alarm import Alarm


def test_entries_come_when_they_are_due_in_the_order_of_their_times() -> None:
    agenda = Agenda()
    for when_s, name in [(3.0, "c"), (1.0, "a"), (2.0, "b"), (1.0, "a2")]:
        agenda.add(when_s, name)
    assert agenda.next_s == 1.0
    assert agenda.pop_due(0.9) is None
    assert [agenda.pop_due(2.0) for _ in range(4)] == ["a", "a2", "b", None]
    assert agenda.next_s == 3.0
    assert agenda.pop_due(3.0) == "c"
    assert agenda.next_s is None
    assert not len(agenda)


class Entry:
    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.runs = 0

    def run(self) -> None:
        self.runs += 1
        if self.errors:
            raise self.errors.pop()


def alarm(agenda: Agenda) -> tuple[Alarm, list[int]]:
    kicks: list[int] = []
    return Alarm(agenda, threading.RLock(), lambda: kicks.append(1)), kicks  # type: ignore[arg-type]


def test_without_entries_one_waits_as_long_as_one_likes() -> None:
    ours, _ = alarm(Agenda())
    assert ours.until(None) is None
    assert ours.until(7.0) == 7.0


def test_what_is_due_runs_and_what_is_not_bounds_the_wait() -> None:
    agenda = Agenda()
    due, later = Entry(), Entry()
    agenda.add(monotonic() - 1, due)
    agenda.add(monotonic() + 5, later)
    ours, _ = alarm(agenda)
    assert 4 < (ours.until(None) or 0) <= 5
    assert (due.runs, later.runs) == (1, 0)
    assert ours.until(2.0) == 2.0


def test_an_entry_that_is_interrupted_runs_again() -> None:
    agenda = Agenda()
    entry = Entry(KeyboardInterrupt())
    agenda.add(monotonic(), entry)
    ours, _ = alarm(agenda)
    try:
        ours.until(None)
    except KeyboardInterrupt:
        ours.until(None)
    assert entry.runs == 2


def test_sleepers_are_woken_only_for_what_comes_before_their_time() -> None:
    agenda = Agenda()
    ours, kicks = alarm(agenda)
    assert ours.rest(None) is None
    agenda.add(monotonic() + 10, Entry())
    ours.set()
    assert len(kicks) == 1
    agenda.add(monotonic() + 20, Entry())
    ours.set()
    assert len(kicks) == 1
    assert (ours.rest(None) or 0) <= 10
    agenda.add(monotonic() + 5, Entry())
    ours.set()
    assert len(kicks) == 2
