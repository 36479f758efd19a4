"""What is to be done when: entries by the time they are due.

Runs in: the parent, under the engine's lock. Pure: clock readings in, entries out.
"""

from __future__ import annotations

from heapq import heappop, heappush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Agenda:
    """Entries in the order of their times; of equal times in the order they came. Not thread-safe."""

    __slots__ = ("_count", "_heap", "next_s")

    def __init__(self) -> None:
        """Begin empty."""
        self._heap: list[tuple[float, int, Any]] = []
        self._count = 0
        self.next_s: float | None = None  # when the first entry is due

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when_s: float, entry: Any) -> None:
        """Have `entry` due at `when_s`."""
        self._count += 1
        heappush(self._heap, (when_s, self._count, entry))
        self.next_s = self._heap[0][0]

    def pop_due(self, now_s: float) -> Any | None:
        """Take out the first entry that is due; None if none is."""
        heap = self._heap
        if not heap or heap[0][0] > now_s:
            return None
        entry = heappop(heap)[2]
        self.next_s = heap[0][0] if heap else None
        return entry

    def entries(self) -> list[Any]:
        """Every entry, in no order."""
        return [entry for _, _, entry in self._heap]
