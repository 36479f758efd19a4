"""What the children of `test_synchronize.py` do: functions that every start method can find."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import corral as mp


def add(lock: Any, cell: mp.Semaphore, times: int) -> None:
    """Move a semaphore up and down while the lock is held: only one at a time finds it at zero."""
    for _ in range(times):
        with lock:
            assert cell.get_value() == 0
            cell.release()
            cell.acquire()


def hold_and_die(lock: Any) -> None:
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def release(lock: Any) -> None:
    lock.release()


def try_release(lock: Any, found: mp.Event) -> None:
    try:
        lock.release()
    except AssertionError:
        found.set()


def echo(ask: mp.Semaphore, answer: mp.Semaphore, times: int) -> None:
    for _ in range(times):
        ask.acquire()
        answer.release()


def wait_and_tell(event: mp.Event, told: mp.Semaphore) -> None:
    assert event.wait()
    told.release()


def wait_for_call(condition: mp.Condition, seated: mp.Semaphore, called: mp.Semaphore) -> None:
    with condition:
        seated.release()
        assert condition.wait()
        called.release()


def pass_often(barrier: mp.Barrier, inside: mp.Semaphore, times: int) -> None:
    """Between the passages, everybody has entered once more."""
    for round_ in range(1, times + 1):
        inside.release()
        barrier.wait()
        assert inside.get_value() == round_ * barrier.parties
        barrier.wait()


def pass_once(barrier: mp.Barrier, indices: list[mp.Semaphore]) -> None:
    indices[barrier.wait()].release()


def meet_a_broken_barrier(barrier: mp.Barrier, broken: mp.Semaphore) -> None:
    try:
        barrier.wait()
    except threading.BrokenBarrierError:
        broken.release()


def pass_and_die(barrier: mp.Barrier, how: str) -> None:
    barrier.wait()
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


def hand_on(make: Callable[..., Any], lock: Any, event: mp.Event) -> None:
    """Give what one was given to a child of one's own."""
    child = make(target=release_and_set, args=(lock, event))
    child.start()
    child.join()
    assert child.exitcode == 0


def release_and_set(lock: Any, event: mp.Event) -> None:
    lock.release()
    event.set()


class Action:
    """A barrier's action that can be pickled."""

    def __init__(self, done: mp.Semaphore) -> None:
        self.done = done

    def __call__(self) -> None:
        self.done.release()
