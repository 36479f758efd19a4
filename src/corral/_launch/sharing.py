"""Hand objects that live in shared memory to child processes, and keep them for as long as one uses them.

Role in the flow: locks, shared values and queues are pickled only while a process is launched; they `depart`
here, and `arrive` in the child. `ending` tells here that a child has ended.
Runs in: parent and child, any thread.
Invariants:
    INV-SHARE-1: what was handed to a child is kept by its parent until the child has ended; since a child
        ends with its parent, the creator of an object outlives everybody who uses it.
    INV-SHARE-2: what exists at a fork is kept likewise; for a process that the program has forked by itself,
        of whose end nobody here learns, as long as this process lives.
    INV-SHARE-3: blocks that a dead child owned in a heap of several owners (`register`) go back to it.
Failure: outside of a launch `depart` raises the standard library's RuntimeError.
See: docs/decisions/0008-a-heap-per-creator.md.
"""

from __future__ import annotations

import os
from _thread import get_ident
from _weakref import ref as weak

from corral._launch import passing, tree
from corral._native import Heap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Protocol

    from corral._launch.passing import DupFd

    class Recoverable(Protocol):
        """A heap, or whatever else has to know of a child's death."""

        def recover(self, owner: int, /) -> int: ...


__all__ = [
    "arrive",
    "depart",
    "depart_descriptor",
    "foreign_launch",
    "is_launching",
    "keep_on_fork",
    "kept_on_fork",
    "own_fork",
    "recover",
    "refuse",
    "register",
]

_live: dict[int, weak[object]] = {}
"""By id: what a fork hands to the child, though nothing is pickled."""
_shared_heaps: dict[int, weak[Recoverable]] = {}
_attached: dict[int, weak[Heap]] = {}
"""By inode: the heaps that came with a descriptor."""
_arrived: dict[int, Heap] = {}
"""By their index among what came with this process's launch: several objects may lie in one."""
_given_away: dict[int, object] = {}
"""What existed when the program forked by itself."""
_own_forks: set[int] = set()
"""The threads in which `launch` forks: it keeps what the child uses, for as long as the child lives."""


def is_launching() -> bool:
    """Tell whether this thread is encoding for the launch of a process, ours or the standard library's."""
    return passing.current() is not None or foreign_launch() is not None


def refuse(obj: object) -> NoReturn:
    """Refuse to pickle an object outside of a launch.

    Raises:
        RuntimeError: always, with the standard library's message.
    """
    raise RuntimeError(
        f"{type(obj).__name__} objects should only be shared between processes through inheritance"
    )


def depart(heap: Heap, ref: int, keeper: object) -> tuple[Any, int]:
    """Return what stands for a block in the pickle of a launch; keep `keeper` until the child has ended.

    Args:
        heap: the heap in which the block lies.
        ref: its reference there.
        keeper: the object whose end would free the block.

    Raises:
        RuntimeError: no process is being launched in this thread.
    """
    launch = passing.current()
    if launch is not None:
        launch.keepers.append(keeper)
        # The child maps the heap of its parent's making anyway.
        return (None if heap is tree.heap() else launch.heap(heap)), ref
    popen = foreign_launch()
    if popen is None:
        refuse(keeper)
    # The standard library's: its object lives as long as it knows of the child.
    vars(popen).setdefault("_kept_by_corral", []).append(keeper)
    # It takes no descriptor twice.
    heaps: dict[int, Any] = vars(popen).setdefault("_heaps_of_corral", {})
    fd = heap.fileno()
    if fd not in heaps:
        heaps[fd] = popen.DupFd(popen.duplicate_for_child(fd))
    return heaps[fd], ref


def depart_descriptor(fd: int) -> Any:
    """Return what stands for a descriptor in the pickle of a launch; its `detach()` gives it in the child."""
    launch = passing.current()
    if launch is not None:
        return launch.DupFd(fd)
    popen = foreign_launch()
    return popen.DupFd(popen.duplicate_for_child(fd))


def arrive(where: tuple[DupFd | None, int]) -> tuple[Heap, int]:
    """Return, in the child, the heap and the reference that `depart` named."""
    descriptor, ref = where
    if descriptor is None:
        return tree.parents_heap(), ref
    # Ours has an index; the standard library's one too, under another name, or the descriptor's number.
    found_as = (getattr(descriptor, name, None) for name in ("index", "ind", "fd"))
    index = next((number for number in found_as if number is not None), -1)
    if index in _arrived:
        return _arrived[index], ref
    fd = descriptor.detach()
    inode = os.fstat(fd).st_ino
    found = _attached.get(inode)
    heap = found() if found is not None else None
    if heap is None:
        heap = Heap.attach(fd)
        _attached[inode] = weak(heap)
    os.close(fd)
    if index >= 0:
        _arrived[index] = heap
    return heap, ref


def keep_on_fork(keeper: object) -> None:
    """Have `keeper` outlive its last reference here while a process forked meanwhile may use its block."""
    number = id(keeper)

    def forget(_: object) -> None:
        _live.pop(number, None)

    _live[number] = weak(keeper, forget)


def kept_on_fork() -> list[object]:
    """Return what a child forked now has inherited."""
    return [found for reference in list(_live.values()) if (found := reference()) is not None]


def own_fork(*, begins: bool) -> None:
    """Say that the fork which begins, or has ended, in this thread is the launch's own."""
    (_own_forks.add if begins else _own_forks.discard)(get_ident())


def register(heap: Recoverable) -> None:
    """Have blocks that a child of this process owned in `heap` given back when the child has ended."""
    number = id(heap)

    def forget(_: object) -> None:
        _shared_heaps.pop(number, None)

    _shared_heaps[number] = weak(heap, forget)


def recover(identity: int) -> None:
    """Take back what the dead process owned in heaps of several owners."""
    for reference in list(_shared_heaps.values()):
        heap = reference()
        if heap is not None and identity:
            heap.recover(identity)


def foreign_launch() -> Any:
    """Return the launch of the standard library that this thread is encoding for; None outside of one."""
    return passing.foreign()


def _before_fork() -> None:
    """Keep what a process that the program forks will use."""
    if get_ident() not in _own_forks:
        _given_away.update((id(keeper), keeper) for keeper in kept_on_fork())


def _after_fork() -> None:
    """Forget, in a forked child, for whom its parent keeps things."""
    _own_forks.clear()
    _given_away.clear()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
