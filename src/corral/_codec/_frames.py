"""Payloads: plain data by the shortest way, everything else by way of the groups.

Role in the flow: the first and the last thing that happens to a task's arguments and results.
Runs in: parent and worker, any thread.
Failure: what cannot be pickled raises EncodeError, what cannot be rebuilt DecodeError, at once and here.
"""

from __future__ import annotations

from _pickle import PickleBuffer, dumps, loads
from collections import namedtuple

from corral._native import pickle_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NamedTuple

    from corral._codec._groups import Snapshot
    from corral._codec._registry import Group

    class Encoded(NamedTuple):
        """An object in transit: what travels in the frame, out of band beside it, and ahead of it."""

        payload: bytes
        buffers: list[PickleBuffer]
        needs: tuple[Group, ...]
else:
    Encoded = namedtuple("Encoded", "payload buffers needs")  # noqa: PYI024 - `typing` is slow to import

_SCALARS = frozenset({int, float, bool, type(None), str})
_MAX_ITEMS = 32
_MAX_BYTES = 16 * 1024
_encoded = tuple.__new__


def is_plain(obj: object) -> bool:
    """Whether an object is small and nothing but built-in data, to a depth of two; False when in doubt."""
    kind = type(obj)
    if kind in _SCALARS:
        return True
    if kind is not tuple and kind is not list:
        return _is_plain_part(obj, kind)
    if len(obj) > _MAX_ITEMS:  # type: ignore[arg-type]
        return False
    for item in obj:  # type: ignore[attr-defined]
        kind = type(item)
        if kind not in _SCALARS and not _is_plain_part(item, kind):
            return False
    return True


def _is_plain_part(obj: Any, kind: type) -> bool:
    if kind is dict:
        return not obj or (
            len(obj) <= _MAX_ITEMS
            and _SCALARS.issuperset(map(type, obj))
            and _SCALARS.issuperset(map(type, obj.values()))
        )
    if kind is tuple or kind is list:
        return len(obj) <= _MAX_ITEMS and _SCALARS.issuperset(map(type, obj))
    return kind is bytes and len(obj) < _MAX_BYTES


def encode(obj: object, snapshot: Snapshot | None = None) -> Encoded:
    """Encode an object for a worker.

    Args:
        obj: What is to be sent.
        snapshot: The data globals as this worker's pool knows them; the process's own by default.

    Returns:
        The payload, its large buffers, and the groups that the worker must have installed before it decodes.

    Raises:
        EncodeError: Names what cannot be pickled, and where in `obj` it is.
    """
    payload = pickle_plain(obj)
    if payload is not None:
        return _encoded(Encoded, (payload, [], ()))
    if is_plain(obj):
        return _encoded(Encoded, (dumps(obj, 5), [], ()))
    from corral._codec import _groups

    return _encoded(Encoded, _groups.encode(obj, snapshot))


def encode_reply(obj: object) -> Encoded:
    """Encode an object for the process that started this one; never needs anything.

    Raises:
        EncodeError: Names what cannot be pickled, and where in `obj` it is.
    """
    payload = pickle_plain(obj)
    if payload is not None:
        return _encoded(Encoded, (payload, [], ()))
    if is_plain(obj):
        return _encoded(Encoded, (dumps(obj, 5), [], ()))
    from corral._codec import _groups

    return Encoded(*_groups.encode_whole(obj, reply=True), ())


def bundle(obj: object, snapshot: Snapshot | None = None) -> bytes:
    """Encode an object with all that it needs, for whoever may receive it.

    Without a snapshot, the data globals that its functions use are sent as they are now.

    Raises:
        EncodeError: Names what cannot be pickled, and where in `obj` it is.
    """
    if is_plain(obj):
        return dumps(obj, 5)
    from corral._codec import _groups

    return _groups.encode_whole(obj, snapshot=snapshot)[0]


def decode(payload: bytes | memoryview, buffers: Sequence[object] = (), *, upstream: bool = False) -> object:
    """Rebuild what `encode`, `encode_reply` or `bundle` encoded; arrays are views of `buffers`.

    `upstream` says that it comes from the process that started this one, as `install`'s groups do.

    Raises:
        DecodeError: Its cause is what rebuilding raised.
    """
    try:
        if payload[0] == 0:
            from corral._codec._install import after_prelude

            payload = after_prelude(payload, upstream=upstream)
        return loads(payload, buffers=buffers)
    except Exception as exc:
        from corral.errors import DecodeError

        raise DecodeError(f"cannot rebuild what arrived: {type(exc).__name__}: {exc}") from exc


def unbundle(data: bytes | memoryview, *, upstream: bool = False) -> object:
    """Rebuild what `bundle` encoded; `upstream` as for `decode`.

    Raises:
        DecodeError: Its cause is what rebuilding raised.
    """
    return decode(data, upstream=upstream)
