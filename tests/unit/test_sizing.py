from __future__ import annotations

from typing import Any

import pytest

from corral._engine.sizing import Idleness, check_limits, check_range


def test_who_had_nothing_to_do_from_one_look_to_the_next_may_leave() -> None:
    idleness = Idleness(0)
    assert idleness.look({0: 5, 1: 7, 2: 0}, 3) == []
    assert idleness.look({0: 6, 1: 7, 2: 0}, 3) == [2, 1]


def test_so_many_stay_as_there_shall_be_at_least() -> None:
    idleness = Idleness(2)
    idleness.look({0: 0, 1: 0, 2: 0}, 3)
    assert idleness.look({0: 0, 1: 0, 2: 0}, 3) == [2]
    assert idleness.look({0: 0, 1: 0}, 2) == []


def test_who_was_busy_in_between_stays() -> None:
    idleness = Idleness(0)
    idleness.look({0: 1}, 1)
    idleness.look({}, 1)
    assert idleness.look({0: 1}, 1) == []


@pytest.mark.parametrize(("size", "expected"), [(3, (3, 3)), ((0, 4), (0, 4)), ((2, 2), (2, 2))])
def test_a_size_is_a_number_or_a_range(size: Any, expected: tuple[int, int]) -> None:
    assert check_range(size) == expected


@pytest.mark.parametrize("size", [0, -1, (0, 0), (3, 2), (-1, 2), 1.5, (1, 2.5), "2"])
def test_other_sizes_are_refused(size: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        check_range(size)


@pytest.mark.parametrize(
    ("memory", "idle"), [(0, None), (-1, None), (None, 0), (None, -1), (None, float("nan"))]
)
def test_limits_are_above_nothing(memory: Any, idle: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        check_limits(memory, idle)
