"""The choice of a seat: idle ones first, then ahead to a depth; never a closed one."""

from __future__ import annotations

from corral._engine.scheduler import MAX_DEPTH, MIN_DEPTH, Scheduler


def crew(seats: int) -> Scheduler:
    scheduler = Scheduler(seats)
    for seat in range(seats):
        scheduler.open(seat)
    return scheduler


def fill(scheduler: Scheduler, most: int = 10_000) -> list[int]:
    """Send until nobody has room; return the seats in order."""
    seats = []
    while len(seats) < most and (seat := scheduler.pick()) is not None:
        scheduler.sent(seat)
        seats.append(seat)
    return seats


def test_idle_seats_come_first_the_lowest_of_them() -> None:
    assert fill(crew(4), 4) == [0, 1, 2, 3]


def test_work_of_unknown_length_is_sent_ahead_a_little() -> None:
    assert sorted(fill(crew(2))) == [0] * MIN_DEPTH + [1] * MIN_DEPTH


def test_short_tasks_are_sent_far_ahead_and_long_ones_are_not() -> None:
    scheduler = crew(1)
    for _ in range(30):
        scheduler.sent(0)
        scheduler.settled(0, 1, 10)
    assert len(fill(scheduler)) == MAX_DEPTH
    scheduler.settled(0, MAX_DEPTH, 10**10)
    assert len(fill(scheduler)) == MIN_DEPTH


def test_a_closed_seat_gets_nothing() -> None:
    scheduler = crew(2)
    scheduler.close(0)
    assert set(fill(scheduler)) == {1}
    scheduler.close(1)
    scheduler.returned(1, 1)
    assert scheduler.pick() is None


def test_a_settled_task_makes_room() -> None:
    scheduler = crew(1)
    fill(scheduler)
    assert scheduler.pick() is None
    scheduler.settled(0, 1, 10**9)
    assert scheduler.pick() == 0


def test_a_seat_opened_again_is_idle_once() -> None:
    scheduler = crew(1)
    fill(scheduler)
    scheduler.close(0)
    scheduler.open(0)
    assert scheduler.has_idle()
    assert fill(scheduler) == [0] * MIN_DEPTH


def test_steal_names_the_fullest_seat_and_half_of_what_waits() -> None:
    scheduler = crew(2)
    for _ in range(6):
        scheduler.sent(0)
    assert scheduler.steal() == (0, 1, 3)


def test_steal_leaves_a_running_task_alone() -> None:
    scheduler = crew(2)
    scheduler.sent(0)
    assert scheduler.steal() is None


def test_nobody_steals_while_nobody_is_idle() -> None:
    scheduler = crew(2)
    fill(scheduler)
    assert scheduler.steal() is None


def test_a_smaller_depth_asked_for_is_kept() -> None:
    scheduler = crew(1)
    for _ in range(30):
        scheduler.sent(0)
        scheduler.settled(0, 1, 10)
    sent = 0
    while scheduler.pick(2) is not None:
        scheduler.sent(0)
        sent += 1
    assert sent == 2
    assert scheduler.pick() == 0


def quick(seats: int) -> Scheduler:
    """A crew whose tasks have turned out to last a microsecond."""
    scheduler = crew(seats)
    for _ in range(60):
        scheduler.sent(0)
        scheduler.settled(0, 1, 1000)
    return scheduler


def test_very_short_tasks_keep_to_one_seat_while_its_queue_is_short() -> None:
    assert set(fill(quick(4), 50)) == {0}


def test_a_long_queue_of_short_tasks_wakes_others() -> None:
    assert len(set(fill(quick(4), 600))) == 4


def test_little_waiting_work_is_moved_only_if_its_seat_is_stuck() -> None:
    scheduler = quick(2)
    for _ in range(3):
        scheduler.sent(0)
    assert scheduler.steal() is None
    assert scheduler.unsure
    assert scheduler.steal(again=True) == (0, 1, 1)
    assert not scheduler.unsure


def test_little_waiting_work_stays_while_its_seat_gets_on() -> None:
    scheduler = quick(2)
    for _ in range(4):
        scheduler.sent(0)
    assert scheduler.steal() is None
    scheduler.settled(0, 1, 1000)
    assert scheduler.steal(again=True) is None
    assert scheduler.unsure


def test_a_short_task_kept_behind_another_is_looked_at_again_if_a_seat_is_idle() -> None:
    scheduler = quick(2)
    assert fill(scheduler, 1) == [0]
    assert not scheduler.unsure
    assert fill(scheduler, 1) == [0]
    assert scheduler.unsure
