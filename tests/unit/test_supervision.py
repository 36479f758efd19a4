"""Restart intensity: deaths are weighed within a window; those that cost a task do not count."""

from __future__ import annotations

from corral._engine.supervision import Supervisor


def verdicts(supervisor: Supervisor, deaths: int, *, was_ready: bool) -> list[bool]:
    return [supervisor.may_restart(t / 1000, cost_a_task=False, was_ready=was_ready) for t in range(deaths)]


def test_workers_that_never_get_ready_end_it() -> None:
    assert verdicts(Supervisor(2, max_restarts=3), 4, was_ready=False) == [True, True, True, False]


def test_workers_that_had_started_well_are_replaced_ten_times_as_often() -> None:
    assert verdicts(Supervisor(2, max_restarts=3), 31, was_ready=True) == [True] * 30 + [False]


def test_deaths_outside_the_window_are_forgotten() -> None:
    supervisor = Supervisor(2, max_restarts=1, window_s=10)
    assert supervisor.may_restart(0.0, cost_a_task=False, was_ready=False)
    assert supervisor.may_restart(11.0, cost_a_task=False, was_ready=False)
    assert not supervisor.may_restart(12.0, cost_a_task=False, was_ready=False)


def test_where_workers_do_get_ready_one_that_did_not_was_killed() -> None:
    supervisor = Supervisor(2, max_restarts=3)
    for t in range(30):
        supervisor.got_ready()
        assert supervisor.may_restart(t / 1000, cost_a_task=False, was_ready=False)
    # Now none gets ready any more.
    assert not supervisor.may_restart(0.5, cost_a_task=False, was_ready=False)


def test_one_that_was_killed_before_it_was_ready_counts_little() -> None:
    supervisor = Supervisor(2, max_restarts=3)
    verdicts = [
        supervisor.may_restart(0.0, cost_a_task=False, was_ready=False, was_killed=True) for _ in range(31)
    ]
    assert verdicts == [True] * 30 + [False]


def test_a_death_that_cost_a_task_made_progress() -> None:
    supervisor = Supervisor(1, max_restarts=0)
    assert all(supervisor.may_restart(0.0, cost_a_task=True, was_ready=True) for _ in range(1000))
