"""The thread that runs users' callbacks, so that a slow one never stops the engine.

Runs in: one daemon thread per process, started with the first callback, ended with the process. A
callback runs neither on the caller's stack (who may hold locks) nor on the engine's.
"""

from __future__ import annotations

import os
import sys
import threading
from _queue import SimpleQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    _Job = tuple[Callable[..., object], tuple[Any, ...]]

_lock = threading.Lock()
_jobs: SimpleQueue[_Job] | None = None
_thread_id = 0


def defer(function: Callable[..., object], *args: object) -> None:
    """Have `function(*args)` called soon by the callback thread.

    Its exception goes to `sys.excepthook`'s report.
    """
    jobs = _jobs or _start()
    jobs.put((function, args))


def flush() -> None:
    """Wait until every callback handed in so far has returned; in a callback, do not wait.

    Blocking: yes; signal handlers run.
    """
    jobs = _jobs
    if jobs is None or threading.get_ident() == _thread_id:
        return
    over: SimpleQueue[None] = SimpleQueue()
    jobs.put((over.put, (None,)))
    over.get()


def _start() -> SimpleQueue[_Job]:
    global _jobs  # noqa: PLW0603 - one thread per process, made when first needed
    with _lock:
        if _jobs is None:
            _jobs = SimpleQueue()
            threading.Thread(target=_serve, args=(_jobs,), name="corral-callbacks", daemon=True).start()
        return _jobs


def _serve(jobs: SimpleQueue[_Job]) -> None:
    global _thread_id  # noqa: PLW0603 - as `_jobs`
    _thread_id = threading.get_ident()
    while True:
        function, args = jobs.get()
        try:
            function(*args)
        except BaseException:
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        del function, args


def _after_fork() -> None:
    global _jobs, _lock  # noqa: PLW0603 - the thread did not survive the fork, the lock may be held by nobody
    _jobs = None
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
