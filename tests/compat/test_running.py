"""The harness sees what a suite can do to it: fail, hang, crash, leave things behind."""

from __future__ import annotations

import pytest
from tests.compat import marked
from tests.compat.running import LaneRun, Result
from tests.compat.stage import Stage, Test

SUITE = """
import multiprocessing, os, subprocess, sys, time, unittest

class Good(unittest.TestCase):
    def test_passes(self):
        # Whatever interpreter is started, and however: it serves corral.
        code = "import multiprocessing; print(multiprocessing.Queue().__class__.__module__)"
        served = subprocess.check_output([sys.executable, "-I", "-c", code], text=True)
        self.assertEqual(served, "corral.queues\\n")
    def test_skips(self):
        self.skipTest("not today")

class Bad(unittest.TestCase):
    def test_fails(self):
        print("a hint")
        self.assertEqual(1, 2)
    def test_fails_in_part(self):
        with self.subTest("half"):
            self.assertEqual(1, 2)
    def test_hangs(self):
        def stay_here():
            time.sleep(600)
        stay_here()
    def test_crashes(self):
        os._exit(3)
    def test_is_run_after_all(self):
        pass

class Unready(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise OSError("no room")
    def test_one(self):
        pass

class Untidy(unittest.TestCase):
    def test_leaves_a_process(self):
        subprocess.Popen(["sleep", "600"])
"""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    made = Stage(tmp_path_factory.mktemp("stage"))
    made.site_packages.joinpath("a_suite.py").write_text(SUITE)
    return made


def run(stage: Stage, *names: str, limit_s: float = 30, grace_s: float = 5) -> dict[str, list[Result]]:
    tests = [Test("a", "a", "fork", "a_suite", *name.split(".")) for name in names]
    found: dict[str, list[Result]] = {}
    LaneRun(
        stage, tests, limit_s, lambda test, result: found.setdefault(test.name, []).append(result), grace_s
    ).run()
    return found


@pytest.mark.slow
def test_each_test_has_its_outcome(stage: Stage) -> None:
    names = (
        "Good.test_passes",
        "Good.test_skips",
        "Bad.test_fails",
        "Bad.test_fails_in_part",
        "Unready.test_one",
    )
    found = {name: results[0] for name, results in run(stage, *names).items()}
    assert [found[name].outcome for name in names] == ["passed", "skipped", "failed", "failed", "failed"]
    assert found["Good.test_skips"].detail == "not today"
    assert "AssertionError: 1 != 2" in found["Bad.test_fails"].detail
    assert "a hint" in found["Bad.test_fails"].detail
    assert "half" in found["Bad.test_fails_in_part"].detail
    assert "OSError: no room" in found["Unready.test_one"].detail


@pytest.mark.slow
def test_a_crash_costs_one_test(stage: Stage) -> None:
    found = run(stage, "Bad.test_crashes", "Bad.test_is_run_after_all")
    assert found["Bad.test_crashes"][0].outcome == "crashed"
    assert "exit code 3" in found["Bad.test_crashes"][0].detail
    assert found["Bad.test_is_run_after_all"][0].outcome == "passed"


@pytest.mark.slow
def test_a_hang_costs_one_test_and_shows_where(stage: Stage) -> None:
    found = run(stage, "Bad.test_hangs", "Bad.test_is_run_after_all", limit_s=3)
    assert found["Bad.test_hangs"][0].outcome == "hung"
    assert "in stay_here" in found["Bad.test_hangs"][0].detail
    assert found["Bad.test_is_run_after_all"][0].outcome == "passed"


@pytest.mark.slow
def test_what_is_left_is_told_and_killed(stage: Stage) -> None:
    found = run(stage, "Untidy.test_leaves_a_process", grace_s=0.2)
    outcome, detail, _ = found["Untidy.test_leaves_a_process"][-1]
    assert outcome == "left"
    assert "(sleep 600" in detail


def test_a_mark_finds_nobody_who_does_not_bear_it() -> None:
    assert marked.find("nobody has this mark") == {}
