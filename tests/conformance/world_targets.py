"""What the processes of the tests of managers and of living together run; importable by name."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

import corral


class Counter:
    """An object for a manager's server."""

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, number: int) -> int:
        self.value += number
        return self.value

    def _hidden(self) -> None:
        pass

    def fail(self) -> None:
        raise LookupError("not here")

    def give_what_cannot_be_sent(self) -> Any:
        return sys._getframe()

    def process(self) -> tuple[int, str]:
        return os.getpid(), corral.current_process().name


def write(path: str, value: object) -> None:
    with open(path, "w") as file:
        json.dump(value, file)


def fill(values: Any, mapping: Any, queue: Any, space: Any) -> None:
    values.append("child")
    mapping["pid"] = os.getpid()
    queue.put(values[0])
    space.said = "hello"


def count(counter: Any, lock: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            counter.value += 1


def get_into(mapping: Any, key: str) -> str:
    mapping[key] = corral.current_process().name
    return str(mapping[key])


def exchange(queue_in: Any, queue_out: Any) -> None:
    queue_out.put(queue_in.get() + 1)


def answer_on(connection: Any) -> None:
    connection.send([connection.recv(), os.getpid()])
    connection.close()


def add_under(lock: Any, value: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            value.value += 1


def write_segment(name: str) -> None:
    from multiprocessing.shared_memory import SharedMemory

    segment = SharedMemory(name)
    segment.buf[0] = 7
    segment.close()


def write_given_segment(segment: Any) -> None:
    segment.buf[0] = 7
    segment.close()


def tell_who(path: str) -> None:
    """Tell what this process is called by all who may say so; import only what is asked for."""
    before = "multiprocessing" in sys.modules
    record = logging.LogRecord("x", 10, "f", 1, "m", (), None)
    made = logging.getLogger().makeRecord("x", 10, "f", 1, "m", (), None)
    import multiprocessing

    me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    assert parent is not None
    ours = corral.current_process()
    write(
        path,
        {
            "loaded": before,
            "ours": [ours.name, ours.pid, ours.daemon, ours.authkey.hex()],
            "theirs": [me.name, me.pid, me.daemon, me.authkey.hex()],
            "parent": [parent.name, parent.pid, parent.is_alive()],
            "identity": list(me._identity),  # type: ignore[attr-defined]
            "record": [record.processName, made.processName],
        },
    )


def end_in_order(path: str) -> None:
    """Leave finalizers, a child to be joined and one to be terminated."""
    import time

    from corral.util import Finalize

    def say(word: str) -> None:
        with open(path, "a") as file:
            file.write(f"{word}\n")

    context = corral.get_context("fork")
    lock = context.Lock()
    Finalize(None, say, ("last",), exitpriority=-1)
    # The last before children are waited for.
    Finalize(None, lock.release, exitpriority=0)
    Finalize(None, say, ("second",), exitpriority=0)
    Finalize(None, say, ("first",), exitpriority=5)
    lock.acquire()
    context.Process(target=lambda: lock.acquire() and say("child")).start()
    context.Process(target=time.sleep, args=(600,), daemon=True).start()


def compare_locks(one: Any, other: Any, third: Any) -> None:
    with one, other, third:
        pass


def use_corral(path: str) -> None:
    """Use corral in a process that the standard library has started; leave a child to be joined."""
    import time

    me, parent = corral.current_process(), corral.parent_process()
    assert parent is not None
    context = corral.get_context("forkserver")
    with context.Pool(1) as pool:
        squares = pool.map(square, [0, 1, 2])
    told = {"current": [me.name, me.daemon], "parent": parent.pid, "pool": squares, "key": me.authkey.hex()}
    write(path, told)
    context.Process(target=write, args=(path + ".child", "joined")).start()
    context.Process(target=time.sleep, args=(600,), daemon=True).start()


def square(x: int) -> int:
    return x * x


def say() -> None:
    corral.get_logger().warning("said")


def fork_and_return(value: int) -> int:
    """Fork and return, in both processes."""
    os.fork()
    return value


def use_all(queues: Any, values: Any, arrays: Any, locks: Any, event: Any, barrier: Any) -> None:
    """Use one of each kind of object that a process is given."""
    for lock in locks:
        with lock:
            pass
    for value in values:
        value.value += 1
    for array in arrays:
        array[0] = 9
    barrier.wait(30)
    event.set()
    for queue in queues:
        queue.put(os.getpid())
