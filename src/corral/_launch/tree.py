"""Know this process's place in the process tree: the heaps, its own and its parent's descriptor.

Role in the flow: everything that launches or is launched asks here.
Runs in: parent, zygote and child, any thread.
Invariants:
    INV-TREE-1: what a process makes lives in a heap of its own, which its children map; so nobody takes back
        the blocks of a dead process while its descendants may still write to them.
    INV-TREE-2: state of a parent is never taken for the child's own: it is handed on at a fork.
Failure: none of its own; a lost parent is noticed by `die_with`.
See: docs/decisions/0008-a-heap-per-creator.md.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, get_native_id

from corral._native import Heap, die_with, die_with_creator, identity

__all__ = [
    "adopt_heap",
    "creator",
    "follow_parent",
    "heap",
    "is_common",
    "leave_zygote",
    "lineage",
    "origin",
    "parent_fd",
    "parents_heap",
    "root",
    "self_fd",
    "serve_as_zygote",
    "set_parent",
    "set_root",
]

_lock = allocate_lock()
_heap: Heap | None = None
_parents_heap: Heap | None = None
_parents_heap_fd = -1
_self: tuple[int, int] = (0, -1)
_parent_fd = -1
_origin = 0
_forked_from: tuple[int, ...] = ()
_inherited: dict[str, int] | None = None
"""By name, what `__main__` had when this process was forked; None in one that was not."""
_is_zygote = False
# Of the process that imports this: a forked child has it from its parent, a launched one is told its tree's.
_root: tuple[int, int] = (os.getpid(), identity())


def heap() -> Heap:
    """Return the heap of what this process makes, making it on first use."""
    global _heap  # noqa: PLW0603  (one heap per process is the meaning of it)
    found = _heap
    if found is not None:
        return found
    with _lock:
        if _heap is None:
            _heap = Heap.create()
        return _heap


def parents_heap() -> Heap:
    """Return the heap of what this process's parent makes.

    Raises:
        RuntimeError: this process was not launched by corral, nor forked from one that has a heap.
    """
    global _parents_heap, _parents_heap_fd  # noqa: PLW0603
    with _lock:
        if _parents_heap is None:
            if _parents_heap_fd < 0:
                raise RuntimeError("this process has not been given its parent's heap")
            _parents_heap = Heap.attach(_parents_heap_fd)
            os.close(_parents_heap_fd)
            _parents_heap_fd = -1
        return _parents_heap


def adopt_heap(fd: int) -> None:
    """Know the heap behind an inherited descriptor as the parent's; takes over the descriptor."""
    global _parents_heap_fd  # noqa: PLW0603
    _parents_heap_fd = fd


def serve_as_zygote(fd: int) -> None:
    """Be the zygote of the process whose heap is behind a descriptor: its children are that process's."""
    global _is_zygote  # noqa: PLW0603
    _is_zygote = True
    adopt_heap(fd)
    parents_heap()


def leave_zygote() -> None:
    """Be a process of the tree, in a child of the zygote."""
    global _is_zygote  # noqa: PLW0603
    _is_zygote = False


def self_fd() -> int:
    """Return a pidfd of this process, which its children watch to die with it."""
    global _self  # noqa: PLW0603
    pid, fd = _self
    if pid != os.getpid():
        with _lock:
            if _self[0] != os.getpid():
                _self = (os.getpid(), os.pidfd_open(os.getpid()))
            fd = _self[1]
    return fd


def parent_fd() -> int:
    """Return the pidfd of the process that launched this one, or -1 in a root."""
    return _parent_fd


def set_parent(fd: int) -> None:
    """Know the process behind pidfd `fd` as the parent."""
    global _parent_fd  # noqa: PLW0603
    _parent_fd = fd


def root() -> tuple[int, int]:
    """Return process id and identity of the tree's first process; it may have ended."""
    return _root


def set_root(found: tuple[int, int]) -> None:
    """Know the tree's first process."""
    global _root  # noqa: PLW0603
    _root = found


def creator() -> int:
    """Return this process's id if its main thread asks, else 0: what a child that is made now has to know.

    The kernel can kill a child with its creator, but goes by the creating thread, and only the main thread
    lives as long as the process. A child of another thread starts a thread that watches.
    """
    pid = os.getpid()
    return pid if get_native_id() == pid else 0


def follow_parent(fd: int, created_by: int) -> None:
    """Die with the process behind pidfd `fd`, from now on; `created_by` is what `creator` said there."""
    set_parent(fd)
    if created_by:
        die_with_creator(created_by)
    else:
        die_with(fd)


def origin() -> int:
    """This process's name among those that exchange objects: random, so that no two of a tree share one."""
    global _origin  # noqa: PLW0603  (one process, one origin)
    if not _origin:
        _origin = int.from_bytes(os.urandom(8), "little") | 1
    return _origin


def lineage() -> tuple[int, ...]:
    """The processes whose memory this one's began as, itself first.

    What two processes of a lineage had before they parted lies at the same address in both.
    """
    return (origin(), *_forked_from)


def is_common(name: str | None, value: object) -> bool:
    """Whether what a name of `__main__` means here is what it may mean in a relative of the lineage."""
    return name is not None and (_inherited is None or _inherited.get(name) == id(value))


def _after_fork() -> None:
    """Make a forked child's state its own: the parent's heap is its parent's, and so are held locks.

    The zygote is nobody's parent in that sense: its children have the heap of the process that it serves,
    even if a module that was preloaded there has made something in a heap of its own.
    """
    global _forked_from, _heap, _inherited, _lock, _origin, _parents_heap  # noqa: PLW0603
    _lock = allocate_lock()
    if _is_zygote:
        # Its children have a `__main__` of their own, and are told of the parent's.
        _forked_from, _inherited = (), None
    else:
        _forked_from = (_origin, *_forked_from)
        _inherited = {name: id(value) for name, value in sys.modules["__main__"].__dict__.items()}
    _origin = 0
    if _heap is not None and not _is_zygote:
        _parents_heap = _heap
    _heap = None


if sys.platform != "win32":
    os.register_at_fork(before=origin, after_in_child=_after_fork)
