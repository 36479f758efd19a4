"""The failures of a map's items as one error (`errors="collect"`)."""

from __future__ import annotations

import reprlib

from corral._engine.obituary import again
from corral.errors import MapErrors, TaskError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_MAX_REPR = 80


def map_errors(
    failures: Mapping[int, BaseException], items: Sequence[Any], values: Sequence[Any]
) -> MapErrors:
    """Make the error of a map over `items`, of which those in `failures`, by index, have failed."""
    seen: set[int] = set()
    told: list[tuple[int, str, Exception]] = []
    for index in sorted(failures):
        error = failures[index]
        if id(error) in seen:  # items that were lost together share one, and each needs a note of its own
            error = again(error)
        seen.add(id(error))
        if not isinstance(error, Exception):
            error = _wrapped(error)
        text = short_repr(items[index])
        error.add_note(f"(item {index}: {text})")
        told.append((index, text, error))
    results = {index: value for index, value in enumerate(values) if index not in failures}
    message = f"{len(told)} of {len(values)} items failed"
    return MapErrors(message, [error for _, _, error in told], failures=told, results=results)


def _wrapped(error: BaseException) -> Exception:
    """A group of exceptions holds none that would end a program."""
    wrapper = TaskError(f"the item raised {type(error).__name__}: {error}")
    wrapper.__cause__ = error
    return wrapper


def short_repr(value: Any) -> str:
    """What a reader needs to know a value again."""
    try:
        text = reprlib.repr(value)
    except Exception as error:
        return f"<{type(value).__qualname__}, whose repr fails: {type(error).__name__}>"
    return text if len(text) <= _MAX_REPR else f"{text[: _MAX_REPR - 3]}..."
