"""Processes that are killed while they put or get, beside others that go on; and what is counted then.

Runs in: `tests/faults/test_queue_kills.py`; as a program, in a build with faults at named steps.
"""

from __future__ import annotations

import mmap
import os
import queue as standard
import select
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING

from corral import _native
from corral.queues import JoinableQueue, Queue

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

ITEMS = 120
BATCH = 7
LIMIT_S = 20.0
SIZES = (0, 3000, 100, 0, 3500, 0, 3000, 20_000)
END = -1


class Log:
    """Numbers that one process writes and others read, whatever becomes of the writer."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, 8 * (2 + 4 * ITEMS))).cast("q")

    def add(self, number: int) -> None:
        count = self._words[0]
        self._words[2 + count] = number
        self._words[0] = count + 1

    def sign(self) -> None:
        """Write down whose log it is."""
        self._words[1] = _native.identity()

    def identity(self) -> int:
        return self._words[1]

    def numbers(self) -> list[int]:
        return list(self._words[2 : 2 + self._words[0]])


def item(number: int) -> tuple[int, bytes]:
    """An item: most are short, some lie in blocks, some in several segments."""
    return number, bytes(SIZES[number % len(SIZES)])


def check(got: tuple[int, bytes]) -> int:
    number, padding = got
    assert padding == item(number)[1], f"{number} is garbled"
    return number


def in_child(deed: Callable[[], None]) -> int:
    """Run `deed` in a forked child; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        deed()
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def say_done(queue: Queue) -> None:
    if isinstance(queue, JoinableQueue):
        queue.task_done()


def put_all(queue: Queue, log: Log, numbers: range, *, many: bool) -> None:
    for start in range(0, len(numbers), BATCH if many else 1):
        if many:
            batch = numbers[start : start + BATCH]
            queue.put_many([item(number) for number in batch], timeout=LIMIT_S)
        else:
            batch = numbers[start : start + 1]
            queue.put(item(batch[0]), timeout=LIMIT_S)
        for number in batch:
            log.add(number)


def get_all(queue: Queue, log: Log, *, many: bool) -> None:
    while True:
        items = queue.get_many(BATCH, timeout=LIMIT_S) if many else [queue.get(timeout=LIMIT_S)]
        for got in items:
            if got[0] == END:
                if len(items) > 1:
                    # The end of another, too.
                    for other in items[items.index(got) + 1 :]:
                        queue.put(other)
                return
            log.add(check(got))
            say_done(queue)


def outlive(pid: int, meanwhile: Callable[[], object]) -> int:
    """Do what is to be done until the process has ended; its exit code."""
    deadline = time.monotonic() + LIMIT_S
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        assert time.monotonic() < deadline, f"process {pid} hangs"
        meanwhile()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_a_producer(
    queue: Queue, arm: Callable[[], None], strike: Callable[[int], None], *, many: bool
) -> bool:
    """Two children put, one is killed; what they say they put comes once and in order. Was it killed?"""
    logs, seen = (Log(), Log()), Log()
    victim = in_child(
        lambda: _as_victim(logs[0], arm, lambda: put_all(queue, logs[0], range(ITEMS), many=many))
    )
    rest = range(ITEMS, 2 * ITEMS)
    buddy = in_child(lambda: put_all(queue, logs[1], rest, many=not many))
    strike(victim)

    def receive(timeout: float = 0.001) -> bool:
        try:
            seen.add(check(queue.get(timeout=timeout)))
            say_done(queue)
        except standard.Empty:
            return False
        return True

    code = outlive(victim, receive)
    assert outlive(buddy, receive) == 0
    while receive(0):
        pass
    numbers = seen.numbers()
    of_victim = [number for number in numbers if number < ITEMS]
    assert [number for number in numbers if number >= ITEMS] == list(rest), (
        "of the other's, one is lost or twice"
    )
    assert of_victim == list(range(len(of_victim))), of_victim
    assert len(of_victim) >= len(logs[0].numbers()), "put had returned for one that is lost"
    assert code == (0 if len(logs[0].numbers()) == ITEMS else -signal.SIGKILL) or code == -signal.SIGKILL
    check_nothing_is_left(queue, logs[0].identity(), killed=code != 0)
    return code != 0


