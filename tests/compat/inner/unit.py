"""List or run the interpreter's suites, in an interpreter of the stage; tell of each test as it goes.

Runs in: the stage. Knows nothing of the harness around it.
Failure: a suite that the interpreter came without is listed as missing, with why.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
import unittest
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

METHODS = ("fork", "forkserver", "spawn")
MULTIPROCESSING = tuple(f"compat_mp_{method}" for method in METHODS)
MAIN_HANDLING = ("test.test_multiprocessing_main_handling",)
FUTURES = "test.test_concurrent_futures"
# Without those of what corral borrows as it is: `Future` and `ThreadPoolExecutor`.
FUTURES_PARTS = (
    "test_as_completed",
    "test_deadlock",
    "test_init",
    "test_process_pool",
    "test_shutdown",
    "test_wait",
)
EXECUTORS = (
    ("ProcessPoolForkserver", "forkserver"),
    ("ProcessPoolFork", "fork"),
    ("ProcessPoolSpawn", "spawn"),
)


def catalogue() -> dict[str, Any]:
    """Return all tests as (suite, lane, method, module, class, test), and the suites that are missing."""
    tests: list[tuple[str, ...]] = []
    missing: dict[str, str] = {}
    for suite, name in _names():
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            missing[suite] = str(error)
            continue
        for case, value in vars(module).items():
            if not (isinstance(value, type) and issubclass(value, unittest.TestCase)):
                continue
            method = _method_of(suite, name, case)
            if method is not None:
                place = (suite, _lane_of(suite, case), method, name, case)
                tests += [(*place, test) for test in unittest.defaultTestLoader.getTestCaseNames(value)]
    return {"tests": tests, "missing": missing}


def _names() -> Iterator[tuple[str, str]]:
    for name in (*MULTIPROCESSING, *MAIN_HANDLING):
        yield "multiprocessing" if name in MULTIPROCESSING else "main_handling", name
    try:
        package: ModuleType | None = importlib.import_module(FUTURES)
    except ImportError:
        package = None
    if hasattr(package, "__path__"):
        for part in FUTURES_PARTS:
            yield "futures", f"{FUTURES}.{part}"
    else:  # one module, as it was; or none
        yield "futures", FUTURES


def _method_of(suite: str, module: str, case: str) -> str | None:
    """Return the start method that a class of tests is about; None if it is about none."""
    if suite == "multiprocessing":
        return module.rpartition("_")[2]
    if suite == "main_handling":
        return next((method for method in METHODS if case.lower() == f"{method}cmdlinetest"), None)
    return next((method for prefix, method in EXECUTORS if case.startswith(prefix)), None)


def _lane_of(suite: str, case: str) -> str:
    """Return which run a class belongs to, in the way that newer interpreters divide them."""
    for kind in ("Processes", "Threads", "Manager"):
        if case.startswith(f"With{kind}"):
            return f"{suite}.{kind.lower()}"
    return f"{suite}.misc" if suite == "multiprocessing" else suite


class Telling(unittest.TestResult):
    """Writes what happens to each test as it happens, one JSON document a line."""

    def __init__(self, events: IO[str]) -> None:
        super().__init__()
        self._events = events
        self._outcome: tuple[str, str] | None = None
        self._began = 0.0

    def tell(self, **event: object) -> None:
        """Write one event."""
        self._events.write(json.dumps(event) + "\n")
        self._events.flush()

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        super().startTest(test)
        self._outcome = ("passed", "")
        self._began = time.monotonic()
        self.tell(event="start", test=_place_of(test), said=_said())

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        if self._outcome is None:
            return  # it was never begun, and its outcome has been told
        outcome, detail = self._outcome
        self._outcome = None
        seconds = round(time.monotonic() - self._began, 3)
        self.tell(
            event="end",
            test=_place_of(test),
            outcome=outcome,
            detail=detail,
            seconds=seconds,
            said=_said(),
        )

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        self._settle(test, "failed", "".join(traceback.format_exception(*err)))

    addFailure = addError  # noqa: N815

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        if err is not None:
            self._settle(test, "failed", f"{subtest}\n{''.join(traceback.format_exception(*err))}")

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        self._settle(test, "skipped", reason)

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        self._settle(test, "failed", "the suite itself expects this test to fail")

    def _settle(self, test: Any, outcome: str, detail: str) -> None:
        if self._outcome is None and isinstance(test, unittest.TestCase):  # skipped without being begun
            self.tell(
                event="end",
                test=_place_of(test),
                outcome=outcome,
                detail=detail,
                seconds=0.0,
                said=_said(),
            )
        elif self._outcome is None:  # a set-up's or an ending's, of a class or a module
            self.tell(event="around", test=str(test), outcome=outcome, detail=detail)
        elif self._outcome[0] in {"passed", "skipped"}:
            self._outcome = (outcome, detail)


def _said() -> int:
    """Return how much this run has written to its output, a file."""
    if sys.__stdout__ is not None:
        sys.__stdout__.flush()
    return os.fstat(2).st_size


def _place_of(test: unittest.TestCase) -> str:
    return f"{type(test).__module__}.{type(test).__name__}.{test._testMethodName}"


def run(wanted_path: str, events_path: str) -> None:
    """Run the tests named in a file, in that order."""
    from test import support

    with open(wanted_path, encoding="utf-8") as file:
        wanted = json.load(file)
    support.verbose = False
    # Closed by an exec, so that no other program holds it.
    fd = os.open(events_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    suite = unittest.TestSuite()
    for module, case, test in wanted:
        suite.addTest(getattr(importlib.import_module(module), case)(test))
    with os.fdopen(fd, "w", encoding="utf-8") as events:
        result = Telling(events)
        suite.run(result)
        result.tell(event="done")


def _die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends."""
    import ctypes
    import signal

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    """Do what the command line says."""
    _die_with_parent()
    if sys.argv[1] == "list":
        json.dump(catalogue(), sys.stdout)
    else:
        run(*sys.argv[2:])


if __name__ == "__main__":
    main()
