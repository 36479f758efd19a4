"""The memory of what this process shares: how much there is, and plain pieces of it (`multiprocessing.heap`).

Role in the flow: `corral.heap_stats` for users who watch memory; `BufferWrapper` for programs that take
memory from the standard library's heap by its own name.
Runs in: parent and child, any thread.
"""

from __future__ import annotations

from corral import _native
from corral._launch import heap, sharing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BufferWrapper", "heap_stats"]


def heap_stats() -> dict[str, int]:
    """Return how much shared memory this process's objects take: arguments, results, values, locks.

    Queues and pipes, which have heaps of their own, are not in it, nor what other processes have made.

    Returns:
        `blocks_used` and `blocks_free`, counted; `bytes_used`, as asked for; `bytes_free`, what free blocks
        have room for; `bytes_resident`, which take up memory at the moment; `bytes_reserved`, the address
        space that bounds it all.
    """
    return heap().stats()


class BufferWrapper:
    """Bytes of shared memory, all zeros at first; given to processes that are being started.

    Args:
        size: in bytes.

    Raises:
        ValueError: a negative size.
        MemoryError: no room.
    """

    # Where the standard library has its allocator, and its own tests look for it.
    _heap: Any = None

    def __init__(self, size: int) -> None:
        if size < 0:
            raise ValueError(f"Size {size} out of range")
        self._stretch = _native.Stretch.create(heap(), max(size, 1))
        self._size = size
        sharing.keep_on_fork(self)

    def create_memoryview(self) -> memoryview:
        """Return the bytes, as a writable view that keeps the memory."""
        return memoryview(self._stretch)[: self._size]

    def __reduce__(self) -> tuple[Any, ...]:
        where = sharing.depart(self._stretch.heap, self._stretch.ref, self)
        return _arrived, (where, self._size)


def _arrived(where: tuple[Any, int], size: int) -> BufferWrapper:
    """Find, in a child, the memory that its parent was given or has made."""
    found, ref = sharing.arrive(where)
    made = BufferWrapper.__new__(BufferWrapper)
    made._stretch = _native.Stretch.attach(found, ref)  # noqa: SLF001  (it is being made)
    made._size = size  # noqa: SLF001
    return made
