"""Calls the user's function on one item and turns what comes of it into text.

Role in the flow:
    `prepare` is the pool's initializer, `call_for_json` (``corral map``) and `call_for_value`
    (``corral compare``) are its task functions.

Runs in:
    A worker; `prepare` and `call_for_value` also in the parent, for the sequential run of ``corral compare``.

Failure:
    Whatever the user's function raises becomes a `Failure`; only a worker's death and Ctrl-C get past it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from corral.cli.target import Function, resolve

if TYPE_CHECKING:
    from types import FrameType, TracebackType

STDOUT_FD = 1
STDERR_FD = 2
_JSON_ADVICE = "return str, numbers, bool, None, lists or dicts of them"


class Recipe(NamedTuple):
    """What a worker must know before its first item.

    Attributes:
        spec: The function, as the user named it.
        kind: What an item is: ``line``, ``jsonl`` or ``file``.
        encoding: Of lines.
        in_worker: Whether stdout must be kept for the parent's data.
    """

    spec: str
    kind: str
    encoding: str = "utf-8"
    in_worker: bool = True


class Failure(NamedTuple):
    """Why an item has no result: one line, and the traceback of the user's part of it."""

    summary: str
    details: str = ""


# What travels for every item is plain tuples: pickling them costs a third of what a class of ours would.
Item: TypeAlias = tuple[int, bytes | str]
"""One unit of input: its place in the whole input, and a raw line or a path."""
Outcome: TypeAlias = tuple[int, str, Failure | None]
"""What came of one item: its number, and its result as text or why there is none."""


class _Ready(NamedTuple):
    """A recipe made usable."""

    function: Function
    recipe: Recipe


_ready: _Ready | None = None


def prepare(recipe: Recipe) -> None:
    """Import the function in this process; in a worker, also send what it prints to stderr.

    Blocking: imports the user's module.
    """
    global _ready  # noqa: PLW0603 - a pool's initializer has no other place to leave things
    if recipe.in_worker:
        # By descriptor, so that C libraries and child processes cannot mix their words into the data either.
        os.dup2(STDERR_FD, STDOUT_FD)
        sys.stdout = sys.stderr
        # Ctrl-C reaches the whole foreground group; the parent decides. A function, not SIG_IGN: what the
        # user's function executes must be interruptible as ever.
        signal.signal(signal.SIGINT, _leave_to_parent)
        # A handler inherited through fork would run between two bytecodes: never, in a worker that waits
        # for a lock.
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
    _ready = _Ready(resolve(recipe.spec), recipe)


def _leave_to_parent(_number: int, _frame: FrameType | None) -> None:
    """Do nothing about Ctrl-C."""


def call_for_json(item: Item) -> Outcome:
    """Call the function on `item` and encode its result as one line of JSON."""
    number, raw = item
    try:
        value = _function()(_argument(raw))
    except (Exception, SystemExit) as error:
        return number, "", _failure_of(error)
    try:
        return number, _encode(value), None
    except (TypeError, ValueError, RecursionError) as error:
        return number, "", Failure(f"result is no JSON: {error} ({_JSON_ADVICE})")


def call_for_value(item: Item) -> object:
    """Call the function on `item` and return what it returns, or the failure, so that timing goes on."""
    try:
        return _function()(_argument(item[1]))
    except (Exception, SystemExit) as error:
        return _failure_of(error)


def is_ready(_nothing: object) -> bool:
    """Tell that this worker has been prepared."""
    return _ready is not None


def _function() -> Function:
    if _ready is None:
        message = "prepare() has not run in this process"
        raise RuntimeError(message)
    return _ready.function


def _argument(raw: bytes | str) -> object:
    """Turn a raw item into what the user's function is given."""
    if _ready is None or isinstance(raw, str):
        return raw
    recipe = _ready.recipe
    try:
        text = raw.decode(recipe.encoding)
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start + 1}"
        message = f"line is not {recipe.encoding}: {where}; name its encoding with --encoding"
        raise _BadInputError(message) from None
    if recipe.kind != "jsonl":
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        message = f"line is no JSON: {error}"
        raise _BadInputError(message) from None


class _BadInputError(Exception):
    """An item that cannot be read; not the function's fault, so shown without a traceback."""


def _encode(value: object) -> str:
    """Encode a result as strict JSON on one line, readable where UTF-8 can carry it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)  # lone surrogates: only an escape can carry them
    return text


def _failure_of(error: BaseException) -> Failure:
    """Describe an exception: one line, and the traceback below our own frames."""
    import traceback

    if isinstance(error, _BadInputError):
        return Failure(str(error))
    if isinstance(error, SystemExit):
        summary = f"the function called sys.exit({'' if error.code is None else repr(error.code)})"
    else:
        summary = " ".join("".join(traceback.format_exception_only(error)).split())
    details = traceback.format_exception(type(error), error, _below_us(error.__traceback__))
    return Failure(summary, "".join(details).rstrip())


def _below_us(frames: TracebackType | None) -> TracebackType | None:
    """Skip the frames of this module: the user looks for their own."""
    while frames is not None and frames.tb_frame.f_globals is globals():
        frames = frames.tb_next
    return frames
