"""Show in the parent what workers say: through its own logging, warnings and streams.

Role in the flow: the crew has such frames shown (`Said`) ahead of the outcomes that came with them;
`wishes` says, when a worker is launched, what it is to send.
Runs in: the parent, in the thread that drives, without the engine's lock.
Failure: what a program's own handlers raise is reported as logging does it, and is nobody's outcome.
"""

from __future__ import annotations

import sys
from _pickle import loads
from _thread import RLock
from collections import deque

from corral._channel import wire
from corral._engine.outcome import raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from corral._native import Block

__all__ = ["DEFAULT", "KINDS", "Said", "choose", "wishes"]

KINDS = ("logging", "warnings", "prints")
DEFAULT = ("logging", "warnings")


def choose(forward: bool | str | Iterable[str] | None) -> tuple[str, ...]:
    """Check what `forward=` asks for: the kinds by name, all for True, the default for None.

    Raises:
        ValueError: there is no such kind.
    """
    if forward is None:
        return DEFAULT
    if isinstance(forward, bool):
        return KINDS if forward else ()
    chosen = (forward,) if isinstance(forward, str) else tuple(forward)
    for kind in chosen:
        if kind not in KINDS:
            raise ValueError(f"forward takes any of {', '.join(KINDS)}, not {kind!r}")
    return chosen


def wishes(chosen: tuple[str, ...], name: str) -> dict[str, Any]:
    """What the worker `name` has to know to send `chosen`: levels and filters as they are here, now."""
    wants: dict[str, Any] = {"name": name, **dict.fromkeys(chosen)}
    if "logging" in wants:
        wants["logging"] = _levels()
    if "warnings" in wants:
        wants["warnings"] = _filters()
    return wants


def _levels() -> dict[str, tuple[int, bool]]:
    """Level of each logger that has one, by name; the root's is ""."""
    logging = sys.modules.get("logging")
    if logging is None:
        return {}
    levels = {"": (logging.root.level, logging.root.disabled)}
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (logger.level or logger.disabled):
            levels[name] = (logger.level, logger.disabled)
    return levels


def _filters() -> list[Any] | None:
    """The filters of warnings, those that any process can rebuild; None where they are the interpreter's."""
    warnings = sys.modules.get("warnings")
    if warnings is None:
        return None
    return [entry for entry in warnings.filters if entry[2].__module__ == "builtins"]


class Said:
    """What the workers of an engine have said, in the order in which it was heard."""

    __slots__ = ("_showing", "heard")

    def __init__(self) -> None:
        self.heard: deque[tuple[int, bytes | Block]] = deque()
        # Two threads may deliver what has arrived; one at a time shows, so that the order stays. The same
        # thread may come again: a program's handler may wait for a task.
        self._showing = RLock()

    def show(self) -> None:
        """Show all that was heard. Blocking: while another thread shows."""
        with self._showing:
            while self.heard:
                kind, body = self.heard.popleft()
                _show(kind, raw(body))


def _show(kind: int, body: bytes | memoryview) -> None:
    """Show one thing that a worker said."""
    try:
        content = loads(body)
        if kind == wire.RECORD:
            _log(*content)
        elif kind == wire.WARNING:
            _warn(*content)
        else:
            _print(*content)
    except Exception:
        sys.excepthook(*sys.exc_info())


def _log(attributes: dict[str, Any]) -> None:
    import logging

    record = logging.makeLogRecord(attributes)
    logger = logging.getLogger(record.name if record.name != "root" else None)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def _warn(payload: bytes, filename: str, lineno: int) -> None:
    import warnings

    from corral._codec import decode

    given: Any = decode(payload)
    message, category = given
    # As the interpreter calls it: whoever captures or replaces it gets them.
    warnings.showwarning(message, category, filename, lineno)


def _print(name: str, text: str) -> None:
    stream = getattr(sys, name)
    if stream is not None:
        stream.write(text)
        stream.flush()
