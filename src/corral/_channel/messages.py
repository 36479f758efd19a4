"""Objects as messages: what queues and connections carry, for whoever may receive it.

Role in the flow: `corral.connection` and `corral.queues` encode here what they send, decode here what came.
Runs in: any process, any thread.
Invariants:
    INV-MESSAGE-1: a message is complete in itself: it carries the definitions that it needs, since nobody
        can say which of several receivers gets it.
Failure: what cannot be pickled raises EncodeError before anything is sent; what rebuilding raises is the
    receiver's to see as it is, as with the standard library.
"""

from __future__ import annotations

from _pickle import dumps, loads

from corral._codec._frames import is_plain
from corral._native import pickle_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _pickle import PickleBuffer
    from collections.abc import Sequence
    from typing import Any

    from typing_extensions import Buffer

    from corral._codec import Snapshot
    from corral._native import Block

__all__ = ["Encoder", "decode"]

_NO_BUFFERS: list[PickleBuffer] = []

_LONG_BYTES = 4000
"""With this many and a pickle's opcodes, bytes no longer lie in a channel itself, but in a block."""

_AS_BYTES = b"\x80\x05\x8c\x08builtins\x8c\x05bytes\x93\x97\x85R."
"""The pickle of what lies beside it: `bytes(buffer)`. Spares a copy, and `pickle` the work."""


class Encoder:
    """Encodes what one end sends; data globals of `__main__` travel as they were when it first met them.

    Any thread may use it. It is made at once and costs nothing until an object needs more than plain pickle.
    """

    __slots__ = ("_snapshot",)

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None

    def encode(self, obj: object) -> tuple[bytes, Sequence[Buffer]]:
        """Return the payload of a message, and the large buffers that travel beside it.

        Raises:
            EncodeError: names what cannot be pickled, and where in `obj` it is.
        """
        payload = pickle_plain(obj)
        if payload is not None:
            return payload, _NO_BUFFERS
        if type(obj) is bytes and len(obj) > _LONG_BYTES:
            return _AS_BYTES, (obj,)
        if is_plain(obj):
            return dumps(obj, 5), _NO_BUFFERS
        return self._encode_any(obj)

    def _encode_any(self, obj: object) -> tuple[bytes, Sequence[Buffer]]:
        from corral._codec import _groups

        snapshot = self._snapshot
        if snapshot is None:
            snapshot = self._snapshot = _groups.Snapshot()
        return _groups.encode_whole(obj, snapshot=snapshot, out_of_band=True)


def decode(message: bytes | Block) -> Any:
    """Rebuild the object in a message; arrays in a block are writable views that keep it."""
    if type(message) is bytes:
        if message[0]:
            return loads(message)
        return _decode_with_definitions(message, ())
    payload, *buffers = message.parts()  # type: ignore[union-attr]
    if len(payload) == len(_AS_BYTES) and payload == _AS_BYTES:
        return buffers[0].tobytes()
    if payload[0]:
        return loads(payload, buffers=buffers)
    return _decode_with_definitions(payload, buffers)


def _decode_with_definitions(payload: bytes | memoryview, buffers: Sequence[object]) -> Any:
    from corral._codec._install import after_prelude

    return loads(after_prelude(payload, upstream=False), buffers=buffers)
