"""Pipes and connections: `multiprocessing.connection` on shared memory.

    Connection.send --> _encode --> channel (shared memory) --> _decode --> Connection.recv
                             + a byte in a socket, if the receiver sleeps or is watched from outside

Role in the flow: users and `corral.context` make pipes here; `corral._channel` encodes, `corral._native`
carries. `Listener` and `Client` are the standard library's, but a client has only so long to authenticate.
Runs in: any process, any thread; an end may be used in several at once.
Invariants:
    INV-CONN-1: an end is its two descriptors, socket and heap; who has them has the end, and when all copies
        of the socket are closed, kills included, the peer reads the end of the file.
    INV-CONN-2: once `fileno()` was asked for, it is readable if and only if `recv` would not wait.
Failure: EOFError and BrokenPipeError as with the standard library; a kill within `send` or `recv` costs at
most that message.
See: docs/reference/connection.md, docs/decisions/0015-a-socket-is-the-bell-of-a-pipe.md.
"""

from __future__ import annotations

import os
import sys

from corral._channel.messages import Encoder, decode
from corral._launch import passing, sharing
from corral._native import Heap, PipeEnd, create_pipe, notice_child_death

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import TracebackType
    from typing import Any

    from typing_extensions import Buffer

    from corral._channel.handover import Ticket
    from corral._native import Block

__all__ = ["Client", "Connection", "Listener", "Pipe", "wait"]

_CAPACITY_BYTES = 1 << 20
"""What may be unread before `send` waits; one message may be longer."""

_RESERVE_BYTES = 16 << 30
"""Address space of a pipe: costs nothing until it is used, and bounds the largest message."""

_SPIN_US = 100
"""As in pools: more than two wake-ups on another processor take."""

_AUTHENTICATION_S = 10.0
"""A client that says nothing for so long is not waited for."""

_STDLIB = "multiprocessing.connection"
_BORROWED = frozenset(
    {
        "AuthenticationError",
        "BufferTooShort",
        "CHALLENGE",
        "FAILURE",
        "WELCOME",
        "XmlClient",
        "XmlListener",
        "address_type",
        "answer_challenge",
        "arbitrary_address",
        "default_family",
        "deliver_challenge",
        "families",
    }
)


class _Kind(type):
    """Makes `isinstance(c, Connection)` true for the standard library's, which `Listener` gives."""

    def __instancecheck__(cls, instance: object) -> bool:
        if type.__instancecheck__(cls, instance):
            return True
        theirs = sys.modules.get(_STDLIB)
        return theirs is not None and isinstance(instance, theirs.Connection)


class Connection(PipeEnd, metaclass=_Kind):
    """One end of a pipe; `Pipe` makes two.

    Any thread may use it, and any process that has inherited or received it: messages of several senders
    don't mix, and each is received once. It can be sent through connections, queues, tasks and to processes,
    the standard library's included.

    `Connection(handle)` wraps a descriptor with a stream behind it, as the standard library's does.
    """

    _encoder: Encoder

    def __new__(cls, handle: int, readable: bool = True, writable: bool = True) -> Connection:  # noqa: PYI034
        """Wrap a descriptor; it is the standard library's kind that can."""
        theirs: Any = _stdlib().Connection(handle, readable, writable)
        return theirs  # type: ignore[no-any-return]

    def _encode(self, obj: object) -> tuple[bytes, Sequence[Buffer]]:
        """Encode what `send` does not write by itself."""
        try:
            encoder = self._encoder
        except AttributeError:
            encoder = self._encoder = Encoder()
        return encoder.encode(obj)

    _decode = staticmethod(decode)

    @staticmethod
    def _flatten(block: Block) -> bytes:
        """Return a large message as the bytes that `recv_bytes` gives; an object as one pickle."""
        payload, *buffers = block.parts()
        if not buffers:
            return payload.tobytes()
        from _pickle import dumps

        return dumps(decode(block), 5)

    def recv_bytes_into(self, buf: Any, offset: int = 0) -> int:
        """Receive a message of `send_bytes` into a writable buffer, from byte `offset`; return its length.

        Raises:
            BufferTooShort: it does not fit; the message is its argument.
            EOFError: there is none, and the other end is closed.
            ValueError: the offset lies outside the buffer.
        """
        with memoryview(buf) as view, view.cast("B") as room:
            if self.closed or not self.readable:
                self.poll()  # which says why not
            if room.readonly:
                raise TypeError("a writable buffer is needed")
            if offset < 0:
                raise ValueError("negative offset")
            if offset > len(room):
                raise ValueError("offset too large")
            message = self.recv_bytes()
            end = offset + len(message)
            if end > len(room):
                from multiprocessing.context import BufferTooShort

                raise BufferTooShort(message)
            room[offset:end] = message
            return len(message)

    def __enter__(self) -> Connection:  # noqa: PYI034  (final in all but name)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        heap_fd, ref, side = self.whereabouts()
        fds = (heap_fd, self.socket_fileno())
        launch = passing.current()
        if launch is not None:
            return _arrive, (tuple([launch.DupFd(fd) for fd in fds]), ref, side)
        popen = sharing.foreign_launch()
        if popen is not None:
            kept = [popen.DupFd(popen.duplicate_for_child(fd)) for fd in fds]
            return _arrive, (tuple(kept), ref, side)
        from corral._channel import handover

        return _collect, (handover.offer(fds), ref, side)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"socket {self.socket_fileno()}"
        return f"<{type(self).__module__}.{type(self).__qualname__}, {state}>"


