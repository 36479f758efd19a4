"""The engines of this process: ended with it, and left alone in a forked child."""

from __future__ import annotations

import atexit
import os
import sys
import weakref

from corral.errors import PoolClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from corral._engine.engine import Engine
else:
    import _signal

_INTERRUPTED = "the program was interrupted while it waited for its pools"

_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def enter(engine: Engine) -> None:
    """It runs."""
    _engines.add(engine)


def leave(engine: Engine) -> None:
    """Its workers are gone."""
    _engines.discard(engine)


def _end_all() -> None:
    """End all engines, whatever one raises; after a Ctrl-C the rest at once, and the program by it."""
    interrupted = False
    for engine in list(_engines):
        try:
            if interrupted:
                engine.terminate(PoolClosed(_INTERRUPTED), kill=True)
            else:
                engine.end()
        except KeyboardInterrupt:
            interrupted = True
            engine.terminate(PoolClosed(_INTERRUPTED), kill=True)
        except Exception:
            sys.excepthook(*sys.exc_info())
    if interrupted:
        # As the interpreter ends a program that a KeyboardInterrupt ends.
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        os.kill(os.getpid(), _signal.SIGINT)


def _orphan_all() -> None:
    for engine in list(_engines):
        engine.orphan()
    _engines.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_orphan_all)
