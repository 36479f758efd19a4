"""Processes that are killed while they lock, wait and wake others, and what the survivors then check.

Each scene has a survivor and, one after the other, many victims, all at work on the same objects. After
each death the survivor and the parent must get on, and in the end the counts must agree.

Runs in: `tests/faults/test_synchronize_kills.py`; as a program, in a build with faults at named steps.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from tests.support.pipes import in_child, reap

import corral as mp
from corral._native import identity, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random

LIMIT_S = 20.0
SURVIVOR, VICTIMS, PARENT, FIRST, SECOND, BUSY, STOP = range(7)


def soon(is_so: Callable[[], object], what: str) -> None:
    """Wait until it is so; that must be soon."""
    deadline = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < deadline, f"it hangs: {what}"
        time.sleep(0.0002)


def has_ended(pid: int) -> bool:
    """Whether a child has ended; it is not reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Scene:
    """Objects, what is done with them, and what must be true then.

    Attributes:
        steps: where a victim can be struck.
        cells: shared numbers; one process writes each, or the lock's holder.
    """

    steps: tuple[str, ...] = ("ring.seen", "ring.counted")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)
        self.cells = memoryview(self._memory).cast("Q")
        self.kills = 0

    def close(self) -> None:
        self.cells.release()
        self._memory.close()

    def prepare(self) -> None:
        """What a victim does before it may be struck."""

    def victim(self) -> None:
        """Work until killed."""
        raise NotImplementedError

    def survivor(self) -> None:
        """Work until told to stop."""
        raise NotImplementedError

    def during(self) -> None:
        """What the parent does while a victim works."""

    def after(self) -> None:
        """See, after a death, that all goes on."""
        before = self.cells[SURVIVOR]
        soon(lambda: self.cells[SURVIVOR] > before, "the survivor")

    def finish(self) -> None:
        """See, in the end, that nothing was lost."""

    def stop(self) -> None:
        """Have the survivor come to its end."""
        self.cells[STOP] = 1

    @property
    def goes_on(self) -> bool:
        return not self.cells[STOP]


class Excluding(Scene):
    """A lock: one at a time is inside; who finds another's traces finds a dead one's."""

    steps = ("mutex.taken", "mutex.unsigned", "tenure.released", "ring.seen", "ring.counted")

    def __init__(self, kind: str = "Lock") -> None:
        super().__init__()
        self.lock = getattr(mp, kind)(on_owner_death="ignore")

    def enter(self, who: int) -> None:
        with self.lock:
            traces = self.cells[BUSY]
            assert not traces or not is_alive(traces), "two are inside"
            self.cells[BUSY] = identity()
            self.cells[FIRST] += 1
            self.cells[SECOND] = self.cells[FIRST]
            self.cells[who] += 1
            self.cells[BUSY] = 0

    def victim(self) -> None:
        while True:
            self.enter(VICTIMS)

    def survivor(self) -> None:
        while self.goes_on:
            self.enter(SURVIVOR)

    def after(self) -> None:
        super().after()
        self.enter(PARENT)

    def finish(self) -> None:
        entered = self.cells[SURVIVOR] + self.cells[VICTIMS] + self.cells[PARENT]
        assert entered <= self.cells[FIRST] <= entered + self.kills
        assert not self.lock.locked()


class ExcludingAgain(Excluding):
    """A recursive lock, taken twice."""

    def __init__(self) -> None:
        super().__init__("RLock")

    def enter(self, who: int) -> None:
        with self.lock:
            super().enter(who)


class Taking(Scene):
    """A semaphore: what the parent releases is taken by the survivor or by a victim."""

    steps = ("semaphore.released",)

    def __init__(self) -> None:
        super().__init__()
        self.units, self.answers = mp.Semaphore(0), mp.Semaphore(0)
        self.released = 0

    def take(self, who: int) -> None:
        if self.units.acquire():
            self.cells[who] += 1
            self.answers.release()

    def victim(self) -> None:
        while True:
            self.take(VICTIMS)

    def survivor(self) -> None:
        while self.goes_on:
            self.take(SURVIVOR)

    def during(self) -> None:
        for _ in range(4):
            self.units.release()
            self.released += 1

    def after(self) -> None:
        self.during()
        soon(lambda: not self.units.get_value(), "a unit that nobody takes")

    def stop(self) -> None:
        super().stop()
        self.during()

    def finish(self) -> None:
        taken = self.cells[SURVIVOR] + self.cells[VICTIMS] + self.units.get_value()
        assert taken <= self.released <= taken + self.kills


