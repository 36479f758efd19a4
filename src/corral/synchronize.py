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

import sys

from corral import _native
from corral._launch import sharing, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, TypeVar

    _Primitive = TypeVar("_Primitive", bound="Lock | RLock")
    OnOwnerDeath = Literal["warn", "raise", "ignore"]

__all__ = ["Lock", "RLock"]


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


def _departing(primitive: _Primitive) -> tuple[Any, ...]:
    """Return what `pickle` needs, while a process is launched."""
    where = sharing.depart(primitive._heap, primitive._ref, primitive)
    return _arrived, (type(primitive), where)


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


class Lock(_native.Lock):
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

    def __reduce__(self) -> tuple[Any, ...]:
        return _departing(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(owner={_owner_of(self)[0]})>"


class RLock(_native.RLock):
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

    def __reduce__(self) -> tuple[Any, ...]:
        return _departing(self)

    def __repr__(self) -> str:
        owner, count = _owner_of(self)
        return f"<{type(self).__name__}({owner}, {count})>"
