"""`multiprocessing.resource_sharer` on corral: descriptors for whoever unpickles what stands for them.

Role in the flow: `reduction.DupFd` comes here outside of a launch.
Runs in: any process, any thread.
Failure: as of `_channel.handover`.
"""

from __future__ import annotations

from corral._channel import handover

__all__ = ["DupFd", "stop"]


class DupFd:
    """Stands in a pickle for a copy of a descriptor, made now; it can be detached once, in any process."""

    def __init__(self, fd: int) -> None:
        self._ticket = handover.offer([fd])

    def detach(self) -> int:
        """Return the descriptor; it belongs to the caller.

        Raises:
            ConnectionError: the process that made this has ended, or it was detached before.
        """
        (fd,) = handover.collect(self._ticket)
        return fd


def stop(timeout: float | None = None) -> None:
    """Do nothing: the thread that hands descriptors out ends by itself when none is on offer."""
    del timeout
