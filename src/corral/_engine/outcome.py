"""What a settling frame says, as Python objects."""

from __future__ import annotations

from _pickle import loads

from corral._channel import wire
from corral._codec import decode, decode_failure
from corral._engine.interrupts import hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from corral._native import Block


def load(body: bytes | Block) -> Any:
    """Decode a frame's body, inline or block; buffers in a block become views of it."""
    if type(body) is bytes:
        return decode(body)
    parts = body.parts()  # type: ignore[union-attr]
    return decode(parts[0], parts[1:])


def raw(body: bytes | Block) -> bytes | memoryview:
    """A frame's body as it is."""
    return body if type(body) is bytes else body.parts()[0]  # type: ignore[union-attr]


def failure(body: bytes | Block) -> BaseException:
    """Decode the failure in a frame's body."""
    return decode_failure(raw(body))


def call_outcome(kind: int, body: bytes | Block) -> tuple[Any, BaseException | None]:
    """Return ``(value, error)`` of a single call, one of them None.

    A value that does not load is an error.
    """
    try:
        if kind != wire.OK:
            return None, failure(body)
        if type(body) is bytes and body[0]:
            # What `decode` does with most answers; they come by the hundred thousand.
            return loads(body), None
        return load(body), None
    except BaseException as error:
        return _second_try(kind, body, error)


def _second_try(kind: int, body: bytes | Block, error: BaseException) -> tuple[Any, BaseException | None]:
    """Either the value does not load, or `error` is what a signal's handler raised meanwhile."""
    try:
        outcome = (load(body), None) if kind == wire.OK else (None, failure(body))
    except BaseException as own:
        return None, undecodable(own)
    hold(error)
    return outcome


def chunk_outcome(
    kind: int, body: bytes | Block, first: int, count: int
) -> tuple[Sequence[Any], list[tuple[int, BaseException]]]:
    """Return ``(values, failures)`` of a chunk, or of its `count` items from index `first`.

    Failures are ``(index in the chunk, error)``, ascending.
    """
    try:
        return _chunk_outcome(kind, body, first, count)
    except BaseException as error:
        try:
            outcome = _chunk_outcome(kind, body, first, count)
        except BaseException as own:
            failed = undecodable(own)
            return [None] * count, [(index, failed) for index in range(first, first + count)]
        hold(error)
        return outcome


def _chunk_outcome(
    kind: int, body: bytes | Block, first: int, count: int
) -> tuple[Sequence[Any], list[tuple[int, BaseException]]]:
    if kind == wire.OK:
        return load(body), []
    if kind == wire.CHUNK_FAILED:
        index, data = load(body)
        return [], [(index, decode_failure(data))]
    if kind == wire.FAILED:
        error = failure(body)
        return [None] * count, [(index, error) for index in range(first, first + count)]
    values, failures = load(body)
    return values, [(index, decode_failure(data)) for index, data in failures]


def undecodable(problem: BaseException) -> BaseException:
    """The error of a result that could not be rebuilt here."""
    from corral.errors import DecodeError

    error = DecodeError(
        f"the result could not be rebuilt in this process: {type(problem).__name__}: {problem}"
    )
    error.__cause__ = problem
    return error
