"""The causes of the crash matrix: what befalls a worker or a task, and what the caller must then be told.

Runs in: the worker, except where a cause says otherwise.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import sys
import threading
from typing import Any, NoReturn


class Odd(Exception):
    """An exception that its arguments alone cannot rebuild."""

    def __init__(self, code: int, *, reason: str) -> None:
        super().__init__(f"{reason} ({code})")


class Unsendable(Exception):
    """An exception that carries what no pickle can hold."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class FailsToArrive:
    """A value that can be sent and not rebuilt."""

    def __reduce__(self) -> tuple[Any, ...]:
        return fail_in_the_parent, (os.getpid(),)


def fail_in_the_parent(pid: int) -> NoReturn:
    raise ValueError(f"what process {pid} sent cannot be rebuilt here")


def strike(cause: str) -> object:
    """Do to this process, or this task, what `cause` names; return what is left to be returned."""
    struck: object = STRIKES[cause]()
    return struck


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def exhaust_memory() -> object:
    """Ask for more than the address space may hold."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as statm:
        used = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), before[1]))
    try:
        return bytes(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def scribble() -> object:
    """Write garbage over this worker's replies, as a program with a wild pointer would."""
    frame: Any = sys._getframe()
    while frame is not None and "link" not in frame.f_locals:
        frame = frame.f_back
    from corral import _native
    from corral._launch import parents_heap

    rubbish = random.Random(7).randbytes(1024)
    _native.scribble(parents_heap(), frame.f_locals["link"].ref, REPLIES_AT, rubbish)  # type: ignore[attr-defined]
    return None


REPLIES_AT = 512
"""Where in a link's block the words of the back ring lie."""


def kill(number: int) -> object:
    os.kill(os.getpid(), number)
    # A signal that stops the process has stopped it here; it goes on when it is continued.
    return "continued"


def raise_(error: BaseException) -> NoReturn:
    raise error


STRIKES: dict[str, Any] = {
    "SIGKILL": lambda: kill(signal.SIGKILL),
    "SIGSEGV": lambda: kill(signal.SIGSEGV),
    "SIGSTOP": lambda: kill(signal.SIGSTOP),
    "os._exit": lambda: os._exit(3),
    "sys.exit": lambda: sys.exit(3),
    "SystemExit": lambda: raise_(SystemExit("no more")),
    "KeyboardInterrupt": lambda: raise_(KeyboardInterrupt()),
    "MemoryError": exhaust_memory,
    "RecursionError": recurse,
    "unpicklable exception": lambda: raise_(Unsendable("with a lock inside")),
    "odd exception": lambda: raise_(Odd(7, reason="two arguments")),
    "unpicklable result": threading.Lock,
    "result fails to unpickle": FailsToArrive,
    "garbage": scribble,
}

SIGNALS = {"SIGKILL": 9, "SIGSEGV": 11, "SIGSTOP": 19}
DEATHS = {"SIGKILL", "SIGSEGV", "os._exit"}
"""What ends the worker, wherever it strikes."""
EXITS = {"sys.exit", "SystemExit"}
"""What ends a pool's worker, and is an executor's outcome, as in the standard library."""

RAISES = {
    "KeyboardInterrupt": "KeyboardInterrupt",
    "MemoryError": "MemoryError",
    "RecursionError": "RecursionError",
    "unpicklable exception": "with a lock inside",
    "odd exception": "two arguments (7)",
}
"""What becomes the task's failure, and what its text must hold."""
