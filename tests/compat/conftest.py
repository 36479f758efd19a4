"""The stage is set once, when the suites are collected; the lanes run while their tests are waited for."""

from __future__ import annotations

import json
import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.compat.expectations import expectation_for
from tests.compat.running import LaneRun, Result
from tests.compat.stage import Stage, Test

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGE = pytest.StashKey[Stage]()
# Which start methods; the whole takes minutes.
METHODS = os.environ.get("CORRAL_COMPAT", "").split()
LIMIT_S = float(os.environ.get("CORRAL_COMPAT_LIMIT_S", "90"))
REPORT = os.environ.get("CORRAL_COMPAT_REPORT", "")  # a file for all results, as JSON
JOBS = int(os.environ.get("CORRAL_COMPAT_JOBS", "3"))  # most tests wait for most of their time


def stage_of(config: pytest.Config) -> Stage:
    """Return the session's stage, setting it at first."""
    if STAGE not in config.stash:
        folder = tempfile.TemporaryDirectory(prefix="corral-compat-")
        config.add_cleanup(folder.cleanup)
        config.stash[STAGE] = Stage(Path(folder.name))
    return config.stash[STAGE]


def collect(config: pytest.Config) -> tuple[list[Test], dict[str, str]]:
    """Return the tests to run, and what is missing, with why."""
    if not METHODS:
        return [], {"all": "run by make compat"}
    tests, missing = stage_of(config).catalogue()
    return [test for test in tests if test.method in METHODS], missing


def is_run(item: pytest.Function) -> bool:
    """Tell whether an item's test is to be run at all."""
    test = item.callspec.params["test"]
    return test is not None and ((expected := expectation_for(test)) is None or expected.run)


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> None:
    """Have the runs look after themselves: they go on while other tests end."""


def write_report(path: Path, futures: dict[Test, Future[Result]]) -> None:
    """Write down what became of each test."""
    rows = [[*test, *future.result()] for test, future in futures.items() if future.done()]
    path.write_text(json.dumps(rows, indent=0))


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[Test, Future[Result]]]:
    """Run the tests of this session, lane by lane, from now on; a future for each."""
    chosen = [
        item.callspec.params["test"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "outcomes" in item.fixturenames and is_run(item)
    ]
    futures: dict[Test, Future[Result]] = {test: Future() for test in chosen}
    lanes: dict[tuple[str, str], list[Test]] = {}
    for test in chosen:
        lanes.setdefault((test.lane, test.method), []).append(test)
    stage = stage_of(request.config)

    def settle(test: Test, result: Result) -> None:
        if not futures[test].done():
            futures[test].set_result(result)

    runs = [LaneRun(stage, tests, LIMIT_S, settle) for tests in lanes.values()]
    with ThreadPoolExecutor(JOBS) as threads:
        for run in runs:
            threads.submit(run.run)
        try:
            yield futures
        finally:
            for run in runs:
                run.stop()
            if REPORT:
                write_report(Path(REPORT), futures)
