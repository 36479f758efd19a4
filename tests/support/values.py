"""Processes that are killed at named steps of an access to a shared value, and what the survivor then checks.

Runs in: `tests/faults/test_sharedctypes.py`, as a program, in a build with faults at named steps.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings

from corral import RawArray, RLock, Value, _native

STEPS = ("mutex.taken", "mutex.unsigned", "tenure.released", "cell.locked", "cell.done")
KILLS_EACH = 40
COUNTS = 100


def count(number: object, done: object, step: str, nth: int) -> None:
    """Count, in every way there is, until the step is passed for the nth time."""
    _native.arm_fault(step, nth, signal.SIGKILL)  # type: ignore[attr-defined]
    for _ in range(COUNTS):
        number.add(1)  # type: ignore[attr-defined]
        done[0] += 1  # type: ignore[index]
        with number.get_lock():  # type: ignore[attr-defined]
            number.value += 1  # type: ignore[attr-defined]
        done[0] += 1  # type: ignore[index]
    os._exit(0)


def kill_once(step: str, nth: int) -> bool:
    """Have one process killed while it counts; check that the next goes on from there."""
    number, done = Value("q", 0, lock=RLock(on_owner_death="warn")), RawArray("q", 1)
    pid = os.fork()
    if not pid:
        count(number, done, step, nth)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = number.value
    holds = step != "tenure.released"
    assert found - done[0] in {0, 1}, f"{found} counted, {done[0]} noted"
    assert (len(caught) == 1) == (holds and status < 0), (
        f"{step}: {[str(warning.message) for warning in caught]}"
    )
    assert number.add(1) == found + 1
    with number:
        number.value += 1
    assert number.value == found + 2
    return status < 0


def main() -> None:
    """Kill at each step, each of the first times that it is passed; say what nobody passes."""
    for step in STEPS:
        kills = 0
        for nth in range(1, KILLS_EACH + 1):
            try:
                kills += kill_once(step, nth)
            except AssertionError as error:
                raise AssertionError(f"passing {step} for the {nth}th time: {error}") from error
        if kills != KILLS_EACH:
            print(step, kills)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
