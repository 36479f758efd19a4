"""Carry launch messages, with descriptors, over a unix socket pair.

Role in the flow: `forkserver` and `spawn` send with it, `zygote` and `child` receive.
Runs in: parent, zygote and child, any thread; it holds no state.
Invariants:
    INV-WIRE-1: a message either arrives whole with all its descriptors or `receive` raises.
    INV-WIRE-2: every descriptor made here is close-on-exec.
Failure: a dead peer shows as `EOFError` (receive) or `OSError` EPIPE/ECONNRESET (send).

Only built-in modules are imported: `socket` and `subprocess` would cost a spawned child more
than its own start.
"""

from __future__ import annotations

import errno
import os
import sys
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_PEEK,
    SCM_RIGHTS,
    SOCK_SEQPACKET,
    SOL_SOCKET,
    socket,
    socketpair,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from mmap import mmap

__all__ = [
    "MSG_DONTWAIT",
    "accept",
    "connect",
    "is_closed",
    "listen",
    "pair",
    "receive",
    "receive_parts",
    "send",
    "send_parts",
    "socket",
]

INLINE_BYTES = 1 << 16
"""Above this a message travels as a memory file: it must fit the socket's buffer with room to spare."""

MESSAGE_BYTES = INLINE_BYTES + 64

FDS_PER_MESSAGE = 250
"""The kernel takes 253 descriptors in one message."""

FD_BYTES = 4


def pair() -> tuple[socket, socket]:
    """Make two connected sockets that keep message boundaries."""
    return socketpair(AF_UNIX, SOCK_SEQPACKET)


def listen(backlog: int) -> socket:
    """Make a socket, under a name that the kernel chooses, to which others connect."""
    sock = socket(AF_UNIX, SOCK_SEQPACKET)
    try:
        sock.bind(b"")
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def accept(listener: socket) -> socket:
    """Take the next connection of a listening socket, waiting for it."""
    # The built-in class has no method that makes another of its kind.
    fd, _ = listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
    return socket(AF_UNIX, SOCK_SEQPACKET, 0, fd)


def connect(address: bytes) -> socket:
    """Connect to a listening socket."""
    sock = socket(AF_UNIX, SOCK_SEQPACKET)
    try:
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def send(sock: socket, message: bytes, fds: Sequence[int] = (), flags: int = 0) -> None:
    """Send one message with its descriptors."""
    if fds:
        packed = b"".join([fd.to_bytes(FD_BYTES, sys.byteorder) for fd in fds])
        sock.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, packed)], flags | MSG_NOSIGNAL)
    else:
        sock.sendmsg([message], (), flags | MSG_NOSIGNAL)


def receive(sock: socket, flags: int = 0) -> tuple[bytes, list[int]]:
    """Receive one message and its descriptors.

    Raises:
        EOFError: the peer has closed its end or is dead.
        OSError: EMFILE when this process has no room for the descriptors.
    """
    message, controls, got, _ = sock.recvmsg(
        MESSAGE_BYTES, CMSG_SPACE(FDS_PER_MESSAGE * FD_BYTES), flags | MSG_CMSG_CLOEXEC
    )
    fds = [
        int.from_bytes(packed[at : at + FD_BYTES], sys.byteorder)
        for _, _, packed in controls
        for at in range(0, len(packed), FD_BYTES)
    ]
    if got & MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise OSError(errno.EMFILE, "no file descriptor left to receive those of a new process")
    if not message:
        raise EOFError("the peer has closed the launch socket")
    return message, fds


def is_closed(sock: socket) -> bool:
    """Tell whether the peer has closed its end; what it has sent is left there."""
    try:
        return not sock.recv(1, MSG_DONTWAIT | MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def send_parts(sock: socket, head: bytes, body: bytes, fds: Sequence[int]) -> None:
    """Send a head and a body of any size, and any number of descriptors, as one launch request."""
    fds = list(fds)
    count = len(fds).to_bytes(4, "little")
    prefix = len(head).to_bytes(4, "little") + count
    if len(head) + len(body) <= INLINE_BYTES:
        send(sock, b"I" + prefix + head + body, fds[:FDS_PER_MESSAGE])
        _send_fds(sock, fds[FDS_PER_MESSAGE:])
        return
    memory = _memory_file(head, body)
    try:
        send(sock, b"M" + prefix, [memory, *fds[: FDS_PER_MESSAGE - 1]])
        _send_fds(sock, fds[FDS_PER_MESSAGE - 1 :])
    finally:
        os.close(memory)


def receive_parts(sock: socket) -> tuple[bytes | memoryview, bytes | memoryview, list[int]]:
    """Receive what `send_parts` sent: head, body and descriptors."""
    message, fds = receive(sock)
    head_bytes = int.from_bytes(message[1:5], "little")
    expected = int.from_bytes(message[5:9], "little")
    data = message[9:] if message[:1] == b"I" else memoryview(_map(fds.pop(0)))
    while len(fds) < expected:
        fds += receive(sock)[1]
    return data[:head_bytes], data[head_bytes:], fds


def _send_fds(sock: socket, fds: Sequence[int]) -> None:
    """Send the descriptors that did not fit the first message."""
    for at in range(0, len(fds), FDS_PER_MESSAGE):
        send(sock, b"F", fds[at : at + FDS_PER_MESSAGE])


def _memory_file(head: bytes, body: bytes) -> int:
    """Write a request that is too large for the socket into an anonymous memory file.

    It lives as long as somebody holds the descriptor, so whoever dies on the way, nothing leaks.
    """
    fd = os.memfd_create("corral-launch", os.MFD_CLOEXEC)
    try:
        for part in (head, body):
            rest = memoryview(part)
            while rest:
                rest = rest[os.write(fd, rest) :]
    except BaseException:
        os.close(fd)
        raise
    return fd


def _map(fd: int) -> mmap:
    """Map a memory file and close its descriptor; views of the mapping keep it alive."""
    from mmap import MAP_PRIVATE, mmap

    try:
        return mmap(fd, 0, flags=MAP_PRIVATE)
    finally:
        os.close(fd)
