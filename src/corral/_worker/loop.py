"""The loop of a worker: take a task, run it, answer; until told to stop.

Role in the flow: `corral._backends.local` launches a process whose entry is `run`; the engine's frames arrive
on the forward ring of its link, the outcomes leave on the back ring.

Runs in: the worker's main thread. No other thread of ours exists there.

Failure: a task's exception is that task's outcome and never ends the loop, whatever phase it arose in
(decoding, running, encoding). `SystemExit` ends the worker unless the pool asked for it as an outcome,
as an executor does. If the parent dies, a native watch ends the process.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from _pickle import loads

from corral._channel import wire
from corral._codec import decode, encode_failure, encode_reply, install, unbundle
from corral._launch import parents_heap, passing
from corral._native import Link
from corral._worker.chunk import Chunks
from corral._worker.forwarding import begin
from corral._worker.limits import keep_to
from corral._worker.running import listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

    from corral._native import Block
else:
    import _signal  # `signal` itself brings `enum` with it


def run(payload: bytes | memoryview, fds: Sequence[int]) -> None:
    """Entry of a launched worker: attach the link named in `payload`, then serve."""
    _leave_interrupts_to_the_parent()
    link_ref, init, exit_is_result, spin_us, ways = loads(payload)
    link = _attach(link_ref, fds[0], fds[1], spin_us)
    _begin(link, ways)
    if len(fds) > 2:  # noqa: PLR2004 - bell and last words
        passing.receive(fds[2:])
    try:
        given: Any = unbundle(init, upstream=True) if init is not None else (None, ())
        initializer, initargs = given
    except BaseException as error:
        _refuse(link, error)
    serve(link, initializer, initargs, exit_is_result=exit_is_result, memory_bytes=ways["memory"])


# Launched with SIGINT held back: a Ctrl-C in a worker's first moments is none of its business either.
run.handles_interrupts = True  # type: ignore[attr-defined]


def serve_forked(
    where: tuple[int, int, int, int],
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
    serve(link, initializer, initargs, exit_is_result=exit_is_result, memory_bytes=ways["memory"])


def _attach(link_ref: int, bell_fd: int, words_fd: int, spin_us: int) -> Link:
    if not faulthandler.is_enabled():
        # What a crash says of itself, the parent puts into the error.
        faulthandler.enable(words_fd)
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
    memory_bytes: int | None = None,
) -> None:
    """Run the initializer, report READY, then work until a STOP frame."""
    me = os.getpid()
    try:
        if initializer is not None:
            try:
                initializer(*initargs)
            except BaseException as error:
                if exit_is_result:
                    _log_as_executors_do(error)
                _refuse(link, error)
        worker = _Worker(link, exit_is_result=exit_is_result, memory_bytes=memory_bytes)
        link.reply(wire.READY, 0, 0, b"")
        worker.loop()
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


def _log_as_executors_do(error: BaseException) -> None:
    """Log what an initializer raised, if somebody may listen: it may have set the listener up itself."""
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=error)


def _guarded(link: Link, memory_bytes: int) -> Callable[[], tuple[int, int, int, Any] | None]:
    """Take frames only below a memory limit; a worker that is above it from the start refuses to work."""
    from corral._worker.memory import Guard, own_bytes

    used = own_bytes()
    if used > memory_bytes:
        from corral.errors import PoolError

        _refuse(link, PoolError(f"a worker uses {used} bytes before its first task, more than memory_limit"))
    return Guard(link, memory_bytes).recv


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

    def __init__(self, link: Link, *, exit_is_result: bool, memory_bytes: int | None = None) -> None:
        self._link = link
        self._recv: Callable[[], tuple[int, int, int, Any] | None] = link.recv
        if memory_bytes is not None:
            self._recv = _guarded(link, memory_bytes)
        self._functions: dict[int, Callable[..., Any]] = {}
        self._lethal: tuple[type[BaseException], ...] = () if exit_is_result else (SystemExit,)
        self.running = listen(link)
        self._chunks = Chunks(self.running, link, self._lethal)

    def loop(self) -> None:
        """Take frames until STOP."""
        link, functions, running = self._link, self._functions, self.running
        recv, reply, elapsed_ns, enter = self._recv, link.reply, link.elapsed_ns, link.enter
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
                    running.now = task_id
                    enter(wire.RUNNING)
                    value = functions[number](*args)
                    running.now = 0
                    phase = "encoding"
                    enter(wire.ENCODING)
                    payload, buffers, _ = encode_reply(value)
                    reply(wire.OK, task_id, elapsed_ns(), payload, buffers)
                elif kind == wire.STOP:
                    return
                elif kind == wire.CALL_KW:
                    args, kwargs = _load(body)
                    phase = "running"
                    running.now = task_id
                    enter(wire.RUNNING)
                    value = functions[number](*args, **kwargs)
                    running.now = 0
                    phase = "encoding"
                    enter(wire.ENCODING)
                    payload, buffers, _ = encode_reply(value)
                    reply(wire.OK, task_id, elapsed_ns(), payload, buffers)
                else:
                    self._other(kind, task_id, number, body)
            except self._lethal:
                running.now = 0
                raise
            except BaseException as error:
                running.now = 0
                reply(wire.FAILED, task_id, elapsed_ns(), encode_failure(error, phase))
            # What a task leaves behind must not live until the next one comes.
            args = kwargs = value = payload = buffers = body = frame = None  # type: ignore[assignment]

    def _other(self, kind: int, task_id: int, number: int, body: bytes | Block) -> None:
        if kind == wire.DEFINE:
            self._define(task_id, body)
        elif kind == wire.FORGET:
            self._functions.pop(task_id, None)
        elif kind == wire.TERMS:
            self.running.agree(task_id, _raw(body))
        elif kind & wire.UNDER_TERMS:
            try:
                self._under_terms(kind - wire.UNDER_TERMS, task_id, number, body)
            finally:
                self.running.over()
        else:
            try:
                self._chunks.run(kind, task_id, self._functions[number], _load(body))
            finally:
                self.running.over()

    def _under_terms(self, kind: int, task_id: int, number: int, body: bytes | Block) -> None:
        running = self.running
        running.enter(task_id)
        phase = "decoding"
        try:
            # The first piece of work begins with its decoding: whatever takes too long there is stopped too.
            begun = running.begin(task_id, 0, 1)
            loaded = _load(body)
            function = self._functions[number]
            if kind not in wire.CALL_KINDS:
                return self._chunks.run(kind, task_id, function, loaded)
            args, kwargs = loaded if kind == wire.CALL_KW else (loaded, {})
            phase = "running"
            running.now = begun
            self._link.enter(wire.RUNNING)
            value = function(*args, **kwargs)
            running.now = 0
            phase = "encoding"
            self._link.enter(wire.ENCODING)
            payload, buffers, _ = encode_reply(value)
            self._link.reply(wire.OK, task_id, self._link.elapsed_ns(), payload, buffers)
        except self._lethal:
            running.now = 0
            raise
        except BaseException as error:
            running.now = 0
            self._link.reply(wire.FAILED, task_id, self._link.elapsed_ns(), encode_failure(error, phase))

    def _define(self, number: int, body: bytes | Block) -> None:
        try:
            function = install(number, _raw(body))
        except self._lethal:
            raise
        except BaseException as error:
            function = _Undefined(error)
        self._functions[number] = function  # type: ignore[assignment]


def _load(body: bytes | Block) -> Any:
    if type(body) is bytes:
        return decode(body)
    parts = body.parts()  # type: ignore[union-attr]
    return decode(parts[0], parts[1:])


def _raw(body: bytes | Block) -> bytes | memoryview:
    return body if type(body) is bytes else body.parts()[0]  # type: ignore[union-attr]
