"""Know how a launched process ends: the `Child`, its pidfd and its exit code.

Role in the flow: `launch` returns it; `corral.process` and the engine's supervision wait on it.
Runs in: parent, any thread; a process forked from the parent must not use it.
Invariants:
    INV-END-1: `sentinel` is opened before anybody can reap the process, so it never means another.
    INV-END-2: the exit code is collected once, under the lock, and kept.
Failure: where somebody else has reaped the process, the kernel is asked; where it doesn't know, 255.
"""

from __future__ import annotations

import os
import select
import sys
from _thread import allocate_lock

from corral._native import identity_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
else:
    # The built-in part alone: `signal` brings `enum` along, which costs a child more than its work.
    import _signal

__all__ = ["UNKNOWN_EXIT", "Child", "OwnChild", "is_readable"]

UNKNOWN_EXIT = 255
"""The exit code of a process of which nobody can tell how it ended, as in the standard library."""

_collecting = allocate_lock()


class Child:
    """A launched process. Its owner is the process that launched it; free of the GIL while waiting."""

    __slots__ = ("__weakref__", "_exit_code", "identity", "kept", "pid", "sentinel")

    def __init__(self, pid: int, identity: int, sentinel: int) -> None:
        """Take over the pidfd `sentinel` of process `pid`."""
        self.pid = pid
        self.identity = identity
        self.sentinel = sentinel
        self.kept: list[object] = []
        """What the process may use for as long as it runs (`sharing`)."""
        self._exit_code: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        return self.wait(0)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the process has ended; return its exit code, or None after `timeout_s`."""
        if self._exit_code is None and self.sentinel >= 0 and is_readable(self.sentinel, timeout_s):
            with _collecting:
                if self._exit_code is None:
                    self._exit_code = self._collect()
                    self._settle()
        return self._exit_code

    def _settle(self) -> None:
        """Let go of what the process used, and take back what it held."""
        self.kept = []
        sharing = sys.modules.get("corral._launch.sharing")
        if sharing is not None:
            sharing.recover(self.identity)

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens when the process has ended."""
        if self._exit_code is not None or self.sentinel < 0:
            return
        try:
            _signal.pidfd_send_signal(self.sentinel, number)
        except ProcessLookupError:
            return

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(_signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(_signal.SIGKILL)

    def interrupt(self) -> None:
        """Send SIGINT."""
        self.send_signal(_signal.SIGINT)

    def close(self, _close: Callable[[int], None] = os.close) -> None:
        """Give the sentinel back; the exit code stays known, if it is."""
        # At the interpreter's end the name `os` may be gone before the last child's object is.
        fd, self.sentinel = self.sentinel, -1
        if fd >= 0:
            _close(fd)

    def __del__(self) -> None:
        """Give the sentinel back."""
        self.close()

    def _collect(self) -> int:
        """Return the exit code of the process, which has ended."""
        raise NotImplementedError

    def _ask_kernel(self) -> int | None:
        """Return the exit code if the kernel knows it; of another user's zombie it says 0 whatever it was."""
        from corral._launch.postmortem import kernels_exit_code

        return kernels_exit_code(self.sentinel, self.pid, self.identity)

    def _last_resort(self) -> int:
        """Return the exit code if the kernel knows it, else what says that nobody does."""
        code = self._ask_kernel()
        return UNKNOWN_EXIT if code is None else code


class OwnChild(Child):
    """A child that the kernel counts as this process's own: forked or spawned by it."""

    __slots__ = ()

    def __init__(self, pid: int) -> None:
        """Watch the child `pid`, which nobody has waited for yet; without a descriptor for it, end it."""
        try:
            sentinel = os.pidfd_open(pid)
        except ProcessLookupError:
            # Gone already, and nobody is told: the program ignores SIGCHLD.
            super().__init__(pid, 0, os.eventfd(1, os.EFD_CLOEXEC))
            self._exit_code = UNKNOWN_EXIT
            return
        except OSError:
            # What cannot be watched must not run; __del__ finds nothing to do.
            self.sentinel = -1
            self._exit_code = None
            os.kill(pid, _signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        super().__init__(pid, identity_of(pid), sentinel)

    def _collect(self) -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:
            # The program waits for any child by itself, or ignores SIGCHLD.
            return self._last_resort()

    def __del__(self, _finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Give the sentinel back, and the process table's entry if the process has ended."""
        if not _finalizing() and self.sentinel >= 0 and self._exit_code is None:
            self.poll()
        super().__del__()


def is_readable(fd: int, timeout_s: float | None) -> bool:
    """Wait until `fd` is readable or its peer gone; False after `timeout_s`."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(None if timeout_s is None else max(timeout_s, 0.0) * 1000))


def _after_fork() -> None:
    global _collecting  # noqa: PLW0603
    _collecting = allocate_lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)
