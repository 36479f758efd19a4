"""Random faults for as long as one likes: `python -m tests.faults.soak --minutes N [--seed S]`.

Episode after episode, pools, queues, locks and values are used while their users are killed at random.
An oracle counts each item: nothing twice, nothing lost but what a dead process held, nothing left behind.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.conftest import Traces

import corral

if TYPE_CHECKING:
    from collections.abc import Callable

METHODS = ("forkserver", "forkserver", "fork", "spawn")
"""The default more often."""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM)
GRACE_S = 5.0
WARM_EPISODES = 8
MAX_GROWTH_MB = 64


class Wrong(Exception):
    """What the oracle found."""


def main() -> int:
    """Run episodes until the time is up; the exit status says whether all were right."""
    parser = argparse.ArgumentParser(prog="soak", description="Random faults, with an oracle.")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", choices=sorted(EPISODES), action="append")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}", flush=True)
    rng = random.Random(seed)
    end = time.monotonic() + options.minutes * 60
    counts: Counter[str] = Counter()
    # What a process makes once and keeps is there from now on.
    for method in sorted(set(METHODS)):
        map_episode(random.Random(seed), method)
    gc.collect()
    number = 0
    memory_mb = 0.0
    while time.monotonic() < end:
        name = rng.choice(options.only or sorted(EPISODES))
        before = traces()
        try:
            counts.update(EPISODES[name](random.Random(rng.random()), rng.choice(METHODS)))
            settle(before)
        except Wrong as wrong:
            print(f"episode {number} ({name}), seed {seed}: {wrong}")
            return 1
        number += 1
        counts[name] += 1
        if number == WARM_EPISODES:
            memory_mb = resident_mb()
        elif number > WARM_EPISODES and resident_mb() > memory_mb + MAX_GROWTH_MB:
            print(f"episode {number} ({name}), seed {seed}: grown from {memory_mb} to {resident_mb()} MB")
            return 1
    said = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
    print(f"seed {seed}: {number} episodes without a fault of ours: {said}")
    return 0


def traces() -> Traces:
    """What this process holds; other programs of the machine may name semaphores meanwhile, we never do."""
    taken = Traces.take()
    return taken._replace(
        shared_memory=frozenset(name for name in taken.shared_memory if not name.startswith("sem."))
    )


def settle(before: Traces) -> None:
    """Wait until what an episode used is gone."""
    end = time.monotonic() + GRACE_S
    while (left := traces().added_since(before)) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.02)
    if left:
        raise Wrong(f"left behind:\n{left}")


def resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096 / 1e6


def kill(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


# --- pools ------------------------------------------------------------------------------------------


def square(number: int) -> tuple[int, int]:
    time.sleep(0.002)
    return number * number, os.getpid()


def pool_episode(rng: random.Random, method: str) -> dict[str, int]:
    """Kill workers of a pool while it works."""
    total, kills, lost = rng.randrange(50, 300), 0, 0
    with corral.get_context(method).Pool(rng.randrange(1, 4)) as pool:  # type: ignore[attr-defined]
        results = [pool.apply_async(square, (number,)) for number in range(total)]
        pids: set[int] = set()
        for number, result in enumerate(results):
            try:
                value, pid = result.get(60)
            except corral.WorkerLost:
                lost += 1
                continue
            except corral.TimeoutError:
                raise Wrong(f"task {number} of {total} hangs ({method})") from None
            if value != number * number:
                raise Wrong(f"task {number} gave {value}")
            pids.add(pid)
            # Rarely enough that the pool may go on: it gives up when workers die faster than it can tell why.
            if rng.random() < 0.02:
                kills += kill(rng.choice(sorted(pids)), rng.choice(SIGNALS))
                pids.clear()
        if lost > kills:
            raise Wrong(f"{lost} tasks lost by {kills} kills ({method})")
    return {"kills": kills, "tasks": total, "tasks lost": lost}


def map_episode(rng: random.Random, method: str) -> dict[str, int]:
    """Kill workers while a stream runs through them."""
    total, kills, lost, seen = rng.randrange(50, 300), 0, 0, set()
    with corral.get_context(method).Pool(2) as pool:  # type: ignore[attr-defined]
        results = pool.imap_unordered(square, range(total))
        while True:
            try:
                value, pid = results.next(60)
            except StopIteration:
                break
            except corral.WorkerLost:
                lost += 1
                continue
            except corral.TimeoutError:
                raise Wrong(f"a stream of {total} hangs after {len(seen)} ({method})") from None
            if value in seen:
                raise Wrong(f"{value} came twice ({method})")
            seen.add(value)
            if rng.random() < 0.02:
                kills += kill(pid, rng.choice(SIGNALS))
        if len(seen) + lost != total:
            raise Wrong(f"{len(seen)} values and {lost} losses of {total} ({method})")
    return {"kills": kills, "tasks": total, "tasks lost": lost}


# --- queues -----------------------------------------------------------------------------------------


def produce(queue: Any, first: int, count: int, log: str) -> None:
    with open(log, "ab", buffering=0) as done:
        for number in range(first, first + count):
            queue.put((number, b"x" * (number % 977)))
            done.write(b"%d\n" % number)


def consume(queue: Any, log: str) -> None:
    with open(log, "ab", buffering=0) as done:
        while True:
            number, filling = queue.get()
            if number < 0:
                return
            if len(filling) != number % 977:
                os.abort()
            done.write(b"%d\n" % number)


def read_log(path: str) -> list[int]:
    if not os.path.exists(path):
        return []
    with open(path, "rb") as lines:
        return [int(line) for line in lines if line.endswith(b"\n")]


def queue_episode(rng: random.Random, method: str) -> dict[str, int]:
    """Kill producers and consumers of a queue."""
    context: Any = corral.get_context(method)
    makers, takers = rng.randrange(1, 4), rng.randrange(1, 4)
    queue = context.Queue(rng.choice((0, 0, 10)))
    with tempfile.TemporaryDirectory() as folder:
        put_logs = [os.path.join(folder, f"put{index}") for index in range(makers)]
        got_logs = [os.path.join(folder, f"got{index}") for index in range(takers)]
        producers = [
            context.Process(target=produce, args=(queue, index * 10_000, 500, log))
            for index, log in enumerate(put_logs)
        ]
        consumers = [context.Process(target=consume, args=(queue, log)) for log in got_logs]
        killed = kill_some(rng, producers, consumers)
        # Somebody must live who makes room.
        spare = os.path.join(folder, "spare")
        last = context.Process(target=consume, args=(queue, spare))
        last.start()
        for producer in producers:
            join(producer, "a producer", method)
        for _ in (*consumers, last):
            queue.put((-1, b""))
        for consumer in (*consumers, last):
            join(consumer, "a consumer", method)
        put = [number for log in put_logs for number in read_log(log)]
        got = [number for log in (*got_logs, spare) for number in read_log(log)]
    queue.close()
    if len(got) != len(set(got)):
        raise Wrong(f"items came twice ({method})")
    missing = set(put) - set(got)
    if len(missing) > killed["consumers"]:
        raise Wrong(f"{len(missing)} items lost with {killed['consumers']} consumers ({method})")
    strange = set(got) - set(put)
    if len(strange) > killed["producers"]:
        raise Wrong(f"{len(strange)} items that nobody has put ({method})")
    return {"kills": sum(killed.values()), "items": len(got)}


def kill_some(rng: random.Random, producers: list[Any], consumers: list[Any]) -> dict[str, int]:
    """Start all, and kill some at times of their own."""
    for process in (*producers, *consumers):
        process.start()
    killed = {"producers": 0, "consumers": 0}
    for kind, processes in (("producers", producers), ("consumers", consumers)):
        for process in processes:
            if rng.random() < 0.5:
                time.sleep(rng.random() * 0.02)
                killed[kind] += kill_process(process)
    return killed


def kill_process(process: Any) -> bool:
    process.kill()
    process.join(30)
    return bool(process.exitcode == -signal.SIGKILL)


def join(process: Any, what: str, method: str) -> None:
    process.join(60)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise Wrong(f"{what} hangs ({method})")
    if process.exitcode not in {0, -signal.SIGKILL}:
        raise Wrong(f"{what} ended with {process.exitcode} ({method})")
    process.close()


# --- locks and values -------------------------------------------------------------------------------


def count(value: Any, lock: Any, times: int, log: str) -> None:
    with open(log, "ab", buffering=0) as done:
        for number in range(times):
            with lock:
                value.value += 1
            done.write(b"%d\n" % number)


def lock_episode(rng: random.Random, method: str) -> dict[str, int]:
    """Kill processes that count under a lock."""
    context: Any = corral.get_context(method)
    value = context.Value("q", 0, lock=False)
    lock = rng.choice((context.Lock, context.RLock))(on_owner_death="ignore")
    times = 2000
    with tempfile.TemporaryDirectory() as folder:
        logs = [os.path.join(folder, str(index)) for index in range(rng.randrange(2, 5))]
        processes = [context.Process(target=count, args=(value, lock, times, log)) for log in logs]
        killed = kill_some(rng, processes, [])["producers"]
        for process in processes:
            join(process, "a process that counts", method)
        logged = sum(len(read_log(log)) for log in logs)
    if not lock.acquire(timeout=30):
        raise Wrong(f"nobody lives, and the lock is held ({method})")
    lock.release()
    if not logged <= value.value <= logged + killed:
        raise Wrong(f"counted to {value.value}, {logged} times, with {killed} killed ({method})")
    return {"kills": killed, "increments": value.value}


EPISODES: dict[str, Callable[[random.Random, str], dict[str, int]]] = {
    "pools": pool_episode,
    "streams": map_episode,
    "queues": queue_episode,
    "locks": lock_episode,
}


if __name__ == "__main__":
    sys.exit(main())
