"""The list of what is expected to fail is in order, and the page that shows it is current."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tests.compat import table
from tests.compat.expectations import METHODS, VERSION, Expectation, entry, expectation_for, read
from tests.compat.stage import Test

if TYPE_CHECKING:
    from pathlib import Path

ROW = {"tests": ["Case.test"], "kind": "internals", "reason": "looks inside"}


def test_the_page_is_current() -> None:
    assert table.PAGE.read_text() == table.render(), "make compat-table"


def test_no_test_has_two_entries() -> None:
    seen = [
        (name, method, version)
        for each in read()
        for name in each.tests
        for method in each.methods
        for version in each.versions
    ]
    assert len(seen) == len(set(seen))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "mood"},
        {"methods": ["thread"]},
        {"versions": ["2.7"]},
        {"tests": []},
        {"reason": ""},
        {"x": 1},
    ],
)
def test_an_entry_that_says_what_cannot_be_is_refused(change: dict[str, Any]) -> None:
    assert entry(dict(ROW)) == Expectation(
        ("Case.test",), "internals", "looks inside", METHODS, ("3.11", "3.12", "3.13"), run=True
    )
    with pytest.raises(ValueError, match=r"expected\.toml"):
        entry(ROW | change)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("ProcessPoolForkserverWaitTest", "ProcessPoolWaitTest.test"),
        ("ProcessPoolForkWaitTest", "ProcessPoolWaitTest.test"),
        ("ProcessPoolSpawnProcessPoolExecutorTest", "ProcessPoolProcessPoolExecutorTest.test"),
    ],
)
def test_an_executors_test_is_named_without_its_start_method(case: str, name: str) -> None:
    assert Test("futures", "futures", "fork", "module", case, "test").name == name


def test_the_numbers_are_counted_by_what_was_expected(tmp_path: Path) -> None:
    listed = next(each for each in read() if each.run and VERSION in each.versions and "fork" in each.methods)
    case, name = listed.tests[0].replace("*", "").split(".")
    place = ["multiprocessing", "multiprocessing.misc", "fork", "module"]
    expected = [*place, case, name]
    assert expectation_for(Test(*expected)) is listed
    report = tmp_path / "report"
    rows = [
        [*place, "Case", "test_a", "passed", "", 0.1],
        [*place, "Case", "test_b", "hung", "", 0.1],
        [*place, "Case", "test_c", "skipped", "", 0.1],
        [*expected, "failed", "", 0.1],
        [*expected, "passed", "", 0.1],
    ]
    report.write_text(json.dumps(rows))
    assert table.count([report]) == {"fork": {"passed": 1, "skipped": 1, "unexpected": 2, listed.kind: 1}}