def Pipe(duplex: bool = True) -> tuple[Connection, Connection]:  # noqa: N802  (the standard library's name)
    """Make a pipe.

    Args:
        duplex: messages go both ways; else from the second end to the first.

    Returns:
        The two ends. What is sent at one waits in shared memory, at most 1 MiB or a single message of any
        length, until it is received at the other; `send` waits for room.

    Raises:
        OSError: out of descriptors (a pipe takes three).
    """
    heap = Heap.create(_RESERVE_BYTES)
    ref, *sockets = create_pipe(heap, duplex, _CAPACITY_BYTES)
    try:
        return _attach(heap, ref, 0, sockets[0]), _attach(heap, ref, 1, sockets[1])
    finally:
        for fd in sockets:
            os.close(fd)


def _attach(heap: Heap, ref: int, side: int, fd: int) -> Connection:
    """Make the object of an end; `fd` stays the caller's."""
    end = PipeEnd.__new__(Connection, heap, ref, side, fd, _spin_us())
    sharing.register(heap)
    sharing.register(_obituary)
    return end


def _arrive(fds: Iterable[Any], ref: int, side: int) -> Connection:
    """Rebuild an end in the process that was launched with it."""
    return _adopt([fd.detach() for fd in fds], ref, side)


def _collect(ticket: Ticket, ref: int, side: int) -> Connection:
    """Rebuild an end whose descriptors wait in the process that sent it."""
    from corral._channel import handover

    return _adopt(handover.collect(ticket), ref, side)


def _adopt(fds: list[int], ref: int, side: int) -> Connection:
    try:
        heap_fd, socket_fd = fds
        return _attach(Heap.attach(heap_fd), ref, side, socket_fd)
    finally:
        for fd in fds:
            os.close(fd)


class _Obituary:
    """Hears of children's deaths, as heaps do: one of them may have held the last copy of a peer."""

    __slots__ = ("__weakref__",)

    def recover(self, _identity: int) -> int:
        notice_child_death()
        return 0


_obituary = _Obituary()
_spin: int | None = None


def _spin_us() -> int:
    """Return how long to spin for a message: not at all where there is one processor."""
    global _spin  # noqa: PLW0603  (looked up once)
    if _spin is None:
        from corral._launch.cpus import available_cpus

        _spin = _SPIN_US if available_cpus() > 1 else 0
    return _spin


# --- waiting for several ---------------------------------------------------------------------------

_FIRST_NAP_S = 0.005
_LONGEST_NAP_S = 0.1


def wait(object_list: Iterable[Any], timeout: float | None = None) -> list[Any]:
    """Wait until some of the objects are ready to be read, at most `timeout` seconds; return these.

    Args:
        object_list: connections of ours and of the standard library, sockets, sentinels of processes, numbers
            of descriptors, and whatever else has a `fileno()`.
        timeout: None: without an end; zero or less: only look.

    Blocking: without the GIL; signals' handlers run.
    """
    from select import POLLIN, poll
    from time import monotonic

    objects = list(object_list)
    end = None if timeout is None else monotonic() + timeout
    poller = poll()
    ours = [item for item in objects if isinstance(item, PipeEnd)]
    for item in objects:
        poller.register(item.socket_fileno() if isinstance(item, PipeEnd) else item, POLLIN)
    nap = _FIRST_NAP_S
    while True:
        found = {id(item) for item in ours if item.prepare_wait()}
        left = 0.0 if found else (None if end is None else max(0.0, end - monotonic()))
        span = left
        if ours and (left is None or left > nap):
            # Whoever was to wake us may have been killed before it did.
            span = nap
            nap = min(nap * 4, _LONGEST_NAP_S)
        readable = {fd for fd, _ in poller.poll(None if span is None else span * 1000)}
        ready = [item for item in objects if id(item) in found or _is_ready(item, readable)]
        if ready or left == 0.0:
            return ready


