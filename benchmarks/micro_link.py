"""What one frame costs: calls on a link in one process, and round trips between two.

Run it: `.venv/bin/python benchmarks/micro_link.py`. Each figure is a median, beside the smallest.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING

from corral._native import Bell, Heap, Link, WaitSet

if TYPE_CHECKING:
    from collections.abc import Callable

BODY = b"x" * 20
BATCH = 256
RUNS = 200
SPIN_US = 50


def per_call_ns(prepare: Callable[[], object], call: Callable[[], object]) -> tuple[float, float]:
    """Time `call`, which makes BATCH operations, after `prepare`: median and smallest nanoseconds of one."""
    spans = []
    for _ in range(RUNS):
        prepare()
        begin = time.perf_counter_ns()
        call()
        spans.append((time.perf_counter_ns() - begin) / BATCH)
    return statistics.median(spans), min(spans)


def measure_calls() -> None:
    """Both sides in this process, one thread: nobody sleeps, nothing is waited for."""
    heap = Heap.create()
    bell = Bell.create(heap)
    parent = Link.create(heap, bell)
    worker = Link.attach(heap, parent.ref, bell.fileno())
    send = repeat(lambda number: parent.send(1, number, 0, BODY))
    recv = repeat(lambda _: worker.recv(0))
    reply = repeat(lambda number: worker.reply(1, number, 0, BODY))

    def recv_many() -> None:
        parent.recv_many(BATCH)

    nothing = repeat(lambda _: None)
    show("an empty call of Python, part of the next three", per_call_ns(nothing, nothing))
    # Each direction is emptied before it is filled again.
    show("send", per_call_ns(recv, send))
    show("recv", per_call_ns(send, recv))
    show("reply", per_call_ns(recv_many, reply))
    show("recv_many, per frame", per_call_ns(reply, recv_many))


def repeat(call: Callable[[int], object]) -> Callable[[], None]:
    """Make a function that makes BATCH calls."""

    def calls() -> None:
        for number in range(BATCH):
            call(number)

    return calls


def serve(heap: Heap, ref: int, bell_fd: int, spin_us: int) -> None:
    """Be the worker: reply to everything, and end on kind 0."""
    link = Link.attach(heap, ref, bell_fd)
    link.spin_us = spin_us
    while (frame := link.recv()) is not None and frame[0]:
        link.reply(*frame)


def round_trips_us(spin_us: int, count: int) -> list[float]:
    """Ping-pong with a forked worker, both sides spinning for up to `spin_us`."""
    heap = Heap.create()
    bell = Bell.create(heap)
    link = Link.create(heap, bell)
    waits = WaitSet(bell)
    waits.add_link(1, link)
    pid = os.fork()
    if not pid:
        try:
            serve(heap, link.ref, bell.fileno(), spin_us)
        finally:
            os._exit(0)
    spans = []
    for number in range(count):
        begin = time.perf_counter_ns()
        link.send(1, number, 0, BODY)
        while not waits.wait(None, spin_us):
            pass
        link.recv_many()
        spans.append((time.perf_counter_ns() - begin) / 1000)
    link.send(0, 0, 0, b"")
    os.waitpid(pid, 0)
    return spans


def show(what: str, figures: tuple[float, float]) -> None:
    """Print one line."""
    print(f"{what:48} {figures[0]:8.0f} ns   smallest {figures[1]:8.0f} ns")


def show_round_trips(what: str, spans: list[float]) -> None:
    """Print one line."""
    cuts = statistics.quantiles(spans, n=100)
    print(f"{what:48} p50 {cuts[49]:7.1f} us   p99 {cuts[98]:7.1f} us   smallest {min(spans):6.1f} us")


def main() -> None:
    """Measure everything."""
    measure_calls()
    show_round_trips(f"round trip, spinning up to {SPIN_US} us", round_trips_us(SPIN_US, 20_000))
    show_round_trips("round trip, parked", round_trips_us(0, 3000))
    cpu = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpu})
    show_round_trips(f"round trip, spinning up to {SPIN_US} us, one CPU", round_trips_us(SPIN_US, 3000))
    show_round_trips("round trip, parked, one CPU", round_trips_us(0, 3000))


if __name__ == "__main__":
    main()
