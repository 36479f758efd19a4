"""Functions that the conformance tests run in workers."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

STATE: dict[str, Any] = {}


def square(x: int) -> int:
    return x * x


def add(x: int, y: int = 0, *, z: int = 0) -> int:
    return x + y + z


def identity(x: Any) -> Any:
    return x


def pid(_: Any = None) -> int:
    return os.getpid()


def fail(x: int) -> None:
    raise ValueError(f"no {x}")


def fail_on_three(x: int) -> int:
    if x == 3:
        raise KeyError("three")
    return x


def remember(key: str, value: Any) -> None:
    STATE[key] = value


def recall(key: str) -> Any:
    return STATE.get(key)


def listen_and_refuse(path: str) -> None:
    logger = logging.getLogger("concurrent.futures")
    logger.addHandler(logging.FileHandler(path))
    logger.propagate = False
    raise RuntimeError("cannot start")


def refuse() -> None:
    raise RuntimeError("cannot start")


def kill_self(_: Any = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_self_on_three(x: int) -> int:
    if x == 3:
        kill_self()
    return x


def leave(code: int) -> None:
    os._exit(code)


def raise_exit(code: int) -> None:
    sys.exit(code)


def fail_at_length(size: int) -> None:
    raise ValueError("x" * size)


class Refuses:
    def __reduce__(self) -> Any:
        raise LookupError("not me")


def a_refusal(_: Any = None) -> Refuses:
    return Refuses()


class Weighty:
    """An object that can be referred to weakly."""


def weighty(_: Any = None) -> Weighty:
    return Weighty()


def a_lock(_: Any = None) -> Any:
    return threading.Lock()


def wait_for_file(path: str) -> int:
    """Block until the file exists; a task that lasts as long as its test wants."""
    while not Path(path).exists():
        time.sleep(0.001)
    return os.getpid()


def mark_and_wait(mark: str, path: str) -> int:
    Path(mark).touch()
    return wait_for_file(path)


class Awkward(Exception):
    """An exception whose constructor needs arguments that pickle does not know."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.one = one
        self.two = two


def raise_awkward(_: Any = None) -> None:
    raise Awkward(1, 2)


class BadResult:
    """Pickles well, and fails to load in the parent."""

    def __reduce__(self) -> Any:
        return _explode, ()


def _explode() -> None:
    raise RuntimeError("boom at load")


def bad_result(_: Any = None) -> BadResult:
    return BadResult()
