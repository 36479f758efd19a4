"""The loop of a worker: take a task, run it, answer; until told to stop.

Role in the flow: `corral._backends.local` launches a process whose entry is `run`; the engine's frames arrive
on the forward ring of its link, the outcomes leave on the back ring.

Runs in: the worker's main thread. No other thread of ours exists there.

Failure: a task's exception is that task's outcome and never ends the loop, whatever phase it arose in
(decoding, running, encoding). `SystemExit` ends the worker unless the pool asked for it as an outcome,
as an executor does. If the parent dies, a native watch ends the process.
"""

from __future__ import annotations

import os
import sys
from _pickle import loads
from itertools import starmap

from corral._channel import wire
from corral._codec import decode, encode_failure, encode_reply, install, unbundle
from corral._launch import parents_heap, passing
from corral._native import Link
from corral._worker.forwarding import begin
from corral._worker.limits import keep_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, NoReturn

    from corral._native import Block
else:
    import _signal  # `signal` itself brings `enum` with it


_FEW = 32


def run(payload: bytes | memoryview, fds: Sequence[int]) -> None:
    """Entry of a launched worker: attach the link named in `payload`, then serve."""
    _leave_interrupts_to_the_parent()
    link_ref, init, exit_is_result, spin_us, ways = loads(payload)
    link = _attach(link_ref, fds[0], spin_us)
    _begin(link, ways)
    if len(fds) > 1:
        passing.receive(fds[1:])
    try:
        given: Any = unbundle(init, upstream=True) if init is not None else (None, ())
        initializer, initargs = given
    except BaseException as error:
        _refuse(link, error)
    serve(link, initializer, initargs, exit_is_result=exit_is_result)


# Launched with SIGINT held back: a Ctrl-C in a worker's first moments is none of its business either.
run.handles_interrupts = True  # type: ignore[attr-defined]


def serve_forked(
    where: tuple[int, int, int],
    initializer: Callable[..., object] | None,
    initargs: Sequence[Any],
    *,
    exit_is_result: bool,
    ways: Mapping[str, Any],
) -> None:
    """Entry of a forked worker, whose initializer was inherited rather than sent."""
    _leave_interrupts_to_the_parent()
    link = _attach(*where)
    _begin(link, ways)
    serve(link, initializer, initargs, exit_is_result=exit_is_result)


def _attach(link_ref: int, bell_fd: int, spin_us: int) -> Link:
    link = Link.attach(parents_heap(), link_ref, bell_fd)
    link.spin_us = spin_us
    return link


def _begin(link: Link, ways: Mapping[str, Any]) -> None:
    """Be a worker as the parent wants it: what tasks say goes home, and it keeps to its share."""
    keep_to(ways["depth"], ways["threads"])
    if ways["says"] is not None:
        begin(lambda kind, body: link.reply(kind, 0, 0, body), ways["says"])


def serve(
    link: Link,
    initializer: Callable[..., object] | None,
    initargs: Sequence[Any],
    *,
    exit_is_result: bool,
) -> None:
    """Run the initializer, report READY, then work until a STOP frame."""
    me = os.getpid()
    try:
        if initializer is not None:
            try:
                initializer(*initargs)
            except BaseException as error:
                _refuse(link, error)
        link.reply(wire.READY, 0, 0, b"")
        _Worker(link, exit_is_result=exit_is_result).loop()
    finally:
        if os.getpid() != me:
            _end_copy()


def _end_copy() -> NoReturn:
    """End a process that a task has forked and that has returned from the task: the worker itself answers."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            # None, closed, or nobody there to read.
            continue
    os._exit(0)


def _leave_interrupts_to_the_parent() -> None:
    # Ctrl-C reaches the whole process group; the parent decides what becomes of running work. A handler
    # (rather than SIG_IGN) is not inherited by programs that a task starts.
    _signal.signal(_signal.SIGINT, _stay)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])


def _stay(signum: int, frame: object) -> None:
    """Leave Ctrl-C to the parent."""


def _refuse(link: Link, error: BaseException) -> None:
    link.reply(wire.BROKEN, 0, 0, encode_failure(error, "initializing"))
    sys.exit(1)


class _Undefined:
    """Stands for a function whose definition could not be loaded."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self, *_args: object, **_kwargs: object) -> None:
        raise self._error


