"""Runs cells, each in a process of its own, and collects what they measured or how they failed.

Role in the flow: `benchmarks.__main__` asks for a `Campaign`; `benchmarks.report` shows its results.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.subjects import TASK_RUNNERS, PoolSubject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.subjects import Contestant
    from benchmarks.workload import Workload

_SMALL = 20_000
"""The most small tasks that a slow subject is given."""


class Cell(NamedTuple):
    """What one process measured: figures, or what went wrong."""

    workload: str
    subject: str
    round: int
    size: int
    seconds: float
    figures: dict[str, float]
    problem: str = ""


class Scale(NamedTuple):
    """How much is measured.

    Attributes:
        rounds: How often every cell is run.
        divisor: By how much sizes are divided.
        limit_s: When a cell counts as hanging.
        budget_s: When no further round is begun that would end later, going by those before it.
    """

    rounds: int
    divisor: int
    limit_s: float
    budget_s: float = 345


FULL = Scale(rounds=3, divisor=1, limit_s=25)
QUICK = Scale(rounds=1, divisor=10, limit_s=20)


def run_all(
    workloads: Sequence[Workload],
    choose: Callable[[type[Contestant]], bool],
    scale: Scale,
    tell: Callable[[str], None],
) -> Iterator[Cell]:
    """Run every workload for every contestant chosen in every round; they take turns at being first."""
    start = time.perf_counter()
    for number in range(scale.rounds):
        elapsed_s = time.perf_counter() - start
        if number and elapsed_s * (number + 1) / number > scale.budget_s:
            tell(f"no round {number + 1}: it would end after {scale.budget_s:g} s (--budget-s)")
            return
        for index, workload in enumerate(workloads):
            if workload.rounds and number >= workload.rounds:
                continue
            tell(f"round {number + 1} of {scale.rounds}: {workload.key}")
            subjects = [each for each in contestants(workload) if choose(each)]
            turn = (number + index) % max(1, len(subjects))
            for subject in (*subjects[turn:], *subjects[:turn]):
                yield run_cell(workload, subject, number, scale)


def contestants(workload: Workload) -> list[type[Contestant]]:
    """Name those whom a workload measures."""
    if workload.pools_only:
        return [each for each in TASK_RUNNERS if issubclass(each, PoolSubject)]
    return list(workload.among or TASK_RUNNERS)


def run_cell(workload: Workload, subject: type[Contestant], number: int, scale: Scale) -> Cell:
    """Run one cell in a fresh process. Blocking: `limit_s` at most, then all its processes are killed."""
    size = size_for(workload, subject, scale)
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.cell", workload.key, subject.name, str(size)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    figures: dict[str, float] = {}
    try:
        output, complaints = process.communicate(timeout=scale.limit_s)
        problem = _problem(process.returncode, complaints)
        if not problem:
            figures = json.loads(output)
    except subprocess.TimeoutExpired:
        problem = f"hangs (> {scale.limit_s:g} s)"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what a finished cell may have left behind
        process.communicate()
    return Cell(workload.key, subject.name, number, size, time.perf_counter() - start, figures, problem)


def size_for(workload: Workload, subject: type[Contestant], scale: Scale) -> int:
    """Say how much of a workload a subject gets: a slow one gets fewer small tasks."""
    size = workload.size
    if workload.scaled and subject.slowness > 1:
        size = min(size // subject.slowness, _SMALL)
    return max(1, size // (scale.divisor if workload.divisible else 1))


def _problem(code: int, complaints: str) -> str:
    """Say how a cell failed; empty if it did not."""
    if code == 0:
        return ""
    last = complaints.strip().splitlines()[-1:] or [""]
    how = f"killed by signal {-code}" if code < 0 else "fails"
    return f"{how}: {last[0][:120]}"
