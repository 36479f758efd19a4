"""The terms under which a call runs: how long, and how often it is tried.

Role in the flow: faces make them of keyword arguments; a task carries them to the crew, which enforces them.
A call without terms carries None, and pays nothing.
"""

from __future__ import annotations

from corral._engine.deadlines import GRACE_S

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class Wishes(TypedDict, total=False):
        """The keyword arguments of every submitting method that has room for them."""

        timeout: float | None
        grace: float
        retries: int
        retry_on: type[BaseException] | tuple[type[BaseException], ...]
        backoff: float

    class MapWishes(Wishes, total=False):
        """Those of the maps that collect a list."""

        errors: str


BACKOFF_S = 0.1


class Terms:
    """Time limit and retries of a call; immutable."""

    __slots__ = ("backoff_s", "grace_s", "retries", "retry_on", "timeout_s")

    def __init__(
        self,
        *,
        timeout: float | None = None,
        grace: float = GRACE_S,
        retries: int = 0,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception,
        backoff: float = BACKOFF_S,
    ) -> None:
        """Check and keep what was asked for; see `corral.pool.Pool.options` for what it means."""
        for name, value, least in (
            ("timeout", timeout, 0.0),
            ("grace", grace, 0.0),
            ("backoff", backoff, 0.0),
        ):
            if value is not None and not float(value) >= least:
                raise ValueError(f"{name} must be a number of seconds, not {value!r}")
        if timeout is not None and timeout <= 0:
            raise ValueError(f"timeout must be above 0 seconds, or None, not {timeout!r}")
        given: Any = retries
        if not isinstance(given, int) or given < 0:
            raise ValueError(f"retries must be a number of times, not {retries!r}")
        kinds: Any = retry_on if isinstance(retry_on, tuple) else (retry_on,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise TypeError(f"retry_on must be an exception class or a tuple of them, not {retry_on!r}")
        self.timeout_s = None if timeout is None or timeout == float("inf") else float(timeout)
        self.grace_s = float(grace)
        self.retries = retries
        self.retry_on = retry_on
        self.backoff_s = float(backoff)

    def wishes(self) -> dict[str, Any]:
        """The keyword arguments that make the same terms."""
        return {
            "timeout": self.timeout_s,
            "grace": self.grace_s,
            "retries": self.retries,
            "retry_on": self.retry_on,
            "backoff": self.backoff_s,
        }

    @property
    def changes_anything(self) -> bool:
        """Whether a call under them differs from one without."""
        return self.timeout_s is not None or self.retries > 0


def agree(given: Terms | None, wishes: Wishes) -> Terms | None:
    """The terms of a call: those of its face, with the call's own wishes before them.

    Raises:
        TypeError: there is no such wish.
        ValueError: a value that makes no sense.
    """
    if not wishes:
        return given
    terms = Terms(**{**given.wishes(), **wishes} if given is not None else wishes)
    return terms if terms.changes_anything else None


def agree_on_map(given: Terms | None, wishes: MapWishes) -> tuple[Terms | None, bool]:
    """As `agree`, and whether to collect all failures of the map.

    Raises:
        TypeError, ValueError: as `agree`.
    """
    own: dict[str, Any] = dict(wishes)
    errors = own.pop("errors", "raise")
    if errors not in {"raise", "collect"}:
        raise ValueError(f"errors must be 'raise' or 'collect', not {errors!r}")
    return agree(given, own), errors == "collect"  # type: ignore[arg-type]