class _Worker:
    """The functions a worker has received, and the loop that runs them."""

    def __init__(self, link: Link, *, exit_is_result: bool) -> None:
        self._link = link
        self._functions: dict[int, Callable[..., Any]] = {}
        self._lethal: tuple[type[BaseException], ...] = () if exit_is_result else (SystemExit,)

    def loop(self) -> None:
        """Take frames until STOP."""
        link, functions = self._link, self._functions
        recv, reply, elapsed_ns = link.recv, link.reply, link.elapsed_ns
        while True:
            frame = recv()
            if frame is None:
                continue
            kind, task_id, number, body = frame
            phase = "decoding"
            try:
                if kind == wire.CALL:
                    args = _load(body)
                    phase = "running"
                    value = functions[number](*args)
                    phase = "encoding"
                    payload, buffers, _ = encode_reply(value)
                    reply(wire.OK, task_id, elapsed_ns(), payload, buffers)
                elif kind == wire.STOP:
                    return
                elif kind == wire.DEFINE:
                    self._define(task_id, body)
                elif kind == wire.FORGET:
                    functions.pop(task_id, None)
                elif kind == wire.CALL_KW:
                    args, kwargs = _load(body)
                    phase = "running"
                    value = functions[number](*args, **kwargs)
                    phase = "encoding"
                    payload, buffers, _ = encode_reply(value)
                    reply(wire.OK, task_id, elapsed_ns(), payload, buffers)
                else:
                    self._chunk(kind, task_id, functions[number], _load(body))
            except self._lethal:
                raise
            except BaseException as error:
                reply(wire.FAILED, task_id, elapsed_ns(), encode_failure(error, phase))
            # What a task leaves behind must not live until the next one comes.
            args = kwargs = value = payload = buffers = body = frame = None  # type: ignore[assignment]

    def _define(self, number: int, body: bytes | Block) -> None:
        try:
            function = install(number, _raw(body))
        except self._lethal:
            raise
        except BaseException as error:
            function = _Undefined(error)
        self._functions[number] = function  # type: ignore[assignment]

    def _chunk(self, kind: int, task_id: int, function: Callable[..., Any], items: Sequence[Any]) -> None:
        each = kind in wire.EACH_KINDS
        values: list[Any] = []
        failures: list[tuple[int, bytes]] = []
        # Both iterators go on with the next item after one has raised.
        outcomes = starmap(function, items) if kind in wire.STAR_KINDS else map(function, items)
        while len(values) < len(items):
            self._extend(values, outcomes, failures, len(items))
            if failures and not each:
                return self._first_failed(task_id, failures)
        return self._answer_chunk(task_id, values, failures)

    def _extend(
        self, values: list[Any], outcomes: Iterator[Any], failures: list[tuple[int, bytes]], total: int
    ) -> None:
        """Append outcomes until they end or an item fails.

        That one is noted, and its place filled with None.
        """
        try:
            # list.extend appends as it goes, so after a failure len(values) is the index of the item
            # that failed.
            values.extend(outcomes)
            if len(values) < total:
                # extend takes a StopIteration out of the function for the end of the items.
                _raise_stop()
        except self._lethal:
            raise
        except BaseException as error:
            failures.append((len(values), encode_failure(error, "running")))
            values.append(None)

    def _first_failed(self, task_id: int, failures: list[tuple[int, bytes]]) -> None:
        link = self._link
        payload, buffers, _ = encode_reply(failures[0])
        link.reply(wire.CHUNK_FAILED, task_id, link.elapsed_ns(), payload, buffers)

    def _answer_chunk(self, task_id: int, values: list[Any], failures: list[tuple[int, bytes]]) -> None:
        link = self._link
        try:
            # Few values go as a tuple, which has a short way; whoever takes them wants only their order.
            payload, buffers, _ = encode_reply(tuple(values) if len(values) <= _FEW else values)
        except self._lethal:
            raise
        except BaseException:  # some value cannot be encoded: find out which
            values = self._encodable(values, failures)
            payload, buffers, _ = encode_reply(values)
        if failures:
            failures.sort(key=lambda failure: failure[0])
            payload, buffers, _ = encode_reply((values, failures))
            link.reply(wire.CHUNK_MIXED, task_id, link.elapsed_ns(), payload, buffers)
        else:
            link.reply(wire.OK, task_id, link.elapsed_ns(), payload, buffers)

    def _encodable(self, values: list[Any], failures: list[tuple[int, bytes]]) -> list[Any]:
        kept: list[Any] = []
        for index, value in enumerate(values):
            try:
                encode_reply(value)
            except self._lethal:
                raise
            except BaseException as error:
                failures.append((index, encode_failure(error, "encoding")))
                kept.append(None)
            else:
                kept.append(value)
        return kept


def _raise_stop() -> None:
    message = "the mapped function raised StopIteration"
    raise StopIteration(message)


def _load(body: bytes | Block) -> Any:
    if type(body) is bytes:
        return decode(body)
    parts = body.parts()  # type: ignore[union-attr]
    return decode(parts[0], parts[1:])


def _raw(body: bytes | Block) -> bytes | memoryview:
    return body if type(body) is bytes else body.parts()[0]  # type: ignore[union-attr]
