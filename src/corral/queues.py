"""`multiprocessing.queues` on shared memory: `Queue`, `JoinableQueue`, `SimpleQueue`.

    put: encode -> the queue's heap ~~ shared memory ~~ get: decode

There is no feeder thread: when `put` returns, the item is in the queue, whatever becomes of this process.

Role in the flow: `corral.context` makes them; put and get are native (`ObjectQueue`), encoding and decoding
are `corral._channel.messages`.
Runs in: any process and thread; queues are handed to children at their start.
Invariants:
    INV-QUEUES-1: a queue has a heap of its own, which lives as long as anybody holds its descriptor.
Failure: what cannot be pickled raises in `put`. A killed process takes along what it had in its hands.
See: docs/decisions/0010-one-commit-and-intents.md.
"""

# ruff: noqa: SLF001  (the standard library's seams are private names)

from __future__ import annotations

import os
from _weakref import ref as weak

from corral._channel.messages import Encoder, decode
from corral._launch import at_exit, sharing
from corral._native import Channel, Heap, ObjectQueue
from corral.errors import ChannelClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

__all__ = ["JoinableQueue", "Queue", "SimpleQueue"]


class _SharedQueue(ObjectQueue):
    """What the three have in common: how they are made, handed on, looked at and closed."""

    _counted = False

    def __init__(self, *, max_items: int, capacity_bytes: int) -> None:
        heap = Heap.create()
        channel = Channel.create(
            heap,
            max_items=max_items,
            capacity_bytes=capacity_bytes,
            pollable=True,
            counted=self._counted,
        )
        self._begin(heap, channel)

    def _begin(self, heap: Heap, channel: Channel) -> None:
        sharing.register(heap)
        self._heap = heap
        self._channel = channel
        # Not a method of ours: the native part would keep us alive.
        self._open(channel, Encoder().encode, decode)

    def _encoding_failed(self, error: Exception, obj: object) -> None:
        """Called by `put` when an object cannot be encoded."""
        del obj
        raise error

    def __getstate__(self) -> tuple[Any, ...]:
        where = sharing.depart(self._heap, self._channel.ref, self)
        event_fd = self._channel.event_fd
        assert event_fd is not None, "queues are pollable"
        return where, sharing.depart_descriptor(event_fd)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        where, event = state
        heap, ref = sharing.arrive(where)
        fd = event.detach()
        try:
            channel = Channel.attach(heap, ref, fd)
        finally:
            os.close(fd)
        self._begin(heap, channel)

    def __getattr__(self, name: str) -> Any:
        # Not properties: there are classes derived from the standard library's that wrap them in their own.
        if name in {"_reader", "_writer"}:
            return _End(self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def fileno(self) -> int:
        """Return a descriptor that is readable while there are items: for `selectors` and `connection.wait`.

        It is to be waited for, not to be read.
        """
        return self._channel.fileno()

    def empty(self) -> bool:
        """Return whether there are no items at this moment.

        Raises:
            corral.errors.ChannelClosed: the queue was closed in this process.
        """
        self._check_open()
        return len(self._channel) == 0

    def close(self) -> None:
        """End the use of the queue in this process; others go on."""
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise ChannelClosed(f"{self!r} is closed")


class SimpleQueue(_SharedQueue):
    """A queue without a bound.

    Args:
        ctx: accepted for the standard library's sake.
    """

    def __init__(self, *, ctx: object = None) -> None:
        del ctx
        super().__init__(max_items=0, capacity_bytes=0)


class Queue(_SharedQueue):
    """A queue that any number of processes put to and get from, in order.

    Args:
        maxsize: how many items it holds at most; 0 or less is no bound.
        ctx: accepted for the standard library's sake.
        capacity_bytes: how many bytes its items may take up, encoded; 0 is no bound. One alone may be larger.
    """

    def __init__(self, maxsize: int = 0, *, ctx: object = None, capacity_bytes: int = 0) -> None:
        del ctx
        self._maxsize = max(0, maxsize)
        super().__init__(max_items=self._maxsize, capacity_bytes=capacity_bytes)

    def __getstate__(self) -> tuple[Any, ...]:
        return (*super().__getstate__(), self._maxsize)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._maxsize = state[-1]
        super().__setstate__(state[:-1])

    def _encoding_failed(self, error: Exception, obj: object) -> None:
        # The standard library's hook, called by its feeder thread; who overrides it wants no exception.
        self._on_queue_feeder_error(error.__cause__ or error, obj)
        if type(self)._on_queue_feeder_error is Queue._on_queue_feeder_error:
            raise error

    @staticmethod
    def _on_queue_feeder_error(error: BaseException, obj: object) -> None:
        """Learn of what cannot be pickled."""

    def put_nowait(self, obj: object) -> None:
        """Put an item if there is room now.

        Raises:
            queue.Full: there is none.
        """
        self.put(obj, False)

    def get_nowait(self) -> Any:
        """Return an item if there is one now.

        Raises:
            queue.Empty: there is none.
        """
        return self.get(False)

    def put_many(self, items: Iterable[object], timeout: float | None = None) -> None:
        """Put items in order, which costs a fraction of putting them one by one.

        Args:
            items: all are encoded before the first is put.
            timeout: in seconds, for room for all of them.

        Raises:
            queue.Full: there was not room for all in time; its argument says how many were put.
        """
        objects = list(items)
        put = self._put_many(objects, timeout)
        if put < len(objects):
            from queue import Full

            raise Full(put)

    def get_many(self, max: int = 1024, timeout: float | None = None) -> list[Any]:  # noqa: A002
        """Wait for an item, and return it with those that are there besides.

        Args:
            max: how many items at most.
            timeout: in seconds, for the first.

        Raises:
            queue.Empty: nothing came in time.
            corral.errors.DecodeError: an item could not be rebuilt; the others are its `items`.
        """
        if max < 1:
            raise ValueError(f"max must be positive, not {max}")
        objects, failure = self._get_many(max, timeout)
        if failure is not None:
            from corral.errors import DecodeError

            error: Any = DecodeError(f"cannot rebuild an item: {type(failure).__name__}: {failure}")
            error.items = objects
            raise error from failure
        if not objects:
            from _queue import Empty

            raise Empty
        return objects

    def __iter__(self) -> Iterator[Any]:
        """Get items until the queue is shut down and empty, or closed in this process."""
        while True:
            try:
                item = self.get()
            except ChannelClosed:
                return
            yield item

    def qsize(self) -> int:
        """Return how many items there are at this moment."""
        return len(self._channel)

    def full(self) -> bool:
        """Return whether there is no room at this moment."""
        return self._channel.full()

    def shutdown(self) -> None:
        """End the queue for all processes: no more is put, and what was put can still be got.

        From then on `put` raises `corral.errors.ChannelClosed`, and so does `get` once the queue is empty.
        """
        self._channel.close()

    def join_thread(self) -> None:
        """Do nothing: `put` leaves nothing to wait for.

        Raises:
            AssertionError: the queue is not closed.
        """
        assert self._closed, f"Queue {self!r} not closed"

    def cancel_join_thread(self) -> None:
        """Do nothing: a process that has put items exits at once anyway, and they stay."""


class JoinableQueue(Queue):
    """A queue that can be waited for until all that was put has been dealt with.

    What a process had got when it was killed is not waited for; what one had got that ended in good order is.
    """

    _counted = True

    def _begin(self, heap: Heap, channel: Channel) -> None:
        super()._begin(heap, channel)
        number = id(self)

        def forget(_: object) -> None:
            _joinable.pop(number, None)

        _joinable[number] = weak(self, forget)
        at_exit(_sign_off)

    def task_done(self) -> None:
        """Say that an item that was got has been dealt with.

        Raises:
            ValueError: that was said of every item already.
        """
        if not self._item_done():
            raise ValueError("task_done() called too many times")

    def join(self) -> None:
        """Wait until every item that was put has been got and dealt with."""
        self._wait_done()


_joinable: dict[int, weak[JoinableQueue]] = {}


def _sign_off() -> None:
    """Tell this process's queues that it ends in good order."""
    for reference in list(_joinable.values()):
        queue = reference()
        if queue is not None:
            queue._sign_off()


def _after_fork() -> None:
    """Have a forked child, which forgets what its parent does at exit, sign off too."""
    if _joinable:
        at_exit(_sign_off)


os.register_at_fork(after_in_child=_after_fork)


class _End:
    """What programs expect behind the private names `_reader` and `_writer`: something to wait for."""

    __slots__ = ("_queue",)

    def __init__(self, queue: _SharedQueue) -> None:
        self._queue = queue

    @property
    def closed(self) -> bool:
        return self._queue._closed

    def fileno(self) -> int:
        return self._queue.fileno()

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Return whether there is an item, waiting at most `timeout` seconds for one."""
        if timeout == 0 or not self._queue.empty():
            return not self._queue.empty()
        from corral._launch.ending import is_readable

        return is_readable(self.fileno(), timeout)

    def recv(self) -> Any:
        return self._queue.get()

    def send(self, obj: object) -> None:
        self._queue.put(obj)

    def close(self) -> None:
        self._queue.close()


def __getattr__(name: str) -> Any:
    """Find `Empty` and `Full`, which programs look for here too, when they are first used."""
    if name not in {"Empty", "Full"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    import queue

    return getattr(queue, name)
