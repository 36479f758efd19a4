from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral._engine.retry import AGAIN, MAX_DEATHS, MAX_DELAY_S, OVER, POISON, Tries, delay_s


def test_a_task_is_tried_as_often_as_was_asked_for() -> None:
    tries = Tries(2)
    assert [tries.failed(lost=False, retryable=True) for _ in range(3)] == [AGAIN, AGAIN, OVER]
    assert tries.attempt == 3


def test_an_error_that_cannot_pass_is_final() -> None:
    assert Tries(5).failed(lost=False, retryable=False) == OVER


def test_a_death_is_a_try_whatever_the_errors_to_retry_on() -> None:
    tries = Tries(1)
    assert tries.failed(lost=True, retryable=False) == AGAIN
    assert tries.failed(lost=True, retryable=False) == POISON


def test_one_death_is_no_proof_of_poison() -> None:
    assert Tries(0).failed(lost=True, retryable=False) == OVER


def test_who_is_there_at_every_death_is_not_tried_for_ever() -> None:
    tries = Tries(1000)
    verdicts = [tries.failed(lost=True, retryable=True) for _ in range(MAX_DEATHS)]
    assert verdicts == [AGAIN] * (MAX_DEATHS - 1) + [POISON]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1), st.integers(0, 10))
def test_there_is_never_one_try_too_many(failures: list[tuple[bool, bool]], retries: int) -> None:
    tries = Tries(retries)
    for lost, retryable in failures:
        if tries.failed(lost=lost, retryable=retryable) != AGAIN:
            break
    assert tries.attempt <= retries + 1
    assert tries.deaths <= MAX_DEATHS


@pytest.mark.parametrize(("attempt", "longest"), [(2, 0.1), (3, 0.2), (4, 0.4), (40, MAX_DELAY_S)])
def test_pauses_double_up_to_a_minute_and_chance_halves_them_at_most(attempt: int, longest: float) -> None:
    assert delay_s(0.1, attempt, 0.0) == pytest.approx(longest)
    assert delay_s(0.1, attempt, 1.0) == pytest.approx(longest / 2)
