"""Keep this process's zygote, and launch children that it has forked.

Role in the flow: `launch` for method "forkserver"; orders go to `zygote`, requests straight to the child.
Runs in: parent, any thread (one lock); a process forked from the parent starts over with nothing.
Invariants:
    INV-FS-1: a launch takes a child that stands ready; its replacement is ordered when none is left or a
        child has ended. The zygote isn't on the way of a launch unless none stands ready.
    INV-FS-2: an exit code is asked for by the serial number of the child, never by process id.
    INV-FS-3: a forked process never writes to, reads from or ends its parent's zygote.
Failure: a dead zygote is seen by its closed socket; the next launch starts another. Exit codes of its
children are then asked of the kernel (`postmortem`).
"""

from __future__ import annotations

import errno
import marshal
import os
from _thread import allocate_lock

from corral._launch import exits, surroundings, tree, wire
from corral._launch.ending import Child, OwnChild, is_readable
from corral._launch.spawn import send_request, start_interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["launch_forkserver", "set_preload", "stop"]

SPARE_CHILDREN = 2
"""How many children stand ready while nothing happens."""

URGENT = b"!"
"""Marks an order for a child that is waited for: it is to come as it is, without a rehearsal."""

ATTEMPTS = 5
"""How many zygotes or ready children may turn out dead before a launch gives up."""

STOP_TIMEOUT_S = 2.0
"""How long a zygote may take to go before it is killed."""


class Ready:
    """A child of the zygote which waits for its request."""

    __slots__ = ("identity", "pid", "sentinel", "serial", "sock")

    def __init__(self, born: tuple[int, int, int], sentinel: int, sock: wire.socket) -> None:
        self.serial, self.pid, self.identity = born
        self.sentinel = sentinel
        self.sock = sock

    def discard(self) -> None:
        """Let the child end."""
        self.sock.close()
        os.close(self.sentinel)


class Zygote:
    """The parent's end of a zygote.

    Children that stand ready wait in the order socket, so that nothing of them is open in the parent.
    `take` and `restock` are called under `_lock`, what has to do with exit codes under `ending`'s.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        """Start a zygote; it imports in the background while the caller goes on."""
        self.base = surroundings.capture()
        self.exit_codes: dict[int, int] = {}
        self.forgotten: set[int] = set()
        # By serial number, the sockets to children that run: the kernel kills a child whose line closes.
        self.lines: dict[int, wire.socket] = {}
        self.ordered = 0
        self.alive = True
        self.orders, theirs = wire.pair()
        self.reports, reports = wire.pair()
        self.child: OwnChild | None = None
        try:
            fds = [reports.fileno(), tree.self_fd(), tree.heap().fileno()]
            self.child = OwnChild(start_interpreter("zygote", theirs))
            config = marshal.dumps({"surroundings": self.base, "preload": list(preload)})
            wire.send_parts(self.orders, config, b"", fds)
        except ConnectionError:
            self.alive = False
        except BaseException:
            self.bury(0)
            raise
        finally:
            theirs.close()
            reports.close()

    def take(self) -> Ready:
        """Return a child that stands ready, waiting for one if need be.

        Raises:
            EOFError: the zygote is dead.
            OSError: it cannot make children: no memory, processes or descriptors.
        """
        ordered_before = self.ordered > 0
        if not ordered_before:
            self.order(1, URGENT)
        try:
            message, fds = wire.receive(self.orders)
        except (ConnectionError, EOFError):
            self.alive = False
            raise EOFError from None
        except OSError:
            # Its descriptors were lost for want of room here: the child sees its socket closed and ends.
            self.ordered -= 1
            raise
        except BaseException:
            # Interrupted: whether a child was received and lost, nobody can tell. Begin anew next time.
            self.alive = False
            raise
        self.ordered -= 1
        fields = marshal.loads(message[1:])  # noqa: S302  (our zygote's message)
        if message[:1] == b"E":
            if ordered_before:
                # That was then, when spare children were ordered: perhaps there is room by now.
                return self.take()
            raise OSError(fields[0], f"the zygote could not fork a process: {fields[1]}")
        return Ready(fields, fds[0], wire.socket(fileno=fds[1]))

    def order(self, count: int, urgency: bytes = b"") -> None:
        """Order children from the zygote."""
        try:
            wire.send(self.orders, bytes([count]) + urgency)
        except ConnectionError:
            self.alive = False
            raise EOFError from None
        self.ordered += count

    def restock(self) -> None:
        """Order what is missing of the spare children."""
        if self.ordered < SPARE_CHILDREN:
            try:
                self.order(SPARE_CHILDREN - self.ordered)
            except EOFError:
                # Dead: the next launch starts another.
                return

    def told_exit_code(self, serial: int) -> int | None:
        """Return the exit code that a child, which has ended, has told on its line; None if it hasn't."""
        line = self.lines.pop(serial, None)
        if line is None:
            return None
        try:
            return wire.receive(line, wire.MSG_DONTWAIT)[0][0]
        except (OSError, EOFError):
            # It was ended by a signal, or by os._exit.
            return None
        finally:
            line.close()

    def reported_exit_code(self, serial: int) -> int | None:
        """Return the exit code of a child that has ended; None when the zygote died before it."""
        while serial not in self.exit_codes:
            if not self.read_report():
                return None
        return self.exit_codes.pop(serial)

    def read_report(self, flags: int = 0) -> bool:
        """Take in one report of the zygote; False when there is none, now or ever again."""
        try:
            message, _ = wire.receive(self.reports, flags)
        except (OSError, EOFError):
            return False
        serial, code = marshal.loads(message)  # noqa: S302  (our zygote's message)
        if serial in self.forgotten:
            self.forgotten.discard(serial)
            line = self.lines.pop(serial, None)
            if line is not None:
                line.close()
        else:
            self.exit_codes[serial] = code
        return True

    def forget(self, serial: int) -> None:
        """Keep no exit code for a child that nobody will ask about. Takes no lock: finalizers call it."""
        if self.exit_codes.pop(serial, None) is None:
            self.forgotten.add(serial)

    def leave_to_parent(self) -> None:
        """Close, in a forked process, the copies of what is the parent's."""
        self.let_go()
        self.hang_up()
        self.reports.close()
        if self.child is not None:
            self.child.close()

    def hang_up(self) -> None:
        """Close the lines, which kills the children, if they are this process's."""
        while self.lines:
            self.lines.popitem()[1].close()

    def __del__(self) -> None:
        """Close what is left open, when the last child's object is gone."""
        self.let_go()
        self.reports.close()

    def let_go(self) -> None:
        """Close the order socket: children that stand ready end, and the zygote goes."""
        self.alive = False
        self.orders.close()

    def bury(self, timeout_s: float) -> None:
        """Wait for the zygote to end, and make it after `timeout_s`."""
        self.let_go()
        if self.child is not None:
            if self.child.wait(timeout_s) is None:
                self.child.kill()
                self.child.wait()
            self.child.close()


