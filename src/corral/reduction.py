"""`multiprocessing.reduction` on corral: the pickler with reducers of its own, and descriptors on their way.

Role in the flow: libraries register here, or at the standard library's `ForkingPickler`, how their objects
travel between processes; `_codec` and both picklers honour either.
Runs in: any process, any thread.
Invariants:
    INV-RED-1: one table of reducers for both worlds, in whichever order the two modules are loaded.
Failure: a descriptor that was announced and does not come is EOFError or RuntimeError, never a wrong number.
"""

# ruff: noqa: N802, A002  (the standard library's names)

from __future__ import annotations

import array
import copyreg
import io
import os
import pickle
import socket

from corral import context
from corral._launch import neighbour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import IO, Any, Protocol

    class _HasFileno(Protocol):
        def fileno(self) -> int: ...

    class _Detachable(Protocol):
        def detach(self) -> int: ...


__all__ = [
    "AbstractReducer",
    "DupFd",
    "ForkingPickler",
    "dump",
    "recv_handle",
    "recvfds",
    "register",
    "send_handle",
    "sendfds",
]

HAVE_SEND_HANDLE = True


class ForkingPickler(pickle.Pickler):
    """A pickler that knows the reducers registered with it, or with the standard library's class."""

    _extra_reducers: dict[type, Callable[[Any], Any]] = {}  # noqa: RUF012  (one for all, on purpose)
    _copyreg_dispatch_table = copyreg.dispatch_table

    def __init__(self, file: IO[bytes], protocol: int | None = None, **options: Any) -> None:
        super().__init__(file, protocol, **options)
        self.dispatch_table = {**self._copyreg_dispatch_table, **self._extra_reducers}

    @classmethod
    def register(cls, type: type, reduce: Callable[[Any], Any]) -> None:
        """Have objects of exactly this type pickled as `reduce(obj)` says, in the manner of `__reduce__`."""
        cls._extra_reducers[type] = reduce

    @classmethod
    def dumps(cls, obj: object, protocol: int | None = None) -> memoryview:
        """Pickle an object.

        Raises:
            pickle.PicklingError: it cannot be pickled.
        """
        file = io.BytesIO()
        cls(file, protocol).dump(obj)
        return file.getbuffer()

    loads = staticmethod(pickle.loads)


register = ForkingPickler.register


def dump(obj: object, file: IO[bytes], protocol: int | None = None) -> None:
    """Pickle an object into a file with `ForkingPickler`."""
    ForkingPickler(file, protocol).dump(obj)


# --- descriptors ----------------------------------------------------------------------------------


def sendfds(sock: socket.socket, fds: Iterable[int]) -> None:
    """Send descriptors over a Unix socket."""
    numbers = array.array("i", fds)
    # The count, as the standard library's receiving end checks it.
    sock.sendmsg([bytes([len(numbers) % 256])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])


def recvfds(sock: socket.socket, size: int) -> list[int]:
    """Receive at most `size` descriptors over a Unix socket; they belong to the caller.

    Raises:
        EOFError: the other end is closed.
        RuntimeError: what came was not descriptors, or not all of those that were sent.
    """
    numbers = array.array("i")
    message, ancillary, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(size * numbers.itemsize))
    if not message and not ancillary:
        raise EOFError
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    if len(numbers) == 0 or len(numbers) % 256 != message[0]:
        for fd in numbers:
            os.close(fd)
        raise RuntimeError(f"received {len(numbers)} descriptors where {message[0]} were announced")
    return list(numbers)


def send_handle(conn: _HasFileno, handle: int, destination_pid: int | None) -> None:
    """Send a descriptor over a connection that is a Unix socket."""
    del destination_pid
    with socket.fromfd(conn.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sendfds(sock, [handle])


def recv_handle(conn: _HasFileno) -> int:
    """Receive a descriptor over a connection that is a Unix socket; it belongs to the caller."""
    with socket.fromfd(conn.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        return recvfds(sock, 1)[0]


def DupFd(fd: int) -> _Detachable:
    """Return what stands for a descriptor in a pickle: a launch's, or any other while this process lives."""
    launch = context.get_spawning_popen()
    if launch is not None:
        announced: _Detachable = launch.DupFd(launch.duplicate_for_child(fd))
        return announced
    from corral import resource_sharer

    return resource_sharer.DupFd(fd)


# --- what pickle does not know --------------------------------------------------------------------


def reduce_socket(sock: socket.socket) -> Any:
    """Say how a socket is pickled: as a descriptor, and what kind of socket it is."""
    return _rebuild_socket, (DupFd(sock.fileno()), sock.family, sock.type, sock.proto)


def _rebuild_socket(descriptor: _Detachable, family: int, type: int, proto: int) -> socket.socket:
    return socket.socket(family, type, proto, fileno=descriptor.detach())


class AbstractReducer:
    """What a context's `reducer` offers; a base for one that replaces it."""

    ForkingPickler = ForkingPickler
    register = staticmethod(register)
    dump = staticmethod(dump)
    send_handle = staticmethod(send_handle)
    recv_handle = staticmethod(recv_handle)
    sendfds = staticmethod(sendfds)
    recvfds = staticmethod(recvfds)
    DupFd = staticmethod(DupFd)


def _share_reducers(theirs: Any) -> None:
    """Have one table of reducers for both classes; where both know a type, the one registered by others."""
    table = theirs.ForkingPickler._extra_reducers  # noqa: SLF001
    for kind, reduce in ForkingPickler._extra_reducers.items():  # noqa: SLF001
        table.setdefault(kind, reduce)
    ForkingPickler._extra_reducers = table  # noqa: SLF001


register(socket.socket, reduce_socket)
neighbour.when_loaded("multiprocessing.reduction", _share_reducers)