class Releasing(Taking):
    """A semaphore: what the victims release is taken by the survivor."""

    steps = ("semaphore.released", "ring.seen", "ring.counted")

    def victim(self) -> None:
        while True:
            self.units.release()
            self.cells[VICTIMS] += 1
            self.answers.acquire()

    def survivor(self) -> None:
        while self.goes_on:
            self.take(SURVIVOR)

    def finish(self) -> None:
        taken = self.cells[SURVIVOR] + self.units.get_value()
        assert taken - self.kills <= self.released + self.cells[VICTIMS] <= taken


class Setting(Scene):
    """An event: set and cleared by the victims, and by the parent, it wakes the survivor."""

    steps = ("event.set", "ring.seen", "ring.counted")

    def __init__(self) -> None:
        super().__init__()
        self.event = mp.Event()

    def victim(self) -> None:
        while True:
            self.event.set()
            self.event.clear()
            self.event.wait(0.0001)

    def survivor(self) -> None:
        while self.goes_on:
            self.event.wait()
            self.cells[SURVIVOR] += 1
            self.event.clear()

    def after(self) -> None:
        before = self.cells[SURVIVOR]
        self.event.set()
        soon(lambda: self.cells[SURVIVOR] > before, "who waits for the event")

    def stop(self) -> None:
        super().stop()
        self.event.set()


class Consuming(Scene):
    """A condition: the parent puts tokens and calls one; victims and the survivor wait and take."""

    steps = (
        "condition.made",
        "condition.seated",
        "condition.numbered",
        "condition.idle",
        "mutex.taken",
        "mutex.unsigned",
        "tenure.released",
    )

    def __init__(self) -> None:
        super().__init__()
        self.condition = mp.Condition(mp.RLock(on_owner_death="ignore"))
        self.put = 0

    @property
    def tokens(self) -> int:
        return self.cells[FIRST]

    def consume(self, who: int) -> None:
        with self.condition:
            while not self.tokens and self.goes_on:
                self.condition.wait()
            if self.tokens:
                self.cells[FIRST] -= 1
                self.cells[who] += 1

    def produce(self) -> None:
        with self.condition:
            self.cells[FIRST] += 1
            self.condition.notify()

    def victim(self) -> None:
        while True:
            self.consume(VICTIMS)

    def survivor(self) -> None:
        while self.goes_on:
            self.consume(SURVIVOR)

    def during(self) -> None:
        for _ in range(3):
            self.produce()
        self.put += 3

    def after(self) -> None:
        # One of these calls may be for the dead.
        self.during()
        soon(lambda: not self.tokens, f"a token that nobody takes: {self.condition!r}")

    def stop(self) -> None:
        super().stop()
        with self.condition:
            self.condition.notify_all()

    def finish(self) -> None:
        taken = self.cells[SURVIVOR] + self.cells[VICTIMS] + self.tokens
        assert taken <= self.put <= taken + self.kills


class Producing(Consuming):
    """A condition: the victims put tokens and call."""

    steps = ("condition.dated", "condition.called", "mutex.taken", "mutex.unsigned", "ring.counted")

    def victim(self) -> None:
        while True:
            with self.condition:
                self.cells[FIRST] += 1
                self.cells[VICTIMS] += 1
                self.condition.notify()

    def finish(self) -> None:
        taken = self.cells[SURVIVOR] + self.tokens
        assert taken - self.kills <= self.put + self.cells[VICTIMS] <= taken


