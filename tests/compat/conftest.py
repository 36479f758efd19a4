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
# Which start methods. Not given: the default one, and of its tests the quick ones; the whole takes minutes.
CHOSEN = os.environ.get("CORRAL_COMPAT")
METHODS = ["forkserver"] if CHOSEN is None else CHOSEN.split()
SLOW = frozenset(Path(__file__).with_name("slow.txt").read_text().split())
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
        return [], {"all": "none was asked for"}
    tests, missing = stage_of(config).catalogue()
    chosen = [test for test in tests if test.method in METHODS]
    if CHOSEN is None:
        # What threads do in multiprocessing's guise does not depend on the start method, nor on corral much.
        chosen = [test for test in chosen if test.name not in SLOW and not test.lane.endswith(".threads")]
        missing = {**missing, "rest": f"{len(tests) - len(chosen)} tests more are run by make compat"}
    return chosen, missing


def is_run(test: Test) -> bool:
    """Tell whether a test is to be run at all."""
    expected = expectation_for(test)
    return expected is None or expected.run


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> None:
    """Have the runs look after themselves: they go on while other tests end."""


class Lanes:
    """The runs of a session, as they go on; `futures` has each test's result, once it is there."""

    def __init__(self, stage: Stage, chosen: list[Test]) -> None:
        self.chosen = chosen
        self.futures: dict[Test, Future[Result]] = {test: Future() for test in chosen if is_run(test)}
        lanes: dict[tuple[str, str], list[Test]] = {}
        for test in self.futures:
            lanes.setdefault((test.lane, test.method), []).append(test)
        self.runs = [LaneRun(stage, tests, LIMIT_S, self.settle) for tests in lanes.values()]

    def settle(self, test: Test, result: Result) -> None:
        """Take a test's result; of several the first, which is the test's own."""
        if not self.futures[test].done():
            self.futures[test].set_result(result)

    def run(self, lane: LaneRun) -> None:
        """Run a lane; nobody waits in vain if the harness itself fails."""
        try:
            lane.run()
        except BaseException as error:
            for test in lane.left():
                self.futures[test].set_exception(error)
            raise

    def report(self) -> str:
        """Return what became of each test, as JSON."""
        done = [(test, future) for test, future in self.futures.items() if future.done()]
        rows = [[*test, *future.result()] for test, future in done if future.exception() is None]
        rows += [[*test, "not run", "", 0.0] for test in self.chosen if test not in self.futures]
        return json.dumps(rows, indent=0)


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[Test, Future[Result]]]:
    """Run the tests of this session, lane by lane, from now on; a future for each."""
    found = [
        item.callspec.params["test"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and "outcomes" in item.fixturenames and hasattr(item, "callspec")
    ]
    lanes = Lanes(stage_of(request.config), [test for test in found if test is not None])
    with ThreadPoolExecutor(JOBS) as threads:
        for run in lanes.runs:
            threads.submit(lanes.run, run)
        try:
            yield lanes.futures
        finally:
            for run in lanes.runs:
                run.stop()
            if REPORT:
                Path(REPORT).write_text(lanes.report())
