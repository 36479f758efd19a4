"""Run a lane of tests on a stage, in a process of its own; a hang or a crash costs one test.

Failure: a test without an end fails with the stacks of all processes of the run; the tests after it are run
in a new process. So it is after a crash. Processes that are left at the end fail the last test.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.compat import marked
from tests.compat.stage import INNER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.compat.stage import Stage, Test

POLL_S = 0.05
GRACE_S = 5.0
OUTPUT_CHARS = 20_000


class Result(NamedTuple):
    """How a test ended."""

    outcome: str  # passed, failed, skipped, hung, crashed, left
    detail: str
    seconds: float


class LaneRun:
    """The tests that one process runs one after the other, and what becomes of them."""

    def __init__(
        self,
        stage: Stage,
        tests: Sequence[Test],
        limit_s: float,
        settle: Callable[[Test, Result], None],
        grace_s: float = GRACE_S,
    ) -> None:
        """Prepare to run the tests.

        Args:
            limit_s: How long a test may take, in seconds.
            settle: Called in the running thread with each test and how it ended.
            grace_s: How long processes may be there when all is done, in seconds.
        """
        self._stage = stage
        self._limits = (limit_s, grace_s)
        self._settle = settle
        self._todo = {test.place: test for test in tests}
        self._rounds = 0
        self._stopped = threading.Event()

    def run(self) -> None:
        """Run all tests; each is settled as it ends."""
        while self._todo and not self._stopped.is_set():
            _Round(self._stage, self._todo, self._limits, self._settle, self._stopped).run()

    def left(self) -> list[Test]:
        """Return the tests that are not settled."""
        return list(self._todo.values())

    def stop(self) -> None:
        """End the run, from another thread."""
        self._stopped.set()


class _Round:
    """One process of a lane: until all is done, or a test hangs or crashes."""

    def __init__(
        self,
        stage: Stage,
        todo: dict[str, Test],
        limits: tuple[float, float],
        settle: Callable[[Test, Result], None],
        stopped: threading.Event,
    ) -> None:
        self._todo = todo
        self._limit_s, self._grace_s = limits
        self._tell = settle
        self._stopped = stopped
        self._mark = uuid.uuid4().hex
        folder = stage.folder / "runs" / self._mark
        folder.joinpath("cwd").mkdir(parents=True)
        self._events = folder / "events"
        self._output = folder / "output"
        self._events.touch()
        wanted = folder / "wanted"
        wanted.write_text(json.dumps([(test.module, test.case, test.test) for test in todo.values()]))
        with self._output.open("wb") as sink:
            self._process = subprocess.Popen(
                [stage.python, INNER / "unit.py", "run", wanted, self._events],
                env=stage.environment(self._mark),
                cwd=folder / "cwd",
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running: Test | None = None
        self._last: tuple[Test, Result] | None = None  # told when it is known what is left
        self._said = 0
        self._around = ""
        self._done = False
        self._since = time.monotonic()

    def run(self) -> None:
        """Follow the process to its end, and see to it that nothing is left of it."""
        try:
            verdict = self._follow()
            left = self._end()
        finally:
            self._process.kill()
            self._process.wait()
            marked.sweep(self._mark, 0)
        if self._stopped.is_set():
            return
        if verdict is not None:
            test = self._running or next(iter(self._todo.values()))
            self._settle(test, verdict[0], f"{verdict[1]}\n{self._around}\n{self._output_of_test()}")
        else:
            for test in list(self._todo.values()):
                self._settle(test, "failed", self._around or "it was not run")
        if self._last is not None:
            test, result = self._last
            if left:
                detail = f"left behind by this or an earlier test: {left}\n{self._output_of_test()}"
                result = Result("left", detail, 0.0)
            self._tell(test, result)

    def _follow(self) -> tuple[str, str] | None:
        """Hear the process until it is done; else say what it came to."""
        with self._events.open() as lines:
            while not self._stopped.is_set():
                ended = self._process.poll() is not None  # before reading: what it wrote is then there
                for line in lines:
                    self._since = time.monotonic()
                    self._hear(json.loads(line))
                if self._done:
                    return None
                if ended:
                    return "crashed", f"exit code {self._process.returncode}"
                if time.monotonic() - self._since > self._limit_s:
                    return "hung", f"no end after {self._limit_s:g} s"
                time.sleep(POLL_S)
        return None

    def _hear(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "start":
                self._running = self._todo[event["test"]]
                self._said = event["said"]
            case "end":
                self._running = None
                detail = event["detail"]
                if event["outcome"] == "failed":
                    detail += f"\n{self._output_of_test(event['said'])}"
                self._settle(self._todo[event["test"]], event["outcome"], detail, event["seconds"])
            case "around":
                self._around = event["detail"]
                for test in [test for test in self._todo.values() if event["test"] in test.surroundings]:
                    self._settle(test, event["outcome"], event["detail"])
            case "done":
                self._done = True

    def _settle(self, test: Test, outcome: str, detail: str, seconds: float = 0.0) -> None:
        del self._todo[test.place]
        if self._todo:
            self._tell(test, Result(outcome, detail, seconds))
        else:
            self._last = test, Result(outcome, detail, seconds)

    def _output_of_test(self, end: int | None = None) -> str:
        """Return what the run has printed since its last test began."""
        return self._output.read_bytes()[self._said : end].decode(errors="replace")[-OUTPUT_CHARS:]

    def _end(self) -> str:
        """Let a process that is done end by itself, make another end; return what the first has left."""
        if self._done:
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                marked.show_stacks(self._mark)
                return "the runner, which does not end"
            return marked.sweep(self._mark, self._grace_s)
        if self._process.poll() is None:
            marked.show_stacks(self._mark)
        return ""
