"""Lock, RLock, Semaphore, BoundedSemaphore, Condition, Event, Barrier: how processes wait for each other.

Role in the flow: the contexts make them; the classes add to the native ones how they are made, pickled
and shown. Acquiring, releasing and waiting are native methods, with no Python frame on the way.
Runs in: any process that was given them, any thread.
Invariants:
    INV-SYNC-PY-1: an object's state is in its creator's heap and nowhere else; two objects for one place
        are one, in one process or in several.
    INV-SYNC-PY-2: only its creator's object gives the place back; `_launch.sharing` keeps it for children.
Failure: the holder of a lock dies: the next one gets it, with a warning or an error (`on_owner_death`).
See: docs/reference/synchronize.md, docs/decisions/0012-look-again-after-100-ms.md.
"""

# ruff: noqa: SLF001  (the native classes' private names are made for this module)

from __future__ import annotations

import errno
import os
import sys
import time
from _weakref import ref as weak

from corral import _native
from corral._launch import at_exit, sharing, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypeVar

    _Primitive = TypeVar("_Primitive", bound="Lock | RLock | Semaphore | Event")
    OnOwnerDeath = Literal["warn", "raise", "ignore"]

__all__ = ["Barrier", "BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

RECURSIVE_MUTEX, SEMAPHORE = 0, 1
"""The kinds of `SemLock`."""
SEM_VALUE_MAX = (1 << 31) - 1
"""No semaphore has more units."""


def _policy(on_owner_death: OnOwnerDeath) -> int:
    """Return the native module's word for what to do when a holder has died."""
    try:
        return _native.ON_OWNER_DEATH[on_owner_death]
    except (KeyError, TypeError):
        choices = ", ".join(map(repr, _native.ON_OWNER_DEATH))
        raise ValueError(f"on_owner_death must be one of {choices}, not {on_owner_death!r}") from None


def _arrived(kind: type[_Primitive], where: tuple[Any, int]) -> _Primitive:
    """Find, in a child, the object that its parent was given or has made."""
    found: _Primitive = kind.__new__(kind)  # type: ignore[type-var]  # which mypy does not do for a union
    heap, ref = sharing.arrive(where)
    found._open(heap, ref)
    return found


def _caller_name() -> str:
    """Return the name of this process, and of this thread if it is not the main one."""
    from corral.process import current_process

    name: str = current_process().name
    threading = sys.modules.get("threading")
    if threading is not None and threading.current_thread().name != "MainThread":
        name += "|" + threading.current_thread().name
    return name


def _owner_of(lock: Lock | RLock) -> tuple[str, object]:
    """Return who holds a lock, and how many times, as its repr says it."""
    if lock._is_mine():
        return _caller_name(), lock._count()
    if not lock.locked():
        return "None", 0
    return ("SomeOtherThread" if lock._count() else "SomeOtherProcess"), "nonzero"


class SemLock:
    """What the locks and the semaphores have in common: where they lie, and how they are pickled."""

    __slots__ = ()

    if TYPE_CHECKING:
        _heap: _native.Heap
        _ref: int

    def __reduce__(self) -> tuple[Any, ...]:
        where = sharing.depart(self._heap, self._ref, self)
        return _arrived, (type(self), where)


class Lock(SemLock, _native.Lock):
    """A lock for processes and threads that its holder cannot take again.

    Anybody may release it, not only who acquired it. If the process that holds it dies, the next one
    acquires it. A context manager. It can be given to a process that is being started, and pickled at no
    other time.

    Args:
        ctx: the context that makes it; accepted for the standard library's sake.
        on_owner_death: what the first to acquire it after the holder's death gets. "warn": the lock, and an
            `OwnerDiedWarning` that names the dead; "ignore": the lock; "raise": an `OwnerDied`, and not the
            lock, and everybody after it a `LockPoisoned`, until somebody calls `clear_poison()`.

    Raises:
        ValueError: there is no such policy.
    """

    def __init__(self, *, ctx: object = None, on_owner_death: OnOwnerDeath = "warn") -> None:
        del ctx
        self._open(tree.heap(), None, _policy(on_owner_death))
        sharing.keep_on_fork(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(owner={_owner_of(self)[0]})>"


class RLock(SemLock, _native.RLock):
    """A lock for processes and threads that its holder may take again, and nobody else may release.

    Its holder is a thread of a process: a forked child does not hold what its parent does.

    Args:
        ctx: the context that makes it; accepted for the standard library's sake.
        on_owner_death: as for `Lock`.

    Raises:
        ValueError: there is no such policy.
    """

    def __init__(self, *, ctx: object = None, on_owner_death: OnOwnerDeath = "warn") -> None:
        del ctx
        self._open(tree.heap(), None, _policy(on_owner_death))
        sharing.keep_on_fork(self)

    def __repr__(self) -> str:
        owner, count = _owner_of(self)
        return f"<{type(self).__name__}({owner}, {count})>"


class Semaphore(SemLock, _native.Semaphore):
    """Units that are taken while there are some; whoever finds none waits. A context manager.

    Units have no owner: anybody may release one, and those of a process that dies are lost.

    Args:
        value: how many units there are at first.
        ctx: the context that makes it; accepted for the standard library's sake.

    Raises:
        OSError: the value is negative.
        OverflowError: the value is above 2**31 - 1.
    """

    def __init__(self, value: int = 1, *, ctx: object = None) -> None:
        del ctx
        self._make(value, SEM_VALUE_MAX)

    def _make(self, value: int, maximum: int) -> None:
        if value < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if value > SEM_VALUE_MAX:
            raise OverflowError(f"a semaphore's value is at most {SEM_VALUE_MAX}")
        self._open(tree.heap(), None, value, maximum)
        sharing.keep_on_fork(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self.get_value()})>"


class BoundedSemaphore(Semaphore):
    """A semaphore of which no more units are released than there were at first: that is a `ValueError`."""

    def __init__(self, value: int = 1, *, ctx: object = None) -> None:
        del ctx
        self._make(value, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(value={self.get_value()}, maxvalue={self.maxvalue})>"


class Event(_native.Event):
    """A flag that processes and threads wait for.

    Who waits hears of a `set()` even if it is followed by a `clear()` at once.

    Args:
        ctx: the context that makes it; accepted for the standard library's sake.
    """

    def __init__(self, *, ctx: object = None) -> None:
        del ctx
        self._open(tree.heap(), None)
        sharing.keep_on_fork(self)

    def __reduce__(self) -> tuple[Any, ...]:
        where = sharing.depart(self._heap, self._ref, self)
        return _arrived, (type(self), where)

    def __repr__(self) -> str:
        state = "set" if self.is_set() else "unset"
        return f"<{type(self).__qualname__} at {id(self):#x} {state}>"


class _Gauge:
    """A number where the standard library's condition has a semaphore; some programs look at it."""

    __slots__ = ("_value",)

    def __init__(self, value: int) -> None:
        self._value = value

    def get_value(self) -> int:
        return self._value


class Condition(_native.Condition):
    """Waiting for what others will bring about, with a lock that is let go of meanwhile. A context manager.

    Those who came first are called first. A call for a waiter that dies before it has the lock again goes to
    another; at worst, one call wakes two. So wait in a loop, or with `wait_for`.

    Args:
        lock: a lock of this module, or one with the standard library's methods; an `RLock` if there is none.
        ctx: the context that makes it; accepted for the standard library's sake.
    """

    def __init__(self, lock: Any = None, *, ctx: object = None) -> None:
        del ctx
        self._open(tree.heap(), None, RLock() if lock is None else _checked(lock))
        sharing.keep_on_fork(self)

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until the predicate is true, or the time is up; return what it said last.

        Args:
            predicate: called with the lock held, first at once and then whenever the caller was called.
            timeout: in seconds; None: no end.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (found := predicate()):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return found

    @property
    def _sleeping_count(self) -> _Gauge:
        return _Gauge(self._waiting())

    @property
    def _woken_count(self) -> _Gauge:
        return _Gauge(0)

    _wait_semaphore = _woken_count

    def __reduce__(self) -> tuple[Any, ...]:
        where = sharing.depart(self._heap, self._ref, self)
        return _arrived_condition, (type(self), where, self._lock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock!r}, {self._waiting()})>"


class Barrier(_native.Barrier):
    """A place that nobody passes until all parties have come; again and again.

    If a process dies that has come, or that passed the last time and has not ended in an orderly way since,
    the barrier breaks: whoever waits or comes gets a `threading.BrokenBarrierError`, until `reset()`.

    Args:
        parties: how many must come.
        action: called by the last one before the others pass; its exception breaks the barrier.
        timeout: for `wait`, where that names none, in seconds; None: no end.
        ctx: the context that makes it; accepted for the standard library's sake.

    Raises:
        ValueError: the number of parties is negative, or too large.
    """

    def __init__(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
        *,
        ctx: object = None,
    ) -> None:
        del ctx
        if not 0 <= parties <= _native.MOST_PARTIES:
            raise ValueError(f"a barrier has 0 to {_native.MOST_PARTIES} parties, not {parties}")
        self._open(tree.heap(), None, parties, action, timeout)
        sharing.keep_on_fork(self)
        _keep_count(self)

    def __reduce__(self) -> tuple[Any, ...]:
        where = sharing.depart(self._heap, self._ref, self)
        return _arrived_barrier, (type(self), where, self._action, self._timeout)

    def __repr__(self) -> str:
        kind = type(self)
        state = "broken" if self.broken else f"waiters={self.n_waiting}/{self.parties}"
        return f"<{kind.__module__}.{kind.__qualname__} at {id(self):#x}: {state}>"


_barriers: dict[int, weak[Barrier]] = {}
"""By id: where this process may have come."""


def _checked(lock: Any) -> Any:
    """Return what can serve as a condition's lock.

    Raises:
        TypeError: it lacks the methods that a condition needs.
    """
    inside = getattr(lock, "_semlock", None)
    if not all(hasattr(lock, name) for name in ("acquire", "release")) or not hasattr(inside, "_is_mine"):
        raise TypeError(f"a condition needs a lock for processes, not {lock!r}")
    return lock


def _arrived_condition(kind: type[Condition], where: tuple[Any, int], lock: Any) -> Condition:
    found = kind.__new__(kind)
    heap, ref = sharing.arrive(where)
    found._open(heap, ref, lock)
    return found


def _arrived_barrier(
    kind: type[Barrier],
    where: tuple[Any, int],
    action: Callable[[], object] | None,
    timeout: float | None,
) -> Barrier:
    found = kind.__new__(kind)
    heap, ref = sharing.arrive(where)
    found._open(heap, ref, 0, action, timeout)
    _keep_count(found)
    return found


def _keep_count(barrier: Barrier) -> None:
    """Know the barrier at this process's end."""
    number = id(barrier)

    def forget(_: object) -> None:
        _barriers.pop(number, None)

    _barriers[number] = weak(barrier, forget)


def _retire_at_exit() -> None:
    """Have this process's orderly end not be taken for a death; called when it first comes to a barrier."""
    at_exit(_retire)
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        # In a process of the standard library's, nothing else is run at the end.
        util.Finalize(None, _retire, exitpriority=0)


def _retire() -> None:
    for reference in list(_barriers.values()):
        barrier = reference()
        if barrier is not None:
            barrier._retire()
