from __future__ import annotations

from typing import Any

import pytest

from corral._engine.terms import Terms, agree, agree_on_map


@pytest.mark.parametrize(
    ("wish", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "soon"}, ValueError),
        ({"grace": -1}, ValueError),
        ({"backoff": -1}, ValueError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, ValueError),
        ({"retry_on": ValueError("x")}, TypeError),
        ({"retry_on": (ValueError, int)}, TypeError),
        ({"tries": 3}, TypeError),
    ],
)
def test_what_makes_no_sense_is_refused(wish: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        agree(None, wish)  # type: ignore[arg-type]


def test_a_call_without_wishes_has_the_terms_of_its_pool() -> None:
    terms = Terms(timeout=3)
    assert agree(terms, {}) is terms
    assert agree(None, {}) is None


def test_a_wish_goes_before_the_terms_of_the_pool() -> None:
    agreed = agree(Terms(timeout=3, retries=2), {"timeout": 5})
    assert agreed is not None
    assert (agreed.timeout_s, agreed.retries) == (5.0, 2)


def test_terms_that_ask_for_nothing_are_none() -> None:
    assert agree(Terms(timeout=3), {"timeout": None}) is None
    assert agree(None, {"timeout": float("inf"), "grace": 2}) is None


def test_a_map_may_collect_its_errors() -> None:
    assert agree_on_map(None, {"errors": "collect"}) == (None, True)
    assert agree_on_map(None, {"errors": "raise"}) == (None, False)
    with pytest.raises(ValueError, match="errors must be"):
        agree_on_map(None, {"errors": "ignore"})
