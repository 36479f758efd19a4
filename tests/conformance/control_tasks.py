"""Functions that the tests of control run in workers."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import corral


def hang(mark: str | None = None) -> None:
    """Run until stopped from outside, in bytecode."""
    if mark is not None:
        Path(mark).touch()
    while True:
        time.sleep(0.001)


def hang_on_three(x: int) -> int:
    if x == 3:
        hang()
    return x


def sleep_in_c(mark: str) -> None:
    """One call of a C function that waits."""
    Path(mark).touch()
    time.sleep(1000)


def be_deaf(mark: str | None = None) -> None:
    """Run on whatever is asked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
    if mark is not None:
        Path(mark).touch()
    time.sleep(1000)


def be_deaf_on_three(x: int) -> int:
    if x == 3:
        be_deaf()
    return x


def clean_up(path: str) -> str:
    """Catch what one is asked by, and answer all the same."""
    try:
        hang()
    except (corral.TaskTimeout, corral.TaskCancelled) as error:
        Path(path).write_text(type(error).__name__)
    return "cleaned up"


def swallow(mark: str) -> None:
    while True:
        try:
            _swallow(mark)
        except Exception:  # it came between the inner `try` and its next turn
            continue


def _swallow(mark: str) -> None:
    while True:
        try:
            hang(mark)
        except Exception:
            continue


def fail_until(attempt: int) -> int:
    """Fail in all attempts before that one."""
    task = corral.current_task()
    assert task is not None
    if task.attempt < attempt:
        raise ConnectionError(f"attempt {task.attempt}")
    return task.attempt


def die_until(attempt: int) -> int:
    task = corral.current_task()
    assert task is not None
    if task.attempt < attempt:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.attempt


def fives_fail_once(x: int) -> int:
    task = corral.current_task()
    assert task is not None
    if x % 5 == 0 and task.attempt == 1:
        raise ValueError(x)
    return x


def fives_fail(x: int) -> int:
    if x % 5 == 0:
        raise ValueError(x)
    return x


def die_on_three(x: int) -> int:
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def slowly_die_on_three(x: int) -> int:
    """Long enough an item to be reported before the next begins."""
    end = time.perf_counter() + 0.004
    while time.perf_counter() < end:
        pass
    return die_on_three(x)


def about_me(_: Any = None) -> tuple[int, int, float | None]:
    task = corral.current_task()
    assert task is not None
    return task.id, task.attempt, task.remaining
