"""Exceptions that a signal's handler raised while the engine was at work: kept until the work is whole.

Runs in: the main thread, where Python runs the handlers of signals, between any two calls. Whatever they
raise there (Ctrl-C's KeyboardInterrupt, a time-out's error) is meant for the caller who waits, not for the
task whose outcome happened to be at hand.
"""

from __future__ import annotations

import threading
from _thread import get_ident

from corral.errors import TaskError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _T = TypeVar("_T")

_held: list[BaseException] = []


def shielded(function: Callable[..., _T], *args: object) -> _T:
    """Call `function`, which can be called again if it was interrupted.

    If it raises a second time the exception is its own, and raised; else `release` raises the first one.
    """
    try:
        return function(*args)
    except BaseException as error:
        if get_ident() != threading.main_thread().ident:
            raise
        value = function(*args)
        hold(error)
        return value


def hold(error: BaseException) -> None:
    """Keep what a handler raised for `release`."""
    if get_ident() != threading.main_thread().ident:
        return
    while isinstance(error, TaskError) and error.__cause__ is not None:
        error = error.__cause__  # what the codec made an error of its own
    _held.append(error)


def release() -> None:
    """Raise what was held back, if this is the thread it was meant for."""
    if _held and get_ident() == threading.main_thread().ident:
        error = _held.pop()
        _held.clear()
        raise error
