"""The interpreter's own tests of `multiprocessing` and `concurrent.futures` pass against corral.

One item per test and start method. What is expected to fail is in `expected.toml`, strictly: what passes
in spite of it fails here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.compat.conftest import LIMIT_S, METHODS, collect
from tests.compat.expectations import VERSION, expectation_for, read

if TYPE_CHECKING:
    from concurrent.futures import Future

    from tests.compat.running import Result
    from tests.compat.stage import Test


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "test" not in metafunc.fixturenames:
        return
    chosen, missing = collect(metafunc.config)
    items = [pytest.param(test, id=f"{test.method}-{test.lane}-{test.name}") for test in chosen]
    items += [
        pytest.param(None, id=suite, marks=pytest.mark.skip(f"{suite}: {why}"))
        for suite, why in missing.items()
    ]
    metafunc.parametrize("test", items)


@pytest.mark.slow
@pytest.mark.timeout(4 * LIMIT_S)
def test_suite(test: Test, outcomes: dict[Test, Future[Result]]) -> None:
    expected = expectation_for(test)
    if expected is not None and not expected.run:
        pytest.xfail(expected.reason)
    result = outcomes[test].result()
    if result.outcome == "skipped":
        pytest.skip(result.detail)
    if result.outcome == "passed":
        assert expected is None, f"expected.toml says that it fails: {expected.reason}"
    elif expected is None:
        pytest.fail(f"{result.outcome}: {result.detail}", pytrace=False)
    else:
        pytest.xfail(expected.reason)


def test_no_entry_is_about_nothing(request: pytest.FixtureRequest) -> None:
    chosen, missing = collect(request.config)
    if missing:
        pytest.skip(f"without {', '.join(missing)} nobody can tell")
    concerned = [entry for entry in read() if VERSION in entry.versions and {*METHODS} & {*entry.methods}]
    assert [entry for entry in concerned if not any(map(entry.covers, chosen))] == []
