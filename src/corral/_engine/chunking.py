"""How many items the next chunk of a map shall have.

Runs in: the parent, whichever thread feeds. Pure: numbers in, numbers out.

The rule has three bounds. A chunk should last about as long as `_GOAL` of its total (between
`MIN_CHUNK_NS` and `MAX_CHUNK_NS`), so that the cost per chunk is small beside its work. It must not
hold more than a fair part of what remains (guided self-scheduling, Polychronopoulos and Kuck 1987), so
that all workers end together. And it may exceed the largest chunk measured so far only by `GROWTH`, so
that one quick item does not vouch for a million.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


MIN_CHUNK_NS: Final = 200_000
MAX_CHUNK_NS: Final = 5_000_000
CHUNKS_PER_WORKER: Final = 16  # of the whole, when the whole is short
SHARE: Final = 2  # a chunk holds at most 1/(SHARE * workers) of what remains
GROWTH: Final = 16
_SMOOTHING: Final = 0.5


class Chunker:
    """Sizes for the chunks of one map call, tuned by the durations of those that came back.

    Not thread-safe: the caller holds the lock of the call.
    """

    __slots__ = ("_fixed", "_largest", "_workers", "item_ns")

    def __init__(self, workers: int, fixed: int | None = None) -> None:
        """Begin; with `fixed` every chunk has that many items (the last one what is left)."""
        self._workers = max(1, workers)
        self._fixed = fixed
        self.item_ns: float | None = None
        self._largest = 1

    @property
    def is_fixed(self) -> bool:
        """Whether every chunk has the size its caller chose."""
        return self._fixed is not None

    def measured(self, items: int, elapsed_ns: int) -> None:
        """Learn that a chunk of `items` took `elapsed_ns` in its worker."""
        if self._fixed is not None or items <= 0:
            return
        sample = max(1.0, elapsed_ns / items)
        old = self.item_ns
        # A larger chunk says more about an item than the one-item probes did.
        weight = _SMOOTHING if items <= self._largest else 0.8
        self.item_ns = sample if old is None else old + weight * (sample - old)
        self._largest = max(self._largest, items)

    def next_size(self, remaining: int | None) -> int:
        """Return the size of the next chunk (at least 1); `remaining` is None if nobody knows."""
        if self._fixed is not None:
            return self._fixed
        if self.item_ns is None:
            return 1
        size = int(self._goal_ns(remaining) / self.item_ns)
        size = min(size, self._largest * GROWTH)
        if remaining is not None:
            size = min(size, -(-remaining // (SHARE * self._workers)))
        return max(1, size)

    def _goal_ns(self, remaining: int | None) -> float:
        if remaining is None or self.item_ns is None:
            return MAX_CHUNK_NS / 4
        whole = remaining * self.item_ns / (self._workers * CHUNKS_PER_WORKER)
        return min(MAX_CHUNK_NS, max(MIN_CHUNK_NS, whole))
