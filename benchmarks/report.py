"""Shows what was measured: a Markdown table with the targets beside, and JSON with everything.

Invariants:
    A figure is the median over the rounds; its spread is the distance from the least to the greatest, in
    percent of the median. A cell that hung or failed in any round is shown as such, never left out.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.workloads import CONTESTANTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.running import Cell, Scale
    from benchmarks.workload import Workload


def conditions(
    cells: Sequence[Cell], scale: Scale, load_before: tuple[float, float, float]
) -> dict[str, Any]:
    """Describe the machine and the run."""
    return {
        "when": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "rounds": 1 + max((cell.round for cell in cells), default=0),
        "sizes divided by": scale.divisor,
        "load before": [round(load, 2) for load in load_before],
        "load after": [round(load, 2) for load in os.getloadavg()],
    }


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def to_json(cells: Sequence[Cell], about: dict[str, Any]) -> str:
    """Keep every single measurement."""
    return json.dumps({"conditions": about, "cells": [cell._asdict() for cell in cells]}, indent=1)


def to_markdown(cells: Sequence[Cell], workloads: Sequence[Workload], about: dict[str, Any]) -> str:
    """Lay out medians, subjects side by side."""
    facts = ", ".join(f"{name} {value}" for name, value in about.items())
    lines = [f"Medians ({facts}).", "± is half the spread between rounds, in percent.", ""]
    section = ""
    subjects: list[str] = []
    for workload in workloads:
        if workload.section != section:
            section = workload.section
            of_section = {each.key for each in workloads if each.section == section}
            seen = {cell.subject for cell in cells if cell.workload in of_section}
            subjects = [name for name in CONTESTANTS if name in seen]
            lines += [
                "",
                f"## {section.capitalize()}",
                "",
                _row(["what", "unit", *subjects, "best vs stdlib", "target", "met"]),
            ]
            lines.append(_row(["---", "---", *["---:"] * (len(subjects) + 3)]))
        lines.extend(_rows(workload, [cell for cell in cells if cell.workload == workload.key], subjects))
    notes = _notes(cells, workloads)
    if notes:
        lines += ["", *notes]
    return "\n".join(lines) + "\n"


def _rows(workload: Workload, cells: Sequence[Cell], subjects: Sequence[str]) -> list[str]:
    """One row per figure of a workload."""
    figures = list(dict.fromkeys(name for cell in cells for name in cell.figures)) or [""]
    rows = []
    for figure in figures:
        medians = {subject: _median(cells, subject, figure) for subject in subjects}
        target = workload.targets.get(figure)
        shown = [_show(cells, subject, figure) for subject in subjects]
        rows.append(
            _row(
                [
                    f"{workload.name}: {figure}",
                    workload.unit,
                    *shown,
                    _against(medians, workload),
                    *_judge(medians, target, workload),
                ]
            )
        )
    return rows


def _values(cells: Sequence[Cell], subject: str, figure: str) -> list[float]:
    return [cell.figures[figure] for cell in cells if cell.subject == subject and figure in cell.figures]


def _median(cells: Sequence[Cell], subject: str, figure: str) -> float | None:
    values = _values(cells, subject, figure)
    return statistics.median(values) if values else None


def _show(cells: Sequence[Cell], subject: str, figure: str) -> str:
    """Show a median with its spread, and what went wrong in any round."""
    values = _values(cells, subject, figure)
    problems = [cell.problem for cell in cells if cell.subject == subject and cell.problem]
    parts = []
    if values:
        median = statistics.median(values)
        spread = 50 * (max(values) - min(values)) / median if median else 0.0
        parts.append(f"{number(median)}" + (f" ±{spread:.0f}%" if len(values) > 1 else ""))
    if problems:
        parts.append(f"**{problems[0].split(':')[0]}**" + (f" {len(problems)}x" if values else ""))
    return ", ".join(parts) or "-"


def _against(medians: dict[str, float | None], workload: Workload) -> str:
    """Compare our better face with the better of the standard library's."""
    better = max if workload.more_is_better else min
    ours, theirs = _of_side(medians, "ours"), _of_side(medians, "stdlib")
    if not ours or not theirs or workload.section == "faults":
        return ""
    mine, other = better(ours), better(theirs)
    low, high = sorted((mine, other))
    if not low:
        return ""
    word = "better" if (mine > other) == workload.more_is_better else "worse"
    return f"{high / low:.3g}x {word}" if high != low else "equal"


def _of_side(medians: dict[str, float | None], side: str) -> list[float]:
    return [value for name, value in medians.items() if value is not None and CONTESTANTS[name].side == side]


def _judge(medians: dict[str, float | None], target: float | None, workload: Workload) -> list[str]:
    """Hold our better face against the target."""
    ours = _of_side(medians, "ours")
    if target is None or not ours:
        return ["" if target is None else number(target), "" if target is None else "no figure"]
    met = max(ours) >= target if workload.more_is_better else min(ours) <= target
    return [f"{'>=' if workload.more_is_better else '<='} {number(target)}", "yes" if met else "**no**"]


def _notes(cells: Sequence[Cell], workloads: Sequence[Workload]) -> list[str]:
    """Name every problem in full, and every subject that got less to do."""
    sufferers: dict[str, dict[str, None]] = {}
    for cell in cells:
        if cell.problem:
            sufferers.setdefault(f"{cell.subject} {cell.problem}", {})[cell.workload] = None
    problems = [f"- {problem} ({'; '.join(where)})" for problem, where in sufferers.items()]
    less: dict[str, list[str]] = {}
    for workload in workloads:
        of_workload = [cell for cell in cells if cell.workload == workload.key]
        full = max((cell.size for cell in of_workload), default=0)
        for cell in of_workload:
            if cell.size < full:
                places = less.setdefault(
                    f"{cell.subject} was given {cell.size:,} instead of {full:,} tasks", []
                )
                if cell.workload not in places:
                    places.append(cell.workload)
    return [*problems, *(f"- {fact} ({'; '.join(places)})" for fact, places in less.items())]


def number(value: float) -> str:
    """Show three digits."""
    size = abs(value)
    return (
        f"{value:,.0f}"
        if size >= 100 or value == int(value)
        else f"{value:.1f}"
        if size >= 10
        else f"{value:.3g}"
    )


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
