"""The benchmarks: what is shown of what was measured, and that nothing gets lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from benchmarks import report, running, subjects, workloads
from benchmarks.running import Cell, Scale

if TYPE_CHECKING:
    from benchmarks.workload import Workload

TRIP = workloads.BY_KEY["tasks: round trip of a no-op"]
EXERCISE = workloads.BY_KEY["exercise: 10,000 numbers, default call"]


def cell(subject: str, p50: float | None, number: int = 0, problem: str = "") -> Cell:
    return Cell(TRIP.key, subject, number, 100, 1.0, {} if p50 is None else {"p50": p50}, problem)


def row(cells: list[Cell], workload: Workload = TRIP) -> list[str]:
    """Return the cells of the report's only row of figures."""
    (line,) = [
        line
        for line in report.to_markdown(cells, [workload], {"python": "x"}).splitlines()
        if line.startswith(f"| {workload.name}")
    ]
    return [part.strip() for part in line.strip("|").split("|")]


def test_a_figure_is_a_median_with_its_spread() -> None:
    cells = [cell("corral.Pool", value, number) for number, value in enumerate((8.0, 9.0, 12.0))]
    cells += [cell("stdlib Pool", 90.0)]
    assert row(cells) == [
        "round trip of a no-op: p50",
        "us",
        "9 ±22%",
        "90",
        "10x better",
        "<= 10",
        "yes",
    ]


def test_hangs_and_failures_are_shown_beside_the_figures() -> None:
    cells = [
        cell("corral.Pool", 30.0),
        cell("corral.Pool", None, 1, "hangs (> 40 s)"),
        cell("corral executor", None, 0, "fails: ValueError: no"),
        cell("stdlib Pool", 15.0),
    ]
    shown = row(cells)
    assert shown[2:4] == ["30, **hangs (> 40 s)** 1x", "**fails**"]
    assert shown[-3:] == ["2x worse", "<= 10", "**no**"]
    assert "- corral executor fails: ValueError: no" in report.to_markdown(cells, [TRIP], {})


def test_a_workload_that_failed_for_all_still_has_its_row() -> None:
    assert row([cell("corral.Pool", None, 0, "fails: x")])[2] == "**fails**"


def test_more_may_be_better() -> None:
    cells = [
        Cell(EXERCISE.key, name, 0, 100, 1.0, {"speed-up": value})
        for name, value in (("corral.Pool", 1.9), ("corral executor", 1.5), ("stdlib Pool", 0.95))
    ]
    assert row(cells, EXERCISE)[-3:] == ["2x better", ">= 1.9", "yes"]


def test_every_measurement_is_in_the_json() -> None:
    kept = json.loads(report.to_json([cell("corral.Pool", 8.0)], {"cores": 2}))
    assert kept["cells"][0]["figures"] == {"p50": 8.0}
    assert kept["conditions"] == {"cores": 2}


def test_slow_subjects_get_fewer_small_tasks_and_are_named() -> None:
    tiny = workloads.BY_KEY["tasks: map of tiny items, default chunks"]
    size = running.size_for(tiny, subjects.StdlibExecutor, running.FULL)
    assert size == 20_000
    cells = [Cell(tiny.key, "stdlib executor", 0, size, 1.0, {"per item": 90.0})]
    cells += [Cell(tiny.key, "corral.Pool", 0, 1_000_000, 1.0, {"per item": 0.1})]
    text = report.to_markdown(cells, [tiny], {})
    assert "stdlib executor was given 20,000 instead of 1,000,000 tasks" in text


def test_no_round_is_begun_that_would_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "run_cell", lambda *_: cell("corral.Pool", 1.0))
    told: list[str] = []
    scale = Scale(rounds=3, divisor=1, limit_s=1, budget_s=0)
    cells = running.run_all([TRIP], lambda each: each is subjects.CorralPool, scale, told.append)
    assert len(list(cells)) == 1
    assert told[-1] == "no round 2: it would end after 0 s (--budget-s)"


def test_every_target_belongs_to_a_workload_that_can_be_chosen() -> None:
    assert len(workloads.BY_KEY) == len(workloads.WORKLOADS)
    assert all(workload.targets for workload in workloads.WORKLOADS)


@pytest.mark.slow
@pytest.mark.parametrize("subject", [*subjects.OURS, *subjects.STDLIB])
def test_a_cell_measures_in_a_process_of_its_own(subject: type[subjects.Subject]) -> None:
    measured = running.run_cell(TRIP, subject, 0, Scale(rounds=1, divisor=100, limit_s=50))
    assert (measured.problem, measured.size) == ("", 30)
    assert 0 < measured.figures["p50"] <= measured.figures["p99"]


@pytest.mark.slow
def test_a_cell_that_takes_too_long_is_ended() -> None:
    measured = running.run_cell(EXERCISE, subjects.StdlibPool, 0, Scale(rounds=1, divisor=1, limit_s=0.05))
    assert measured.problem == "hangs (> 0.05 s)"
    assert measured.figures == {}
