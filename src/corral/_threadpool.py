"""`multiprocessing.pool.ThreadPool`: the pool's methods on threads of this process.

Borrowed on purpose: the standard library's module, of which only this class is used.
Role in the flow: `corral.pool.ThreadPool` and `corral.dummy.Pool` are this.
Runs in: any process; the pool's own threads.
See: docs/decisions/0016-borrowed-modules-run-on-ours.md.
"""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.pool import ThreadPool as ThreadPool
else:
    from corral._borrowed import run_as

    run_as(globals(), "pool")


class _Notifier:
    """Wakes the thread that looks after the workers: one descriptor, nothing shared with other processes."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._reader = self

    def fileno(self) -> int:
        return self._fd

    def put(self, _: object) -> None:
        os.eventfd_write(self._fd, 1)

    def get(self) -> None:
        os.eventfd_read(self._fd)

    def empty(self) -> bool:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        return not poller.poll(0)

    def __del__(self) -> None:
        os.close(self._fd)


class _Threads:
    """The context of a pool of threads: the one thing that it asks a context for."""

    SimpleQueue = _Notifier


get_context = _Threads
"""In place of the one that the borrowed code has imported."""
