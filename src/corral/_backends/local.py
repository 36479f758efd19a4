"""Workers as processes of this machine, on rings in the shared heap.

Role in the flow: the engine asks for a worker, `corral._launch` starts its process, the link made here
is handed to it; what a dead worker held goes back to the heap.
"""

from __future__ import annotations

import os
from _pickle import dumps

from corral._codec import bundle
from corral._engine.messages import wishes
from corral._launch import begin, heap, launch
from corral._launch.kin import describe
from corral._launch.passing import Passing
from corral._native import Bell, Link, WaitSet
from corral._worker.limits import MAX_DEPTH, depth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from corral._launch import Child

_ENTRY = "corral._worker.loop:run"
_RING_BYTES = 1 << 18
_MAX_WORDS = 4096
_IDLE_S = 4.0  # pages freed this long ago are not about to be reused
# More than two wake-ups take on another processor (20 to 46 us each): a waiter that gives up sooner misses
# the answer of a peer that had to be woken, sleeps, must be woken in turn, and so they never get to spinning.
_SPIN_US = 100


def kind_of(method: str) -> str:
    """Return what the processes of a start method are called, as in `ForkServerProcess`."""
    return "ForkServer" if method == "forkserver" else method.title()


class LocalBackend:
    """Starts workers by one start method, all with the same initializer."""

    def __init__(
        self,
        method: str,
        *,
        cpus: int,
        name: Callable[[], str],
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        exit_is_result: bool = False,
        forward: tuple[str, ...] = (),
        blas_threads: int = 0,
        memory_bytes: int | None = None,
    ) -> None:
        """Prepare; no process is started yet.

        Raises:
            PoolError: pools are nested deeper than anybody can mean.
            EncodeError: the initializer or its arguments cannot be pickled (not with fork, which needs
            no pickling).
        """
        self._depth = depth() + 1
        if self._depth > MAX_DEPTH:
            from corral.errors import PoolError

            raise PoolError(f"this pool would be in the worker of a pool, {MAX_DEPTH} times over")
        begin(method)
        self._method = method
        self._blas_threads = blas_threads
        self.memory_bytes = memory_bytes
        self._name = name
        self._initializer = initializer
        self._initargs = initargs
        self._exit_is_result = exit_is_result
        self._forward = forward
        self._heap = heap()
        self._bell = Bell.create(self._heap)
        self.waitset = WaitSet(self._bell)
        # With one processor a spinning waiter keeps from running what it waits for.
        self.spin_us = _SPIN_US if cpus > 1 else 0
        self._spinners = max(0, cpus - 1)
        self._launched = 0
        self._words: dict[Child, int] = {}
        self._init: bytes | None = None
        # Locks, queues and the like among the initializer's arguments.
        self._passed = Passing()
        if initializer is not None and method != "fork":
            with self._passed:
                self._init = bundle((initializer, tuple(initargs)))

    def launch(self, seat: int) -> tuple[Link, Child]:
        """Start a worker for `seat`.

        Raises:
            OSError: no process, descriptor or memory is to be had.
        """
        link = Link.create(self._heap, self._bell, _RING_BYTES)
        # As many waiters may spin as leave a processor to those who work; the low seats get the work first.
        spin_us = _SPIN_US if seat < self._spinners else 0
        name = self._name()
        ways = {
            "depth": self._depth,
            "threads": self._blas_threads,
            "memory": self.memory_bytes,
            "says": wishes(self._forward, name) if self._forward else None,
        }
        payload = dumps((link.ref, self._init, self._exit_is_result, spin_us, ways))
        # An executor's workers are no daemons, as the standard library has it: what they run may ask.
        about = describe(name, daemon=not self._exit_is_result)
        words = os.memfd_create("corral-last-words")
        try:
            fds = (self._bell.fileno(), words, *self._passed.fds)
            call = self._forked(link.ref, spin_us, ways, words) if self._method == "fork" else None
            child = launch(self._method, _ENTRY, payload, fds=fds, call=call, about=about)
        except BaseException:
            os.close(words)
            raise
        self._words[child] = words
        child.kept += self._passed.keepers
        return link, child

    def _forked(self, ref: int, spin_us: int, ways: dict[str, Any], words: int) -> Callable[[], None]:
        def call() -> None:
            from corral._worker.loop import serve_forked

            serve_forked(
                (ref, self._bell.fileno(), words, spin_us),
                self._initializer,
                self._initargs,
                exit_is_result=self._exit_is_result,
                ways=ways,
            )

        return call

    def tidy(self) -> None:
        """Hand the pages of freed blocks back to the system."""
        self._heap.trim(_IDLE_S)

    def weigh(self, pid: int) -> int:
        """How many bytes of memory of its own a worker uses."""
        from corral._worker.memory import own_bytes

        return own_bytes(pid)

    def last_words(self, child: Child) -> str:
        """The stacks that the faulthandler has written in a worker ended by a signal; empty if it has not."""
        fd = self._words.get(child)
        return "" if fd is None else os.pread(fd, _MAX_WORDS, 0).decode(errors="replace").strip()

    def bury(self, child: Child) -> None:
        """Take back what the dead worker held."""
        words = self._words.pop(child, -1)
        if words >= 0:
            os.close(words)
        # What it used is let go of, and what it held in queues' heaps taken back, when its end is collected.
        child.poll()
        self._heap.recover(child.identity)
        child.close()


def share_of_threads(asked: int | None, cpus: int, workers: int) -> int:
    """How many threads a numerical library gets in each worker: no more in all than there are processors.

    Raises:
        ValueError: fewer than none were asked for.
    """
    if asked is None:
        return max(1, cpus // workers)
    if asked < 0:
        raise ValueError(f"blas_threads must be a number of threads, 0 for any, or None, not {asked!r}")
    return asked