def _is_ready(item: Any, readable: set[int]) -> bool:
    if isinstance(item, PipeEnd):
        return item.socket_fileno() in readable and item.poll(0)
    return (item if isinstance(item, int) else item.fileno()) in readable


# --- listeners and clients -------------------------------------------------------------------------


class Listener:
    r"""Listens for clients, on a name or a port; for a `with` block.

    Args:
        address: a path, an abstract name ("\0..."), or a pair of host and port; by default one is made up.
        family: "AF_UNIX" or "AF_INET"; by default that of the address.
        backlog: how many clients may wait to be accepted.
        authkey: clients have to know it, bytes; None lets anybody in who can connect.

    Raises:
        OSError: the address cannot be bound to.
        TypeError: the key is no bytes.
        ValueError: the address or family is of no known kind.
    """

    def __init__(
        self,
        address: Any = None,
        family: str | None = None,
        backlog: int = 1,
        authkey: bytes | None = None,
    ) -> None:
        if authkey is not None and not isinstance(authkey, bytes):
            raise TypeError("authkey should be a byte string")
        self._listener: Any = _stdlib().Listener(address, family, backlog)
        self._authkey = authkey

    def accept(self) -> Any:
        """Wait for a client and return the connection with it.

        Raises:
            AuthenticationError: the client has not shown that it knows the key: a wrong key, something else
                than an answer, no answer in ten seconds, or it is gone. The listener goes on.
            OSError: the listener is closed.
        """
        connection = self._listener.accept()
        if self._authkey is not None:  # an empty key is one, too: the client expects to be asked
            try:
                _authenticate(connection, self._authkey)
            except BaseException:
                connection.close()
                raise
        return connection

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    @property
    def address(self) -> Any:
        """The address that clients connect to."""
        return self._listener.address

    @property
    def last_accepted(self) -> Any:
        """The address of the client that was accepted last, if it has one."""
        return self._listener.last_accepted

    def __enter__(self) -> Listener:  # noqa: PYI034  (final in all but name)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def Client(address: Any, family: str | None = None, authkey: bytes | None = None) -> Any:  # noqa: N802
    """Connect to a listener and return the connection.

    Args:
        address: as the listener's.
        family: by default that of the address.
        authkey: the key that the listener asks for, bytes.

    Raises:
        AuthenticationError: the listener's key is another one.
        OSError: nobody listens there.

    Blocking: until the listener accepts, if there is a key.
    """
    return _stdlib().Client(address, family, authkey)


def _authenticate(connection: Any, key: bytes) -> None:
    """Have a client show that it knows the key, and show the same to it."""
    theirs = _stdlib()
    limit = _TimeLimit(connection.fileno())
    try:
        theirs.deliver_challenge(connection, key)
        theirs.answer_challenge(connection, key)
    except theirs.AuthenticationError:
        raise
    except (EOFError, OSError, ValueError, AssertionError) as error:
        what = f"the client did not authenticate itself: {type(error).__name__}: {error}"
        raise theirs.AuthenticationError(what) from error
    finally:
        limit.lift()


class _TimeLimit:
    """A limit on each read from a socket and each write to it, which the kernel keeps."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._set(_AUTHENTICATION_S)

    def lift(self) -> None:
        """Let reads and writes wait as long as they like."""
        self._set(0)

    def _set(self, seconds: float) -> None:
        import socket
        import struct

        span = struct.pack("@ll", int(seconds), int(seconds % 1 * 1_000_000))
        with socket.socket(fileno=os.dup(self._fd)) as sock:
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                sock.setsockopt(socket.SOL_SOCKET, option, span)


def _stdlib() -> Any:
    """Return the standard library's module, which costs as much to import as all of ours."""
    __import__(_STDLIB)
    return sys.modules[_STDLIB]


def __getattr__(name: str) -> object:
    """Borrow what has to do with listeners and their wire from the standard library, when first used."""
    if name not in _BORROWED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=__name__)
    value: object = getattr(_stdlib(), name)
    globals()[name] = value
    return value
