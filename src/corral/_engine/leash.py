"""How an engine learns that nobody holds its face any more."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral._native import WaitSet


class Leash:
    """What a face's finalizer holds: no more of the engine than it takes to end it."""

    __slots__ = ("_waitset", "dropped")

    def __init__(self, waitset: WaitSet) -> None:
        self._waitset = waitset
        self.dropped = False

    def drop(self) -> None:
        """The face was collected. Takes no lock: a finalizer may run while any is held."""
        self.dropped = True
        self._waitset.kick()
