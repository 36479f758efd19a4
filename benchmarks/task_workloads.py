"""The workloads of those who run tasks: start, tasks, exercise, faults.

Runs in: a fresh process per cell (`benchmarks.cell`). A workload's function takes a subject's class and a
size and returns its figures by name, in the workload's unit; it repeats what is short and gives the median.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks import tasks
from benchmarks.subjects import OURS
from benchmarks.workload import WORKERS, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.subjects import Subject

_GIGABYTE = 1 << 30


# --- start -------------------------------------------------------------------------------------------


def process_start(subject: type[Subject], size: int) -> dict[str, float]:
    """Start and join a process that does nothing, by each start method."""
    figures = {}
    for method in ("forkserver", "fork", "spawn"):
        times = list(_process_starts(subject, method, size if method != "spawn" else max(3, size // 3)))
        figures[method] = statistics.median(times) * 1e3
    return figures


def process_start_big(subject: type[Subject], size: int) -> dict[str, float]:
    """The same by the default method and by fork, from a parent that has a gigabyte in use."""
    ballast = bytearray(_GIGABYTE)
    ballast[::4096] = b"x" * (_GIGABYTE // 4096)
    figures = {}
    for method in ("forkserver", "fork"):
        figures[method] = statistics.median(_process_starts(subject, method, size)) * 1e3
    return figures


def _process_starts(subject: type[Subject], method: str, count: int) -> Iterator[float]:
    """Time `count` starts, after one that starts the server."""
    library: Any = importlib.import_module("corral" if subject in OURS else "multiprocessing")
    context = library.get_context(method)
    for index in range(count + 1):
        start = time.perf_counter()
        process = context.Process(target=tasks.noop, args=(1,))
        process.start()
        process.join()
        if index:
            yield time.perf_counter() - start


def first_result(subject: type[Subject], _size: int) -> dict[str, float]:
    """Start a pool and get a first result: the process's first pool, then another one."""
    figures = {}
    for name in ("first pool", "next pool"):
        start = time.perf_counter()
        with subject(WORKERS) as pool:
            pool.submit(tasks.noop, 1)()
            figures[name] = (time.perf_counter() - start) * 1e3
    return figures


def whole_script(subject: type[Subject], size: int) -> dict[str, float]:
    """Run a program that maps 100 items: interpreter, import, pool, exit."""
    times = []
    for _ in range(size):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", subject.script], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return {"wall": statistics.median(times) * 1e3}


def idle_memory(subject: type[Subject], _size: int) -> dict[str, float]:
    """Weigh a worker that has run a task and waits for the next."""
    with subject(WORKERS) as pool:
        pids = set(pool.map(tasks.pid_after, [0.05] * 4 * WORKERS, 1)) - {os.getpid()}
        weights = [_weigh(pid) for pid in pids]
    return {
        "USS": statistics.median(uss for uss, _ in weights),
        "PSS": statistics.median(pss for _, pss in weights),
    }


def _weigh(pid: int) -> tuple[float, float]:
    """Read a process's own and proportional memory, in MB."""
    sizes = {}
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if rest.endswith("kB\n"):
                sizes[name] = int(rest.split()[0]) / 1000
    return sizes["Private_Clean"] + sizes["Private_Dirty"], sizes["Pss"]


# --- tasks -------------------------------------------------------------------------------------------


def round_trip(subject: type[Subject], size: int) -> dict[str, float]:
    """Submit one task that does nothing and wait for its result, again and again."""
    with subject(WORKERS) as pool:
        return _percentiles(_round_trips(pool, size, pause_s=0))


def round_trip_after_idling(subject: type[Subject], size: int) -> dict[str, float]:
    """The same with everything asleep."""
    with subject(WORKERS) as pool:
        return {"p50": _percentiles(_round_trips(pool, size, pause_s=0.01))["p50"]}


