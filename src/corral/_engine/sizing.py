"""How many workers there shall be: a number, or a range within which a pool breathes.

Runs in: the parent, under the engine's lock. Pure: what the seats have done in, who may leave out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

IDLE_S = 60.0


class Idleness:
    """Finds workers that had nothing to do from one look to the next."""

    __slots__ = ("_before", "least")

    def __init__(self, least: int) -> None:
        """At least `least` workers stay."""
        self.least = least
        self._before: dict[int, int] = {}  # seat -> tasks it had settled

    def look(self, idle: Mapping[int, int], manned: int) -> list[int]:
        """Return the seats whose workers may leave, the highest first: they get work last.

        Args:
            idle: The seats that have nothing to do now, and how many tasks each has settled so far.
            manned: How many workers there are.
        """
        quiet = sorted(
            (seat for seat, settled in idle.items() if self._before.get(seat) == settled), reverse=True
        )
        self._before = dict(idle)
        return quiet[: max(0, manned - self.least)]


def check_range(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return how many workers there are at least and at most.

    Raises:
        ValueError: there cannot be so many.
        TypeError: it is no number.
    """
    least, most = size if isinstance(size, tuple) else (size, size)
    given: tuple[object, object] = (least, most)
    if not all(isinstance(number, int) for number in given):
        raise TypeError(f"a number of workers must be an int, or a pair of ints, not {size!r}")
    if most < 1:
        raise ValueError("Number of processes must be at least 1")
    if not 0 <= least <= most:
        raise ValueError(f"there cannot be at least {least} and at most {most} workers")
    return least, most


def check_limits(memory_bytes: int | None, idle_s: float | None) -> None:
    """See that these can be limits.

    Raises:
        ValueError: they cannot.
    """
    if memory_bytes is not None and memory_bytes <= 0:
        raise ValueError(f"memory_limit must be a number of bytes, or None, not {memory_bytes!r}")
    if idle_s is not None and not idle_s > 0:
        raise ValueError(f"idle_timeout must be a number of seconds, or None, not {idle_s!r}")
