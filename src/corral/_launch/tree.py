"""Know this process's place in the process tree: the shared heap, its own and its parent's descriptor.

Role in the flow: everything that launches or is launched asks here.
Runs in: parent, zygote and child, any thread.
Invariants:
    INV-TREE-1: one heap per process tree; it exists before the first launch, so that nobody makes a second.
    INV-TREE-2: state of a parent is never taken for the child's own: it is keyed by process id.
Failure: none of its own; a lost parent is noticed by `die_with`.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, get_native_id

from corral._native import Heap, die_with, die_with_creator

__all__ = ["adopt_heap", "creator", "follow_parent", "heap", "parent_fd", "self_fd", "set_parent"]

_lock = allocate_lock()
_heap: Heap | None = None
_heap_fd = -1
_self: tuple[int, int] = (0, -1)
_parent_fd = -1


def heap() -> Heap:
    """Return the process tree's shared heap, making it on first use."""
    global _heap, _heap_fd  # noqa: PLW0603  (one heap per process is the meaning of it)
    found = _heap
    if found is not None:
        return found
    with _lock:
        if _heap is None:
            if _heap_fd >= 0:
                _heap = Heap.attach(_heap_fd)
                os.close(_heap_fd)
                _heap_fd = -1
            else:
                _heap = Heap.create()
        return _heap


def adopt_heap(fd: int) -> None:
    """Use the heap behind an inherited descriptor as this process's heap; takes over the descriptor."""
    global _heap_fd  # noqa: PLW0603
    _heap_fd = fd


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


def _after_fork() -> None:
    """Give a forked child a lock of its own: another thread may have held the parent's."""
    global _lock  # noqa: PLW0603
    _lock = allocate_lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)
