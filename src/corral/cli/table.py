"""Prints run times side by side: one row per way of running the same work.

Role in the flow:
    ``corral compare`` and ``examples/parallel_processor.py`` collect `Run` records and print them here,
    so both show the same table.

Invariants:
    The first run is the sequential one; speed-up and overhead are measured against it.
"""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADINGS = ("run", "time", "speed-up", "of ideal", "overhead", "per item")


class Run(NamedTuple):
    """One way of running the work, and how long it took.

    Attributes:
        name: What the row is called, such as ``corral.Pool``.
        seconds: Wall time, the start and the end of the workers included.
    """

    name: str
    seconds: float


def cores_available() -> int:
    """Count the processors this process may use (affinity respected)."""
    return len(os.sched_getaffinity(0))


def conditions(*, workers: int, items: int, unit: str) -> str:
    """Describe what the figures of a table depend on, in one line."""
    return (
        f"{items:,} {unit}, {workers} workers, {cores_available()} cores available, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )


def note_on_load() -> str:
    """Warn of a machine that is busy already: to be asked before the runs, whose load would be ours."""
    load = os.getloadavg()[0]
    if load <= cores_available() / 2:
        return ""
    return f"(load average {load:.1f} before we began: other work may share the cores)\n"


def lanes(*, workers: int, items: int) -> int:
    """Count what can really run at once: the least of workers, cores and items."""
    return max(1, min(workers, cores_available(), items))


def render(runs: Sequence[Run], *, workers: int, items: int) -> str:
    """Lay out `runs` as a table; the first one is sequential, the others use `workers`.

    Overhead is the time beyond the ideal, which is the sequential time divided by what can run at once.
    """
    baseline, *others = runs
    width = lanes(workers=workers, items=items)
    ideal_s = baseline.seconds / width
    rows = [_HEADINGS, (baseline.name, duration(baseline.seconds), "1.00x", "", "", "")]
    for run in others:
        speed_up = baseline.seconds / run.seconds if run.seconds else float("inf")
        overhead_s = run.seconds - ideal_s
        rows.append(
            (
                run.name,
                duration(run.seconds),
                f"{speed_up:.2f}x",
                f"{100 * speed_up / width:.0f} %",
                duration(overhead_s),
                duration(overhead_s / items) if items else "",
            ),
        )
    return "\n".join(
        [
            *_align(rows),
            f"(ideal: sequential / {width}; overhead: time beyond the ideal, in all and per item)",
        ]
    )


def duration(seconds: float) -> str:
    """Show a time with three digits and the unit that suits it."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(seconds) >= scale:
            return f"{_digits(seconds / scale)} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _digits(value: float) -> str:
    """Keep about three digits of a value of at least one."""
    size = abs(value)
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"  # noqa: PLR2004 - decimal places


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Pad the cells: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
