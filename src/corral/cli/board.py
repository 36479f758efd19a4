"""Shows how far a program's maps are, for ``corral run --progress``.

Role in the flow:
    `_startup/sitecustomize.py` calls `show` in the program's process; the engine announces each map.

Invariants:
    A thread runs only while a map does, and holds no lock that a forked child may want: it writes to the
    descriptor of stderr itself.
"""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING

from corral._engine import watching
from corral.cli.errors import UsageError

if TYPE_CHECKING:
    from typing import Any

    from corral._engine.watching import Watched

_INTERVAL_S = 0.1
_STDERR_FD = 2


def show() -> None:
    """Show the progress of each map of this process from now on.

    Raises:
        UsageError: tqdm is missing.
    """
    from corral.cli import progress

    if not progress.wanted(choice=True, stdout_is_shown=False):
        raise UsageError(progress.INSTALL_ADVICE)
    board = _Board()
    watching.watch(board.begin)
    atexit.register(board.finish)


class _Stderr:
    """Standard error as a file, without a buffer and so without its lock."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Write at once; nobody may be there to read."""
        try:
            return os.write(_STDERR_FD, text.encode())
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Do nothing: all is written."""

    def fileno(self) -> int:
        """Return the descriptor, by which the width of the terminal is found."""
        return _STDERR_FD

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return os.isatty(_STDERR_FD)


class _Board:
    """One bar for all maps under way; a new one when there were none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Watched] = []
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()

    def begin(self, call: Watched) -> None:
        """Count a map in."""
        with self._lock:
            self._calls.append(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._draw, name="corral-progress", daemon=True)
                self._thread.start()

    def finish(self) -> None:
        """Draw what came last, at the program's end."""
        self._ending.set()
        thread = self._thread
        if thread is not None:
            thread.join(1)

    def _draw(self) -> None:
        bar = _new_bar()
        while True:
            ending = self._ending.wait(_INTERVAL_S)
            with self._lock:
                calls = self._calls
                ending = ending or all(call.over for call in calls)
                if ending:
                    self._calls = []
                    self._thread = None
            seen = [call.progress() for call in calls]
            totals = [total for _, total in seen if total is not None]
            bar.total = sum(totals) if len(totals) == len(seen) else None
            bar.n = sum(done for done, _ in seen)
            bar.refresh()
            if ending:
                bar.close()
                return


def _new_bar() -> Any:
    from tqdm import tqdm

    class Shown(tqdm):  # type: ignore[type-arg]  # tqdm is generic only in its stubs
        """A bar apart from those of the program, which may use tqdm too."""

        monitor_interval = 0

    # The default one is shared between processes, of multiprocessing's making.
    Shown.set_lock(threading.RLock())
    return Shown(unit=" item", file=_Stderr(), dynamic_ncols=True, leave=True)