def _round_trips(pool: Subject, count: int, *, pause_s: float) -> list[float]:
    for _ in range(min(count, 200)):
        pool.submit(tasks.noop, 1)()
    times = []
    for _ in range(count):
        if pause_s:
            time.sleep(pause_s)
        start = time.perf_counter()
        pool.submit(tasks.noop, 1)()
        times.append(time.perf_counter() - start)
    return times


def _percentiles(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {"p50": times[len(times) // 2] * 1e6, "p99": times[len(times) * 99 // 100] * 1e6}


def submit_and_gather(subject: type[Subject], size: int) -> dict[str, float]:
    """Submit tasks one by one, then collect all results."""
    with subject(WORKERS) as pool:
        _warm(pool)
        start = time.perf_counter()
        waits = [pool.submit(tasks.noop, index) for index in range(size)]
        results = [wait() for wait in waits]
        took_s = time.perf_counter() - start
        _check(results == list(range(size)))
    return {"per task": took_s / size * 1e6}


def unordered_one_by_one(subject: type[Subject], size: int) -> dict[str, float]:
    """Map one task at a time, results as they come."""
    return _timed_unordered(subject, size, chunksize=1)


def unordered(subject: type[Subject], size: int) -> dict[str, float]:
    """Map with results as they come, as it comes from the box."""
    return _timed_unordered(subject, size, chunksize=None)


def _timed_unordered(subject: type[Subject], size: int, *, chunksize: int | None) -> dict[str, float]:
    with subject(WORKERS) as pool:
        _warm(pool)
        start = time.perf_counter()
        results = list(pool.unordered(tasks.noop, range(size), chunksize))
        took_s = time.perf_counter() - start
        _check(correct=sorted(results) == list(range(size)))
    return {"per task": took_s / size * 1e6}


def map_one_by_one(subject: type[Subject], size: int) -> dict[str, float]:
    """Map in order with a chunk size of 1."""
    return _timed_map(subject, size, chunksize=1)


def map_tiny(subject: type[Subject], size: int) -> dict[str, float]:
    """Map many tiny items, as they come from the box."""
    return _timed_map(subject, size, chunksize=None)


def _timed_map(subject: type[Subject], size: int, *, chunksize: int | None) -> dict[str, float]:
    with subject(WORKERS) as pool:
        _warm(pool)
        start = time.perf_counter()
        results = pool.map(tasks.noop, range(size), chunksize)
        took_s = time.perf_counter() - start
        _check(list(results) == list(range(size)))
    return {"per item": took_s / size * 1e6}


def _warm(pool: Subject) -> None:
    """Have all workers started and the task function known."""
    list(pool.map(tasks.noop, range(50 * WORKERS), 1))


def _check(correct: bool) -> None:
    if not correct:
        raise RuntimeError("the results are wrong")


# --- exercise ----------------------------------------------------------------------------------------


def exercise(subject: type[Subject], size: int) -> dict[str, float]:
    """Compute on numbers with a default call; the pool's start and end belong to the time."""
    sample = range(min(size, 50_000))
    ratios = []
    for _ in range(3 if size <= 10_000 else 1):
        start = time.perf_counter()
        expected = [tasks.sum_of_squares(number) for number in sample]
        sequential_s = (time.perf_counter() - start) * size / len(sample)
        start = time.perf_counter()
        with subject(WORKERS) as pool:
            results = list(pool.map(tasks.sum_of_squares, range(size)))
        ratios.append(sequential_s / (time.perf_counter() - start))
        _check(results[: len(sample)] == expected)
    return {"speed-up": statistics.median(ratios)}


def skewed_milliseconds(subject: type[Subject], size: int) -> dict[str, float]:
    """Map tasks of 1 ms with the long ones, 20 ms, last."""
    return _makespan(subject, [0.001] * size + [0.02] * (size // 20))


def skewed_microseconds(subject: type[Subject], size: int) -> dict[str, float]:
    """Map tasks of 10 us with the long ones, 200 us, last."""
    return _makespan(subject, [0.00001] * size + [0.0002] * (size // 20))


def _makespan(subject: type[Subject], durations: list[float]) -> dict[str, float]:
    """Time a default map of known durations against their fair share; the workers are warm."""
    with subject(WORKERS) as pool:
        _warm(pool)
        start = time.perf_counter()
        list(pool.map(tasks.spin, durations))
        took_s = time.perf_counter() - start
    return {"of ideal": took_s / max(sum(durations) / WORKERS, *durations)}


# --- faults ------------------------------------------------------------------------------------------


def ten_kills(subject: type[Subject], size: int) -> dict[str, float]:
    """Kill a worker ten times while `size` tasks of 10 ms run; count the tasks without a result."""
    rng = random.Random(1)
    lost, kills, next_kill, pids = 0, 0, 0.0, [0] * WORKERS
    with subject(WORKERS) as pool:
        waits = [pool.submit(tasks.pid_after, 0.01) for _ in range(size)]
        for wait in waits:
            try:
                pids = [*pids[1:], wait()]
            except Exception:
                lost += 1
                continue
            if kills < 10 and time.monotonic() > next_kill:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(sorted({pid for pid in pids if pid})), signal.SIGKILL)
                    kills += 1
                next_kill = time.monotonic() + 0.1
    return {"tasks lost": lost}


OF_TASKS = (
    Workload(
        "start",
        "process start and join",
        "ms",
        process_start,
        30,
        {"forkserver": 1.5, "fork": 1.5, "spawn": 12},
        pools_only=True,
    ),
    Workload(
        "start",
        "the same from a parent with 1 GB",
        "ms",
        process_start_big,
        15,
        {"forkserver": 2},
        pools_only=True,
    ),
    Workload("start", "pool to its first result", "ms", first_result, 1, {"first pool": 25, "next pool": 8}),
    Workload("start", "whole script that maps 100 items", "ms", whole_script, 7, {"wall": 40}),
    Workload("start", "memory of an idle worker", "MB", idle_memory, 1, {"USS": 2, "PSS": 4}),
    Workload("tasks", "round trip of a no-op", "us", round_trip, 3000, {"p50": 10, "p99": 60}),
    Workload("tasks", "round trip after 10 ms of idling", "us", round_trip_after_idling, 100, {"p50": 120}),
    Workload(
        "tasks", "submit no-ops, then gather", "us", submit_and_gather, 100_000, {"per task": 3}, scaled=True
    ),
    Workload(
        "tasks", "unordered, chunk 1", "us", unordered_one_by_one, 100_000, {"per task": 2}, scaled=True
    ),
    Workload(
        "tasks",
        "unordered, default chunks",
        "us",
        unordered,
        100_000,
        {"per task": 2},
        scaled=True,
        pools_only=True,
    ),
    Workload("tasks", "map, chunk 1", "us", map_one_by_one, 100_000, {"per item": 1.5}, scaled=True),
    Workload(
        "tasks",
        "map of tiny items, default chunks",
        "us",
        map_tiny,
        1_000_000,
        {"per item": 0.06},
        scaled=True,
    ),
    Workload(
        "exercise",
        "10,000 numbers, default call",
        "x",
        exercise,
        10_000,
        {"speed-up": 1.9},
        more_is_better=True,
    ),
    Workload(
        "exercise",
        "200,000 numbers, default call",
        "x",
        exercise,
        200_000,
        {"speed-up": 1.95},
        scaled=True,
        more_is_better=True,
    ),
    Workload(
        "exercise",
        "skewed ms, long ones last, default chunks",
        "x",
        skewed_milliseconds,
        600,
        {"of ideal": 1.05},
    ),
    Workload(
        "exercise",
        "skewed us, long ones last, default chunks",
        "x",
        skewed_microseconds,
        40_000,
        {"of ideal": 1.1},
        scaled=True,
    ),
    Workload(
        "faults",
        "ten workers killed during a map",
        "of 300",
        ten_kills,
        300,
        {"tasks lost": 10},
        divisible=False,
        rounds=1,
    ),
)
