"""Counts the instructions of a task's way, so that a slow-down shows without a quiet machine.

    python -m benchmarks.instructions            compare with benchmarks/instructions.json
    python -m benchmarks.instructions --write    write it down, after a change that is meant

Parent and worker are played by one thread of one process under callgrind, once with few tasks and once with
more: the difference, per task, is what a task costs. Waking and waiting are not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET = Path(__file__).with_name("instructions.json")
FEW, MORE = 1000, 6000
TOLERANCE = 0.1
"""Of the budget: versions of the C library and of the interpreter differ by as much."""


def main() -> int:
    """Compare with the budget, or write it; exit status 1 if a way costs more than it may."""
    parser = argparse.ArgumentParser(
        prog="instructions", description="Count the instructions of a task's way."
    )
    parser.add_argument("--write", action="store_true", help="write the counts down as the budget")
    parser.add_argument("--play", nargs=2, metavar=("WAY", "TASKS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.play:
        WAYS[options.play[0]](int(options.play[1]))
        return 0
    if shutil.which("valgrind") is None:
        print("not counted: there is no valgrind here")
        return 0
    counts = {way: count(way) for way in WAYS}
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    budgets: dict[str, dict[str, int]] = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    if options.write:
        budgets[version] = counts
        BUDGET.write_text(json.dumps(budgets, indent=1, sort_keys=True) + "\n")
    return judge(counts, budgets.get(version))


def judge(counts: dict[str, int], budget: dict[str, int] | None) -> int:
    """Print counts beside the budget; 1 if any is above it."""
    above = False
    for way, cost in counts.items():
        allowed = None if budget is None else budget.get(way)
        over = allowed is not None and cost > allowed * (1 + TOLERANCE)
        above = above or over
        beside = "no budget" if allowed is None else f"{cost / allowed - 1:+.1%} of {allowed:,}"
        print(f"{way:<24} {cost:>9,} instructions a task   {beside}{'   TOO MANY' if over else ''}")
    return int(above)


def count(way: str) -> int:
    """Return the instructions of one task."""
    return (measure(way, MORE) - measure(way, FEW)) // (MORE - FEW)


def measure(way: str, tasks: int) -> int:
    """Return the instructions of a process that runs so many tasks."""
    command = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        sys.executable,
        "-X",
        "faulthandler",
    ]
    command += ["-m", "benchmarks.instructions", "--play", way, str(tasks)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": "0"}
    )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise RuntimeError(f"callgrind does not say what it has counted: {done.stderr[-300:]}")
    return int(found[1])


# --- the ways ---------------------------------------------------------------------------------------


class Played:
    """A pool whose only worker is played by the caller."""

    def __init__(self) -> None:
        from corral import pool
        from corral._backends import local
        from corral._native import Link, identity

        links: list[Link] = []

        def attach(backend: Any, seat: int) -> tuple[Link, Any]:
            del seat
            heap, bell = backend._heap, backend._bell  # noqa: SLF001 - we play its part
            link = Link.create(heap, bell)
            links.append(Link.attach(heap, link.ref, bell.fileno()))
            return link, Itself(identity())

        local.begin = lambda _: None  # type: ignore[attr-defined]
        local.LocalBackend.launch = attach  # type: ignore[method-assign]
        self.pool = pool.Pool(1)
        self.link = links[0]
        self.link.reply(16, 0, 0, b"")

    def work(self) -> None:
        """Do all that the worker was sent."""
        from corral._channel import wire
        from corral._codec import decode, encode_reply

        link = self.link
        while (frame := link.recv(0)) is not None:
            kind, number, _, body = frame
            if kind == wire.CALL:
                args: Any = decode(body)  # type: ignore[arg-type]
                payload, buffers, _ = encode_reply(args[0])
                link.reply(wire.OK, number, link.elapsed_ns(), payload, buffers)


class Itself:
    """This process, as a child that never ends."""

    def __init__(self, identity: int) -> None:
        self.pid = os.getpid()
        self.identity = identity
        # valgrind knows no pidfds; this is never readable either.
        self.sentinel = os.eventfd(0, os.EFD_CLOEXEC)
        self.kept: list[object] = []

    def poll(self) -> None:
        return None

    def wait(self, timeout_s: float | None = None) -> None:
        del timeout_s

    def kill(self) -> None:
        """Live on."""

    def close(self) -> None:
        os.close(self.sentinel)


def round_trips(tasks: int) -> None:
    """Submit one task, do it, take its result."""
    played = Played()
    for number in range(tasks):
        result = played.pool.apply_async(abs, (number,))
        played.work()
        if result.get() != number:
            raise RuntimeError("a wrong result")
    os._exit(0)


def queue_items(tasks: int) -> None:
    """Put a number into a queue and get it."""
    import corral

    queue: Any = corral.Queue()
    for number in range(tasks):
        queue.put(number)
        if queue.get() != number:
            raise RuntimeError("a wrong item")
    os._exit(0)


def locked(tasks: int) -> None:
    """Acquire and release a lock that is free."""
    import corral

    lock: Any = corral.Lock()
    for _ in range(tasks):
        with lock:
            pass
    os._exit(0)


WAYS: dict[str, Callable[[int], None]] = {
    "submit and result": round_trips,
    "queue, put and get": queue_items,
    "lock, with": locked,
}


if __name__ == "__main__":
    sys.exit(main())
