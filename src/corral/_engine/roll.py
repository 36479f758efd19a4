"""The engines of this process: ended with it, and left alone in a forked child."""

from __future__ import annotations

import atexit
import os
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral._engine.engine import Engine

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def enter(engine: Engine) -> None:
    """It runs."""
    _engines.add(engine)


def leave(engine: Engine) -> None:
    """Its workers are gone."""
    _engines.discard(engine)


def _end_all() -> None:
    for engine in list(_engines):
        engine.end()


def _orphan_all() -> None:
    for engine in list(_engines):
        engine.orphan()
    _engines.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_orphan_all)
