"""The table of run times, and what is concluded from it."""

from __future__ import annotations

import pytest

from corral.cli import table
from corral.cli.comparing import verdict


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (123.4, "123 s"),
        (12.34, "12.3 s"),
        (1.0, "1.00 s"),
        (0.5, "500 ms"),
        (0.00125, "1.25 ms"),
        (2e-6, "2.00 us"),
        (3e-8, "30 ns"),
        (0, "0 ns"),
        (-0.02, "-20.0 ms"),
    ],
)
def test_durations_have_three_digits(seconds: float, shown: str) -> None:
    assert table.duration(seconds) == shown


def test_speed_up_and_overhead_are_against_the_first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "cores_available", lambda: 2)
    runs = [table.Run("sequential", 8.0), table.Run("shared", 5.0)]
    _, first, second, _ = table.render(runs, workers=4, items=1000).splitlines()
    assert first.split() == ["sequential", "8.00", "s", "1.00x"]
    assert second.split() == ["shared", "5.00", "s", "1.60x", "80", "%", "1.00", "s", "1.00", "ms"]


@pytest.mark.parametrize(("workers", "items", "width"), [(4, 100, 2), (1, 100, 1), (2, 1, 1), (2, 0, 1)])
def test_what_can_run_at_once(workers: int, items: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "cores_available", lambda: 2)
    assert table.lanes(workers=workers, items=items) == width


@pytest.mark.parametrize(
    ("sequential_s", "parallel_s", "start_s", "items", "words"),
    [
        (2.0, 1.1, 0.02, 1000, "pays: corral.Pool is 1.82 times"),
        (0.001, 0.5, 0.02, 1000, "an item is too small"),
        (0.01, 0.03, 0.024, 10, "too short next to starting"),
        (2.0, 2.0, 0.02, 100, "busy with something else"),
        (2.0, 2.0, 0.02, 1, "only one thing can run"),
    ],
)
def test_the_verdict(
    sequential_s: float,
    parallel_s: float,
    start_s: float,
    items: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "cores_available", lambda: 2)
    runs = [table.Run("sequential", sequential_s), table.Run("corral.Pool", parallel_s)]
    assert words in verdict(runs, start_s=start_s, workers=2, items=items)


def test_no_verdict_without_a_run() -> None:
    assert "failed" in verdict([table.Run("sequential", 1.0)], start_s=0, workers=2, items=10)
