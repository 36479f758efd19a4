"""What the processes of the queue tests run; importable by name, and light."""

from __future__ import annotations

import os
import pickle
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import corral


def echo(inbox: corral.Queue, outbox: corral.Queue) -> None:
    """Send everything back, with its type, up to None."""
    for item in iter(inbox.get, None):
        outbox.put((type(item).__name__, item))


def produce(queue: corral.Queue, name: str, count: int) -> None:
    for number in range(count):
        queue.put((name, number))


def fill_and_exit_hard(queue: corral.Queue, count: int, size: int) -> None:
    """Put, and be gone without any clean-up."""
    for number in range(count):
        queue.put((number, b"x" * size))
    os._exit(0)


def work_off(queue: corral.JoinableQueue) -> None:
    for _ in iter(queue.get, None):
        queue.task_done()
    queue.task_done()


def take_one(queue: corral.JoinableQueue) -> None:
    queue.get()


def take_one_and_wait(queue: corral.JoinableQueue, told: corral.SimpleQueue) -> None:
    queue.get()
    told.put("mine")
    signal.pause()


def sum_up(queue: corral.Queue, answer: corral.SimpleQueue) -> None:
    answer.put(sum(queue))


def try_to_pickle(queue: corral.Queue, answer: corral.SimpleQueue) -> None:
    try:
        pickle.dumps(queue)
    except RuntimeError as exc:
        answer.put(str(exc))


def double_arrays(inbox: corral.Queue, outbox: corral.Queue) -> None:
    while (array := inbox.get()) is not None:
        array *= 2  # its own memory: nobody else sees it
        outbox.put(array)


class Unpicklable:
    def __reduce__(self) -> object:
        raise AttributeError("not me")


def _refuse() -> None:
    raise ValueError("not here")


class Unrebuildable:
    def __reduce__(self) -> tuple[object, ...]:
        return _refuse, ()
