"""`multiprocessing.managers` on corral: objects in a server process, reached through proxies.

Borrowed on purpose: the standard library's module, run on corral's contexts, processes and connections.
Role in the flow: `corral.Manager()` starts a `SyncManager`, whose server is a process of the context's.
Runs in: any process that holds a manager or a proxy; the server in a child.
Failure: a server that is gone is a ConnectionError, EOFError or BrokenPipeError for who calls a proxy.
See: docs/decisions/0016-borrowed-modules-run-on-ours.md.
"""

from __future__ import annotations

from _pickle import PicklingError

from corral._channel.messages import Encoder
from corral._codec import decode
from corral.connection import Client, Listener
from corral.reduction import ForkingPickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.managers import BaseListProxy as BaseListProxy
    from multiprocessing.managers import BaseManager as BaseManager
    from multiprocessing.managers import BaseProxy as BaseProxy
    from multiprocessing.managers import DictProxy as DictProxy
    from multiprocessing.managers import ListProxy as ListProxy
    from multiprocessing.managers import Namespace as Namespace
    from multiprocessing.managers import RemoteError as RemoteError
    from multiprocessing.managers import Server as Server
    from multiprocessing.managers import SharedMemoryManager as SharedMemoryManager
    from multiprocessing.managers import SyncManager as SyncManager
    from multiprocessing.managers import Token as Token
    from multiprocessing.managers import ValueProxy as ValueProxy
    from typing import Any
else:
    from corral._borrowed import run_as

    run_as(globals(), "managers")


class _Line:
    """A connection with a server, or with a client, on which also what has no importable name is sent.

    What has one travels by the standard library's pickle alone, so that its programs can be at the other end.
    """

    __slots__ = ("__weakref__", "_connection", "_encoder")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._encoder = Encoder()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> _Line:  # noqa: PYI034  (final in all but name)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, obj: object) -> None:
        """Send an object; what belongs to `__main__` also by value: the receiver's own may not have it."""
        try:
            message = bytes(ForkingPickler.dumps(obj))
        except (AttributeError, PicklingError, TypeError):
            # Such as a lambda.
            message = b""
        if not message or b"__main__" in message:
            message = self._with_value(obj, message)
        self._connection.send_bytes(message)

    def _with_value(self, obj: object, by_name: bytes) -> bytes:
        try:
            payload, buffers = self._encoder.encode(obj)
        except PicklingError:
            if by_name:
                return by_name
            raise
        return bytes(ForkingPickler.dumps(_Twofold(by_name, payload, [bytearray(part) for part in buffers])))


class _Twofold:
    """Stands in a pickle for an object that was encoded twice; what arrives is the object."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: object) -> None:
        self._parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self._parts


def _rebuild(by_name: bytes, payload: bytes, buffers: list[bytearray]) -> object:
    """Return the object: of the receiver's own classes if it has them, else of those that came along."""
    if by_name:
        try:
            return ForkingPickler.loads(by_name)
        except AttributeError:
            # It is not in this process's `__main__`.
            pass
    return decode(payload, buffers)


class _Listener:
    """A listener whose connections are such lines."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._listener = Listener(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)

    def accept(self) -> _Line:
        """Wait for a client."""
        return _Line(self._listener.accept())


def _client(*args: Any, **kwargs: Any) -> _Line:
    """Connect to a server."""
    return _Line(Client(*args, **kwargs))


if not TYPE_CHECKING:
    globals()["listener_client"]["pickle"] = _Listener, _client


def all_methods(obj: object) -> list[str]:
    """Return the names of an object's methods: what has no value yet, such as a slot, is none."""
    return [name for name in dir(obj) if callable(getattr(obj, name, None))]
