"""Be the zygote: a warm, single-threaded process that forks children ready to be told what to run.

Role in the flow: `boot` calls `main`; `forkserver` in the parent sends orders and receives children and
exit codes; the children go on in `child.serve`.
Runs in: zygote, one thread only, for good: that is what makes its forks safe.
Invariants:
    INV-ZYG-1: a child's pidfd is opened before the child can be reaped.
    INV-ZYG-2: every child made is reported once, every end of a child is reported once.
    INV-ZYG-3: nothing here waits for the parent to read.
Failure: at the parent's death (its pidfd) the zygote kills its children and ends; when the parent closes
the order socket, the zygote ends after its children; those that wait for a request see theirs closed.
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import sys
from collections import deque

from corral._launch import child, line, surroundings, tree, wire
from corral._native import identity_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    # The built-in part alone: `signal` brings `enum` along, which costs a child more than its work.
    import _signal

__all__ = ["main"]

WARM = ("fcntl", "corral._codec._install", "corral._worker.loop", "corral.process", "corral.context")
"""What nearly every child needs, imported once for all of them. Nothing else: each page of the zygote's
memory makes every fork, and every exit, a little slower."""


def main(sock: wire.socket) -> NoReturn:
    """Set up as the parent says, then serve until the parent is gone."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])
    head, _, fds = wire.receive_parts(sock)
    config = marshal.loads(head)  # noqa: S302  (our parent's message)
    reports, parent_fd, heap_fd = fds
    surroundings.apply(config["surroundings"])
    # No collection while importing, and none over what is imported, ever: it stays shared with the children.
    gc.disable()
    # The last is not to be found: looking for it lists every folder of the path once for all children.
    for module in (*WARM, *config["preload"], "corral-looks-around"):
        _preload(module)
    tree.serve_as_zygote(heap_fd)
    gc.freeze()
    zygote = _Zygote(sock, wire.socket(fileno=reports), parent_fd)
    zygote.serve()
    # While `zygote` holds its sockets: they are the system's to close.
    os._exit(0)


def _preload(module: str) -> None:
    """Import a module if it is there; a child that needs it will say what is wrong with it."""
    try:
        __import__(module)
    except ImportError:
        return
    except Exception:
        sys.excepthook(*sys.exc_info())


class _Outbox:
    """Messages for the parent on one socket, sent in order as it has room for them."""

    def __init__(self, sock: wire.socket, epoll: select.epoll) -> None:
        self.sock = sock
        self.epoll = epoll
        self.unsent: deque[tuple[bytes, list[int]]] = deque()
        self.waits_for_room = False
        epoll.register(sock.fileno(), select.EPOLLIN)

    def put(self, message: bytes, fds: list[int]) -> None:
        """Send a message now or later; takes over the descriptors."""
        self.unsent.append((message, fds))
        self.flush()

    def flush(self) -> None:
        """Send what the parent has room for."""
        full = False
        while self.unsent and not full:
            message, fds = self.unsent[0]
            try:
                wire.send(self.sock, message, fds, wire.MSG_DONTWAIT)
            except BlockingIOError:
                full = True
                break
            except ConnectionError:
                # The parent is gone; the next event says so.
                pass
            except OSError as error:
                # Too many descriptors on their way: the child whose they were ends by itself.
                self.unsent.append((_refusal(error), []))
            self.unsent.popleft()
            _close(fds)
        if full != self.waits_for_room:
            self.waits_for_room = full
            self.epoll.modify(self.sock.fileno(), select.EPOLLIN | (select.EPOLLOUT if full else 0))

    def close(self) -> None:
        """Close what is the zygote's, in a child."""
        self.sock.close()
        for _, fds in self.unsent:
            _close(fds)


class _Zygote:
    """The zygote's state: its children by pidfd, and what the parent has yet to be told."""

    def __init__(self, orders: wire.socket, reports: wire.socket, parent_fd: int) -> None:
        self.parent_fd = parent_fd
        self.running: dict[int, tuple[int, int]] = {}  # pidfd: (serial, pid)
        self.serial = 0
        # What a warm module offers to have its memory touched before a request comes, and not after.
        self.rehearsals = [
            prepare()
            for module in WARM
            if (prepare := getattr(sys.modules.get(module), "_prepare_rehearsal", None)) is not None
        ]
        self.epoll = select.epoll()
        self.epoll.register(parent_fd, select.EPOLLIN)
        self.orders = _Outbox(orders, self.epoll)
        self.reports = _Outbox(reports, self.epoll)

    def serve(self) -> None:
        """Carry out orders until the parent takes leave; then wait for the children, if it still lives."""
        orders, reports = self.orders.sock.fileno(), self.reports.sock.fileno()
        taking_orders = True
        while taking_orders or self.running:
            for fd, event in self.epoll.poll():
                if fd == self.parent_fd:
                    self.kill_all()
                    return
                if fd == orders:
                    self.orders.flush()
                    if not self.take_order():
                        taking_orders = False
                        self.epoll.unregister(orders)
                elif fd != reports:
                    self.reap(fd)
                elif event & (select.EPOLLHUP | select.EPOLLERR):
                    return
                else:
                    self.reports.flush()

    def take_order(self) -> bool:
        """Carry out one order, if there is one; False when the parent has closed the socket."""
        try:
            order, _ = wire.receive(self.orders.sock, wire.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except (EOFError, ConnectionError):
            return False
        for _ in range(order[0]):
            self.make(rehearse=len(order) == 1)
        return True

    def make(self, *, rehearse: bool) -> None:
        """Fork a child that waits for a request, and tell the parent of it."""
        fds: list[int] = []
        try:
            ours, theirs = wire.pair()
            fds.append(ours.detach())
            try:
                pid = os.fork()
                if pid == 0:
                    self.become_child(theirs, fds[0], rehearse=rehearse)
            finally:
                theirs.close()
            pidfd = os.pidfd_open(pid)
            self.serial += 1
            self.running[pidfd] = (self.serial, pid)
            self.epoll.register(pidfd, select.EPOLLIN)
            fds.insert(0, os.dup(pidfd))
        except OSError as error:
            _close(fds)
            self.orders.put(_refusal(error), [])
        else:
            self.orders.put(b"C" + marshal.dumps((self.serial, pid, identity_of(pid))), fds)

    def become_child(self, sock: wire.socket, parents_end: int, *, rehearse: bool) -> NoReturn:
        """Let go of what is the zygote's and wait for the parent's request."""
        os.close(parents_end)
        self.epoll.close()
        self.orders.close()
        self.reports.close()
        _close(list(self.running))
        gc.enable()
        tree.leave_zygote()
        tree.set_parent(self.parent_fd)
        line.prepare(sock)
        if rehearse:
            child.rehearse()
            for play in self.rehearsals:
                play()
        child.serve(sock)

    def kill_all(self) -> None:
        """Kill all children: their parent is dead."""
        for pidfd in self.running:
            try:  # noqa: SIM105  (contextlib costs an import)
                _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
            except OSError:
                # It has ended, or become another user's, whose line ends it.
                pass

    def reap(self, pidfd: int) -> None:
        """Report how a child has ended."""
        serial, pid = self.running.pop(pidfd)
        status = os.waitpid(pid, 0)[1]
        self.epoll.unregister(pidfd)
        os.close(pidfd)
        self.reports.put(marshal.dumps((serial, os.waitstatus_to_exitcode(status))), [])


def _refusal(error: OSError) -> bytes:
    """Return the message that there is no child, and why."""
    return b"E" + marshal.dumps((error.errno, str(error.strerror)))


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