class ZygoteChild(Child):
    """A child that the zygote has forked and reaps."""

    __slots__ = ("_serial", "_zygote")

    def __init__(self, ready: Ready, zygote: Zygote) -> None:
        super().__init__(ready.pid, ready.identity, ready.sentinel)
        self._serial = ready.serial
        self._zygote = zygote

    def _collect(self) -> int:
        zygote = self._zygote
        code = zygote.told_exit_code(self._serial)
        if code is None:
            # Zero may also mean that the kernel won't tell us; then the zygote has to.
            code = self._ask_kernel() or None
        if code is None:
            code = zygote.reported_exit_code(self._serial)
        else:
            zygote.forget(self._serial)
            while zygote.read_report(wire.MSG_DONTWAIT):
                # Nobody else may ever read them: they must not pile up.
                pass
        self._restock()
        return self._last_resort() if code is None else code

    def _restock(self) -> None:
        """Have the zygote replace a spare child, now that a processor is likely to be free for it."""
        if _lock.acquire(blocking=False):
            try:
                if self._zygote.alive:
                    self._zygote.restock()
            finally:
                _lock.release()

    def __del__(self) -> None:
        """Give the sentinel back, and the exit code that nobody has asked for."""
        if self._exit_code is None:
            self._zygote.forget(self._serial)
        super().__del__()


_lock = allocate_lock()
_zygote: Zygote | None = None
_preload: list[str] = []


def set_preload(modules: Sequence[str]) -> None:
    """Name modules for zygotes started from now on to import."""
    if not all(type(module) is str for module in modules):
        msg = "module_names must be a list of strings"
        raise TypeError(msg)
    _preload[:] = [module for module in modules if module != "__main__"]


def launch_forkserver(entry: str, payload: bytes, fds: Sequence[int], about: dict[str, Any]) -> Child:
    """Launch a process that the zygote has forked."""
    with _lock:
        for _ in range(ATTEMPTS):
            zygote = _ensure()
            try:
                ready = zygote.take()
            except EOFError:
                continue
            changes = surroundings.difference(zygote.base)
            try:
                send_request(ready.sock, (entry, payload, fds, about), changes)
            except BaseException as error:
                ready.discard()
                zygote.forget(ready.serial)
                if isinstance(error, ConnectionError):
                    # Killed while it stood ready.
                    continue
                raise
            zygote.lines[ready.serial] = ready.sock
            if not zygote.ordered:
                # Else the order waits for the end of a child: making one now would only be in its way.
                zygote.restock()
            return ZygoteChild(ready, zygote)
        raise OSError(errno.ECHILD, "the zygote process, which forks new ones, dies again and again")


def _ensure() -> Zygote:
    """Return the living zygote, starting one if there is none."""
    global _zygote  # noqa: PLW0603  (one per process is the meaning of it)
    if _zygote is not None and not _zygote.alive:
        _zygote.bury(STOP_TIMEOUT_S)
        _zygote = None
    if _zygote is None:
        _zygote = Zygote(_preload)
    return _zygote


def begin() -> None:
    """Start the zygote if there is none, and have it make first children, without waiting."""
    if _zygote is not None:
        return
    with _lock:
        zygote = _ensure()
        if not zygote.ordered:
            try:
                zygote.order(SPARE_CHILDREN, URGENT)
            except EOFError:
                # Dead already: the launch will say so.
                return


def warm_up() -> None:
    """Start the zygote and wait until children stand ready."""
    with _lock:
        zygote = _ensure()
        zygote.restock()
        is_readable(zygote.orders.fileno(), None)


def stop() -> None:
    """End the zygote and its spare children, and wait until they are gone."""
    global _zygote
    with _lock:
        found, _zygote = _zygote, None
        if found is not None:
            # Who was to be waited for has been; who still runs would be killed a moment later.
            found.hang_up()
            found.bury(STOP_TIMEOUT_S)


def _after_fork() -> None:
    """Start over in a forked process: the zygote is the parent's."""
    global _lock, _zygote  # noqa: PLW0603
    _lock = allocate_lock()
    found, _zygote = _zygote, None
    if found is not None:
        found.leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
exits.at_exit(stop, last=True)
