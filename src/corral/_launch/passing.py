"""Pass descriptors along with a launch: what is encoded for a child names them by index.

Role in the flow: `corral.process` opens a `Passing` around the encoding of a process object; reducers of
connections, locks and queues add to it; in the child they take what was received.
Runs in: parent (the launching thread only) and child.
Invariants:
    INV-PASS-1: an index means the same descriptor on both sides.
Failure: what needs a descriptor and is encoded outside a launch finds no `Passing`.
"""

from __future__ import annotations

from _thread import _local

from corral._launch import neighbour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corral._native import Heap

__all__ = ["DupFd", "Passing", "current", "foreign", "receive", "set_current"]

_here = _local()
_received: list[int] = []


class Passing:
    """The descriptors that go along with one launch."""

    __slots__ = ("_heaps", "fds", "keepers")

    def __init__(self) -> None:
        self.fds: list[int] = []
        self.keepers: list[object] = []
        """What must live as long as the child (`sharing`)."""
        self._heaps: dict[int, Descriptor] = {}

    def __enter__(self) -> Passing:  # noqa: PYI034  (final in all but name; `typing` costs an import)
        set_current(self)
        return self

    def __exit__(self, *_: object) -> None:
        set_current(None)

    def duplicate_for_child(self, fd: int) -> Descriptor:
        """Have `fd` passed to the child; return what stands for it in a pickle."""
        self.fds.append(fd)
        return DupFd(len(self.fds) - 1)

    def DupFd(self, fd: int | Descriptor) -> Descriptor:  # noqa: N802  (the standard library's name)
        """Have `fd` passed to the child, if it isn't yet; return what stands for it in a pickle.

        The standard library's reducers call this with what `duplicate_for_child` has returned.
        """
        return self.duplicate_for_child(fd) if isinstance(fd, int) else fd

    def heap(self, heap: Heap) -> Descriptor:
        """Have the heap's descriptor passed to the child, once."""
        found = self._heaps.get(heap.fileno())
        if found is None:
            found = self._heaps[heap.fileno()] = self.DupFd(heap.fileno())
        return found


class DupFd:
    """Stands in a pickle for a descriptor that goes along with a launch."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __reduce__(self) -> tuple[type[DupFd], tuple[int]]:
        return DupFd, (self.index,)

    def detach(self) -> int:
        """Return the descriptor, in the child; it belongs to the caller."""
        return _received[self.index]


Descriptor = DupFd
"""The class by a name that annotations within `Passing` can use: there, `DupFd` is the method."""


def current() -> Passing | None:
    """Return what goes along with the launch that this thread is encoding for; None outside of one."""
    found: Passing | None = getattr(_here, "passing", None)
    return found


def set_current(passing: Passing | None) -> None:
    """Begin or end encoding for a launch, in this thread; the standard library's objects see it as theirs."""
    _here.passing = passing
    theirs = neighbour.loaded("multiprocessing.context")
    if theirs is not None:
        theirs.set_spawning_popen(passing)


def foreign() -> Any:
    """Return the launch of the standard library that this thread is encoding for; None outside of one."""
    theirs = neighbour.loaded("multiprocessing.context")
    popen = theirs.get_spawning_popen() if theirs is not None else None
    return None if isinstance(popen, Passing) else popen


def receive(fds: Sequence[int]) -> None:
    """Keep the descriptors that came with this process's launch."""
    _received[:] = fds