def kill_a_consumer(
    queue: Queue, arm: Callable[[], None], strike: Callable[[int], None], *, many: bool
) -> bool:
    """Two children get, one is killed; nothing is lost but what was in its hands. Was it killed?"""
    logs = (Log(), Log())
    victim = in_child(lambda: _as_victim(logs[0], arm, lambda: get_all(queue, logs[0], many=many)))
    buddy = in_child(lambda: get_all(queue, logs[1], many=False))
    for number in range(ITEMS):
        if number == ITEMS // 3:
            strike(victim)
        queue.put(item(number), timeout=LIMIT_S)
    queue.put((END, b""), timeout=LIMIT_S)
    queue.put((END, b""), timeout=LIMIT_S)
    codes = [outlive(pid, lambda: time.sleep(0.0005)) for pid in (victim, buddy)]
    assert codes[1] == 0
    taken = [log.numbers() for log in logs]
    everything = sorted(taken[0] + taken[1])
    assert everything == sorted(set(everything)), "one came twice"
    for numbers in taken:
        assert numbers == sorted(numbers), "out of order"
    lost = set(range(ITEMS)) - set(everything)
    assert len(lost) <= (0 if codes[0] == 0 else BATCH if many else 1), f"lost {sorted(lost)}"
    left = queue.qsize()
    assert left <= 1, "more than the end that the dead did not take"
    for _ in range(left):
        assert queue.get(timeout=0)[0] == END
        say_done(queue)
    check_nothing_is_left(queue, logs[0].identity(), killed=codes[0] != 0)
    return codes[0] != 0


def _as_victim(log: Log, arm: Callable[[], None], deed: Callable[[], None]) -> None:
    log.sign()
    arm()
    deed()


def check_nothing_is_left(queue: Queue, identity: int, *, killed: bool) -> None:
    """The queue works, its readiness is exact, and of the dead one's blocks none is left."""
    assert queue.empty()
    for number in range(2):
        queue.put(number)
        assert is_readable(queue)
    for number in range(2):
        assert queue.get(timeout=LIMIT_S) == number
        say_done(queue)
    assert not is_readable(queue)
    if killed and identity:
        queue._heap.recover(identity)
    if isinstance(queue, JoinableQueue):
        assert queue._wait_done(LIMIT_S), "join waits for the dead"
    used = queue._heap.stats()["blocks_used"]
    assert used == 2, f"{used} blocks are used: the queue's own, its segment, and what else?"


def is_readable(queue: Queue) -> bool:
    return bool(select.select([queue.fileno()], [], [], 0)[0])


def make(number: int) -> Queue:
    """A queue: bounded or not, polled from the beginning or not."""
    queue = (Queue, JoinableQueue)[number % 2](maxsize=(0, 10)[number // 2 % 2])
    if number // 4 % 2:
        queue.fileno()
    return queue


def nothing(*_: object) -> None:
    """Neither arm nor strike."""


def kill_later(spans: random.Random, longest_s: float) -> Callable[[int], None]:
    """A strike at some time, soon."""

    def strike(pid: int) -> None:
        end = time.monotonic() + spans.random() * longest_s
        while time.monotonic() < end:
            pass
        os.kill(pid, signal.SIGKILL)

    return strike


PRODUCER_STEPS = (
    "channel.entered",
    "commit.placed",
    "commit.counted",
    "commit.done",
    "tenure.released",
    "ring.seen",
    "pack.allocated",
    "block.intended",
    "block.given",
    "block.settled",
    "segment.allocated",
    "grow.intended",
    "grow.given",
    "grow.settled",
    "event.signalled",
)
CONSUMER_STEPS = (
    "channel.entered",
    "hold.counted",
    "commit.placed",
    "commit.counted",
    "commit.done",
    "tenure.released",
    "adopt.intended",
    "adopt.settled",
    "retire.intended",
    "retire.freed",
    "retire.settled",
    "free.noted",
    "free.released",
    "event.unmarked",
    "event.drained",
)


SELDOM = {"ring.seen"}
"""Only when somebody sleeps."""


def strike_at(step: str, kill: Callable[..., bool]) -> int:
    """Strike at a step, at several passings; how many were killed."""
    arm_fault = _native.arm_fault  # type: ignore[attr-defined]
    kills = 0
    for number, nth in enumerate((1, 2, 1, 3, 1, 5, 2, 8)):

        def arm(nth: int = nth) -> None:
            arm_fault(step, nth, signal.SIGKILL)

        try:
            kills += kill(make(number), arm, nothing, many=bool(number % 3 == 2))
        except AssertionError as error:
            where = f"{kill.__name__} at {step}, passing {nth}, queue {number}"
            raise AssertionError(f"{where}: {error}") from error
    return kills


def main() -> None:
    """Strike at each step; print how many were killed, and the steps at which nobody was."""
    total, missed = 0, []
    for kill, steps in ((kill_a_producer, PRODUCER_STEPS), (kill_a_consumer, CONSUMER_STEPS)):
        for step in steps:
            # Who gets how much is the scheduler's choice: some come to a step seldom.
            kills = next(filter(None, (strike_at(step, kill) for _ in range(3))), 0)
            total += kills
            if not kills and step not in SELDOM:
                missed.append(f"{kill.__name__}@{step}")
    print(total, *missed)  # noqa: T201 - what the test reads


if __name__ == "__main__":
    sys.exit(main())
