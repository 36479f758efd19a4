"""Run what has to be done at a process's exit, in order, in the process that asked for it.

Role in the flow: `corral.process` joins its children here, engines close; `forkserver` lets its zygote go
last of all.
Runs in: parent and child, main thread, at exit.
Invariants:
    INV-EXIT-1: the latest registered runs first; what is registered `last` runs after all others.
    INV-EXIT-2: a forked child runs nothing that its parent registered.
Failure: an exception is printed, and the rest is done all the same.
"""

from __future__ import annotations

import atexit
import os
import sys

from corral._launch import neighbour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["at_exit", "renew"]

_calls: list[Callable[[], object]] = []
_final: list[Callable[[], object]] = []
_finalized = 0
"""The process in which the standard library runs this."""


def at_exit(call: Callable[[], object], *, last: bool = False) -> None:
    """Have `call` run at this process's exit, once, however often it is registered.

    Register when there is something to end, not at import: a forked child forgets all of it, and a child
    of the zygote comes from where modules were imported.
    """
    calls = _final if last else _calls
    if call not in calls:
        calls.append(call)
    _beside()


def _beside() -> None:
    """In a child of the standard library's making, which runs its own finalizers only, be one of them."""
    global _finalized  # noqa: PLW0603  (one per process)
    theirs = neighbour.loaded("multiprocessing.process")
    if theirs is None or _finalized == os.getpid():
        return
    process = theirs.current_process()
    if isinstance(process, theirs.BaseProcess) and theirs.parent_process() is not None:
        from multiprocessing.util import Finalize

        _finalized = os.getpid()
        Finalize(None, _run, exitpriority=0)


def renew() -> None:
    """Register with the interpreter again, in a child whose registry was cleared."""
    atexit.register(_run)


def _run() -> None:
    """Do all that was registered, also what is registered meanwhile."""
    for calls in (_calls, _final):
        while calls:
            call = calls.pop()
            try:
                call()
            except Exception:
                sys.excepthook(*sys.exc_info())


def _forget() -> None:
    """Drop what the parent registered; launch's own state is dropped by its owners."""
    _calls.clear()


renew()
os.register_at_fork(after_in_child=_forget)
