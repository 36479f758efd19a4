"""Have the named memory segments of this process tree unlinked when the tree has ended.

Role in the flow: `corral.shared_memory` tells what it creates; the `keeper` process, one per tree, started
by whoever needs it first, keeps the list.
Runs in: parent and child, any thread (one lock); a forked process has a line of its own.
Invariants:
    INV-SEG-1: a segment is kept before it has a name, so no kill leaves a name that nobody keeps.
    INV-SEG-2: what another tree has made is never this tree's to unlink.
Failure: a dead keeper is noticed at the next segment, or at the root's exit, and what this process has made
is kept anew, or unlinked. A keeper that cannot be started: `OSError`.
See: docs/decisions/0014-named-segments-have-a-keeper.md.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from _socket import AF_UNIX, SO_PEERCRED, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socket
from _thread import allocate_lock

from corral._launch import exits, spawn, tree
from corral._launch.ending import OwnChild
from corral._launch.keeper import GOODBYE, MESSAGE_BYTES, unlink_if_same
from corral._native import identity, identity_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable

    from corral._launch.keeper import Segment
else:
    # The built-in part alone: `signal` brings `enum` along, which costs more than all of this.
    import _signal

__all__ = ["connect", "forget", "keep"]

ANSWER_TIMEOUT_S = 30.0
"""How long a keeper may take to start, or to answer, on a machine that has much to do."""

ATTEMPTS = 5
PAUSE_S = 0.02
"""How often a keeper may turn out dead before a segment is refused, and how much longer to wait each time."""

BACKLOG = 128

_lock = allocate_lock()
_line: socket | None = None
_keeper: OwnChild | None = None
_mine: dict[bytes, set[Segment]] = {}
"""What this process has made, and not unlinked itself, by path."""


def keep(path: bytes, fd: int, give_name: Callable[[], None]) -> None:
    """Have the segment behind `fd` unlinked at the tree's end, if it has the name `path` then.

    `give_name` is called when that is sure, and may fail. (Under the lock: the keeper remembers one of each
    process that has no name yet.)

    Blocking: until the keeper has it; the first time in a tree, until the keeper has started.

    Raises:
        OSError: there is no keeper to be had.
    """
    found = os.fstat(fd)
    segment = (path, found.st_dev, found.st_ino)
    with _lock:
        for attempt in range(ATTEMPTS):
            try:
                _tell(_connected(), segment)
            except (ConnectionError, EOFError):
                # The keeper has ended, with its tree's root or by itself; or another process is starting it.
                _hang_up()
                time.sleep(attempt * PAUSE_S)
                continue
            except BaseException:
                # An answer that is still under way must not be taken for that to the next question.
                _hang_up()
                raise
            _mine.setdefault(path, set()).add(segment)
            give_name()
            return
    raise OSError(errno.ECHILD, "the process that keeps named memory segments dies again and again")


def forget(path: bytes) -> None:
    """Know that a segment was unlinked; the keeper sees that by itself."""
    _mine.pop(path, None)


def connect() -> None:
    """Have a line to the tree's keeper, starting it if there is none."""
    with _lock:
        _connected()


def _tell(line: socket, segment: Segment) -> None:
    """Tell the keeper of a segment and wait until it has it."""
    path, device, inode = segment
    message = b"%d %d %b" % (device, inode, path)
    if len(message) > MESSAGE_BYTES:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), os.fsdecode(path))
    line.send(message)
    if not line.recv(MESSAGE_BYTES):
        raise EOFError


def _connected() -> socket:
    """Return the line to the keeper; whoever dials anew tells again what this process has made."""
    global _line  # noqa: PLW0603  (one line per process is the meaning of it)
    if _line is not None:
        return _line
    root = tree.root()
    if identity_of(root[0]) != root[1]:
        # Its tree has ended without this process, which is the root of its own from now on.
        root = (os.getpid(), identity())
        tree.set_root(root)
    # Of the abstract name space: it is gone with the keeper. The user's number keeps users apart.
    address = f"\0corral-keeper-{os.getuid()}-{root[1]:x}"
    line = _dial(address) or _start(address, root[0])
    line.settimeout(ANSWER_TIMEOUT_S)
    if os.getpid() == root[0]:
        exits.at_exit(_take_leave, last=True)
    for segment in [segment for made in _mine.values() for segment in made]:
        _tell(line, segment)
    _line = line
    return line


def _dial(address: str) -> socket | None:
    """Return a line to the keeper that listens at `address`, if there is one."""
    line = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        line.connect(address)
        peer = line.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    except OSError:
        line.close()
        return None
    if int.from_bytes(peer[4:8], sys.byteorder) != os.getuid():
        line.close()
        raise PermissionError(errno.EPERM, "another user listens where this user's keeper of segments should")
    return line


def _start(address: str, root_pid: int) -> socket:
    """Start the tree's keeper, unless another process is faster; return a line to it."""
    global _keeper  # noqa: PLW0603  (the keeper that this process has started)
    server = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
    try:
        try:
            server.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            server.listen(BACKLOG)
            root_fd = os.pidfd_open(root_pid)
            try:
                _keeper = OwnChild(_start_program(server.fileno(), root_fd))
            finally:
                os.close(root_fd)
    finally:
        server.close()
    line = _dial(address)
    if line is None:
        raise ConnectionRefusedError(errno.ECONNREFUSED, "the keeper of named memory segments did not start")
    return line


def _start_program(server_fd: int, root_fd: int) -> int:
    """Start the keeper's interpreter: a session of its own, no output, deaf to what ends the others."""
    executable = spawn.get_executable()
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "keeper.py")
    closable, strays = spawn.inheritable_fds(server_fd)
    actions: list[tuple[object, ...]] = [
        (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0)
        for fd in range(3)
        if fd not in {server_fd, root_fd}
    ]
    # On themselves: that makes them survive the exec.
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (server_fd, root_fd)]
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in closable if fd != root_fd]
    return os.posix_spawn(
        executable,
        [executable, "-I", "-S", program, str(server_fd), str(root_fd), *map(str, strays)],
        os.environ,
        file_actions=actions,
        setsid=True,
        setsigmask=[_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP, _signal.SIGQUIT],
        setsigdef=[_signal.SIGCHLD],
    )


def _hang_up() -> None:
    """Let go of the line, and of the keeper if it has ended."""
    global _line
    found, _line = _line, None
    if found is not None:
        found.close()


def _take_leave() -> None:
    """Have all that is kept unlinked now, at the root's exit, and see the keeper off."""
    global _keeper  # noqa: PLW0603
    if os.getpid() != tree.root()[0]:
        # Forked from the root, and it is the root's to do.
        return
    with _lock:
        ends = False
        if _line is not None:
            try:
                _line.send(GOODBYE)
                # No answer: others that have made segments outlive us, and the keeper stays for them.
                ends = bool(_line.recv(1))
            except OSError:
                # It has died before us: then what it kept for us is ours to unlink.
                ends = True
            _hang_up()
        while _mine:
            for segment in _mine.popitem()[1]:
                unlink_if_same(segment)
        if _keeper is not None:
            if ends:
                _keeper.wait(ANSWER_TIMEOUT_S)
            _keeper.close()
            _keeper = None


def _after_fork() -> None:
    """Start over in a forked process: line and segments are the parent's, the keeper is the tree's."""
    global _lock, _keeper  # noqa: PLW0603
    _lock = allocate_lock()
    _mine.clear()
    _hang_up()
    if _keeper is not None:
        _keeper.close()
        _keeper = None


os.register_at_fork(after_in_child=_after_fork)
