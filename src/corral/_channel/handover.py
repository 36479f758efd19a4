"""Hand descriptors to whoever receives what was pickled with them, at any time after a launch.

    sender                                           receiver
    offer(fds) -> ticket          -- in a pickle --> collect(ticket) -> fds
       |                                                |
       '-- a thread answers on a nameless socket <------'  SCM_RIGHTS, once per ticket

Role in the flow: connections (and queues) that travel through connections, queues and tasks name their
descriptors by ticket. What is encoded for a launch needs none of this (`corral._launch.passing`).
Runs in: any process, any thread; the answering thread lives while something is on offer, and a little longer.
Invariants:
    INV-HANDOVER-1: who asks must know the ticket: 128 random bits, good for one time.
    INV-HANDOVER-2: an offered descriptor is a copy: whoever offered it may close his own at once.
    INV-HANDOVER-3: a forked child keeps none of its parent's offers.
Failure: the offering process dies before the ticket is used: `collect` raises ConnectionRefusedError. One
that ends by itself waits for those who will come, but no longer than a second. What is never collected stays
open as long as the process lives.
See: docs/decisions/0015-a-socket-is-the-bell-of-a-pipe.md.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock
from fcntl import F_DUPFD_CLOEXEC, fcntl

from corral._launch import at_exit, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Ticket = tuple[bytes, bytes]

__all__ = ["collect", "offer"]

_TOKEN_BYTES = 16
_LINGER_MS = 200
_ANSWER_S = 5.0
_BACKLOG = 128
_PAUSE_S = 0.01
_FAREWELL_S = 1.0


class _Desk:
    """Where this process's offers are collected."""

    def __init__(self) -> None:
        self.offers: dict[bytes, list[int]] = {}
        self.listener = wire.listen(_BACKLOG)
        self.address: bytes = self.listener.getsockname()

    def serve(self) -> None:
        """Answer until nothing has been on offer for a while."""
        import select

        poller = select.poll()
        poller.register(self.listener, select.POLLIN)
        while True:
            try:
                if poller.poll(None if self.offers else _LINGER_MS):
                    self._answer()
                elif self._closes():
                    return
            except OSError:
                # Whoever asked is gone; or no descriptor is left to accept with, and none will be at once.
                select.select([], [], [], _PAUSE_S)

    def _closes(self) -> bool:
        global _desk  # noqa: PLW0603  (one desk per process)
        with _lock:
            if self.offers:
                return False
            _desk = None
            self.listener.close()
            return True

    def _answer(self) -> None:
        asker = wire.accept(self.listener)
        try:
            asker.settimeout(_ANSWER_S)
            fds = self.offers.pop(asker.recv(_TOKEN_BYTES), None)
            if fds is None:
                return
            try:
                wire.send(asker, b"fds", fds)
            finally:
                _close(fds)
        finally:
            asker.close()

    def abandon(self) -> None:
        """Let go of everything, in a forked child."""
        self.listener.close()
        for fds in self.offers.values():
            _close(fds)


_lock = RLock()
_desk: _Desk | None = None


def offer(fds: Sequence[int]) -> Ticket:
    """Keep copies of descriptors for whoever comes with the ticket.

    Raises:
        OSError: out of descriptors.
    """
    global _desk  # noqa: PLW0603
    at_exit(_see_off)
    copies = [fcntl(fd, F_DUPFD_CLOEXEC, 0) for fd in fds]
    token = os.urandom(_TOKEN_BYTES)
    with _lock:
        desk = _desk
        if desk is None:
            from threading import Thread

            desk = _desk = _Desk()
            desk.offers[token] = copies
            Thread(target=desk.serve, name="corral-handover", daemon=True).start()
        else:
            # Its thread polls the listener in any case, and stays when it finds an offer.
            desk.offers[token] = copies
    return desk.address, token


def collect(ticket: Ticket) -> list[int]:
    """Return the descriptors of a ticket; they belong to the caller, and the ticket is used up.

    Raises:
        ConnectionRefusedError: the process that offered them has ended, or somebody was here before.
    """
    address, token = ticket
    try:
        sock = wire.connect(address)
        try:
            wire.send(sock, token)
            return wire.receive(sock)[1]
        finally:
            sock.close()
    except (ConnectionError, EOFError) as error:
        raise ConnectionRefusedError(
            "its descriptors are gone: the process that sent it has ended, or it was received before"
        ) from error


def _see_off() -> None:
    """At exit, let those come for whom there is an offer."""
    from select import select
    from time import monotonic

    end = monotonic() + _FAREWELL_S
    while (desk := _desk) is not None and desk.offers and monotonic() < end:
        select([], [], [], _PAUSE_S)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)


def _after_fork() -> None:
    global _desk, _lock  # noqa: PLW0603
    _lock = RLock()
    if _desk is not None:
        _desk.abandon()
        _desk = None


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork)
