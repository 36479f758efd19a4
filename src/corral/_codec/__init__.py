"""Objects to frames and back: arguments, functions, buffers, failures.

Role in the flow: the parent encodes a call and defines its function; the worker installs, decodes, runs and
encodes the outcome.
Runs in: parent and worker, any thread.
"""

from __future__ import annotations

import itertools
from _pickle import dumps as _dumps
from _pickle import loads as _loads
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NamedTuple

    class Encoded(NamedTuple):
        """An object in transit: what to send inline, out of band, and beforehand."""

        payload: bytes
        buffers: list[object]
        needs: tuple[Group, ...]
else:
    Encoded = namedtuple("Encoded", "payload buffers needs")  # noqa: PYI024 - `typing` is slow to import

__all__ = [
    "Encoded",
    "Group",
    "bundle",
    "decode",
    "decode_failure",
    "define",
    "encode",
    "encode_failure",
    "install",
    "unbundle",
]

_numbers = itertools.count(1)


class Group:
    """A definition that is sent to each worker once: a function and what it needs."""

    __slots__ = ("blob", "needs", "number", "transient")

    def __init__(
        self, number: int, blob: bytes, needs: tuple[Group, ...] = (), *, transient: bool = False
    ) -> None:
        self.number = number
        self.blob = blob
        self.needs = needs
        self.transient = transient


def bundle(obj: object) -> bytes:
    """Encode `obj` with everything that it needs."""
    try:
        data = _dumps(obj, 5)
    except Exception:  # noqa: BLE001
        data = b"__main__"
    if b"__main__" in data:
        import cloudpickle

        try:
            data = cloudpickle.dumps(obj)
        except Exception as exc:
            from corral.errors import EncodeError

            raise EncodeError(str(exc)) from exc
    return bytes(data)


def unbundle(data: bytes | memoryview) -> object:
    """Rebuild what `bundle` encoded."""
    return _loads(data)


def encode(obj: object) -> Encoded:
    """Encode `obj`."""
    return Encoded(bundle(obj), [], ())


def decode(payload: bytes | memoryview, buffers: Sequence[object] = ()) -> object:
    """Rebuild what `encode` encoded."""
    return _loads(payload, buffers=buffers)


def define(fn: Callable[..., object]) -> Group:
    """Encode a function as a group of definitions."""
    return Group(next(_numbers), bundle(fn))


def install(number: int, blob: bytes | memoryview) -> object:
    """Load a group in a worker; returns its function."""
    return _loads(blob)


def encode_failure(exc: BaseException, phase: str) -> bytes:
    """Encode what a task raised."""
    import traceback

    text = "".join(traceback.format_exception(exc))
    exc.__traceback__ = None
    try:
        return _dumps((bundle(exc), text, phase))
    except Exception:  # noqa: BLE001
        return _dumps((bundle(RuntimeError(repr(exc))), text, phase))


def decode_failure(data: bytes | memoryview) -> BaseException:
    """Rebuild an exception; its cause is the worker's traceback."""
    from corral.errors import RemoteTraceback

    inner, text, _phase = _loads(data)
    exc = _loads(inner)
    exc.__cause__ = RemoteTraceback(text)
    return exc