class Passing(Scene):
    """A barrier of three: it breaks when a victim dies, and is whole again after a reset."""

    steps = (
        "barrier.written",
        "barrier.came",
        "barrier.redone",
        "tenure.released",
        "ring.seen",
        "ring.counted",
    )

    def __init__(self) -> None:
        super().__init__()
        self.barrier = mp.Barrier(3)
        self.start, self.ended = mp.Semaphore(0), mp.Semaphore(0)

    def prepare(self) -> None:
        # Nobody can know of one that has never come.
        self.barrier.wait()

    def victim(self) -> None:
        while True:
            self.barrier.wait()

    def pass_until_it_breaks(self) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            while True:
                self.barrier.wait(LIMIT_S)
                assert not self.cells[STOP]

    def survivor(self) -> None:
        while self.start.acquire() and self.goes_on:
            self.pass_until_it_breaks()
            self.ended.release()

    def during(self) -> None:
        self.start.release()
        begun = time.monotonic()
        self.pass_until_it_breaks()
        assert time.monotonic() < begun + LIMIT_S, "nobody noticed the death"
        assert self.ended.acquire(timeout=LIMIT_S), "the survivor is still waiting"

    def after(self) -> None:
        assert self.barrier.broken
        self.barrier.reset()

    def stop(self) -> None:
        super().stop()
        self.start.release()


SCENES: tuple[type[Scene], ...] = (
    Excluding,
    ExcludingAgain,
    Taking,
    Releasing,
    Setting,
    Consuming,
    Producing,
    Passing,
)


@contextlib.contextmanager
def playing(kind: type[Scene]) -> Iterator[Scene]:
    """A scene with its survivor at work, checked in the end."""
    scene = kind()
    survivor = in_child(scene.survivor)
    try:
        yield scene
        scene.stop()
        soon(
            lambda: os.waitid(os.P_PID, survivor, os.WEXITED | os.WNOHANG | os.WNOWAIT), "the survivor's end"
        )
        assert reap(survivor) == 0
        survivor = 0
        scene.finish()
    finally:
        if survivor:
            os.kill(survivor, signal.SIGKILL)
            reap(survivor)
        scene.close()


def kill_one(scene: Scene, arm: Callable[[], None], after_s: float) -> bool:
    """Have a victim work until it is struck, or killed after a while; was it struck?"""
    struck = False
    ready, tell = os.pipe()

    def work() -> None:
        scene.prepare()
        os.write(tell, b"x")
        arm()
        scene.victim()

    pid = in_child(work)

    def kill() -> None:
        nonlocal struck
        os.read(ready, 1)
        end = time.monotonic() + after_s
        while time.monotonic() < end and not has_ended(pid):
            time.sleep(0.0005)
        struck = has_ended(pid)
        # It is not reaped yet, whatever it died of.
        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    scene.during()
    killer.join()
    os.close(ready)
    os.close(tell)
    assert reap(pid) == -signal.SIGKILL
    scene.kills += 1
    scene.after()
    return struck


def kill_at_random(kind: type[Scene], dice: Random, kills: int) -> None:
    with playing(kind) as scene:
        for _ in range(kills):
            kill_one(scene, lambda: None, dice.uniform(0.0005, 0.005))


def kill_at_steps(kind: type[Scene], kills: int) -> set[str]:
    """Strike victims at each step of the scene; return the steps that none of them came to."""
    from corral import _native

    arm_fault = _native.arm_fault  # type: ignore[attr-defined]
    missed = set(kind.steps)
    with playing(kind) as scene:
        for number in range(kills):
            step = kind.steps[number % len(kind.steps)]
            nth = 1 + number // len(kind.steps) % 7

            def arm(step: str = step, nth: int = nth) -> None:
                arm_fault(step, nth, signal.SIGKILL)

            if kill_one(scene, arm, 0.005):
                missed.discard(step)
    return missed


def main() -> None:
    """Strike at each step; print the steps at which nobody was killed."""
    for kind in SCENES:
        if len(sys.argv) == 1 or kind.__name__ in sys.argv:
            missed = kill_at_steps(kind, 200)
            print(kind.__name__, *sorted(missed), flush=True)  # noqa: T201 - what the test reads


if __name__ == "__main__":
    main()
