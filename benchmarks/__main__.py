"""The command: `python -m benchmarks [--quick] [--only WORD] [--peers] [--json FILE] [--markdown FILE]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import report, running, subjects, workloads

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> int:
    """Measure, then print. Exit status 1 if corral hung or failed anywhere."""
    options = parse_arguments()
    scale = running.QUICK if options.quick else running.FULL
    if options.rounds:
        scale = scale._replace(rounds=options.rounds)
    scale = scale._replace(budget_s=options.budget_s)
    chosen = [
        work
        for work in workloads.WORKLOADS
        if not options.only or any(word in work.key for word in options.only)
    ]
    sides = {"ours"} if options.ours else {"ours", "stdlib", "peer"} if options.peers else {"ours", "stdlib"}

    def choose(contestant: type[subjects.Contestant]) -> bool:
        return contestant.side in sides and subjects.installed(contestant)

    if not chosen:
        print(f"no workload has {' or '.join(options.only)} in its name; there are:", file=sys.stderr)
        print("\n".join(f"  {key}" for key in workloads.BY_KEY), file=sys.stderr)
        return 2

    start = time.perf_counter()
    load = os.getloadavg()
    tell = teller(start)
    cells = list(running.run_all(chosen, choose, scale, tell))
    tell(f"done in {time.perf_counter() - start:.0f} s\n")
    about = report.conditions(cells, scale, load)
    text = report.to_markdown(cells, chosen, about)
    print(text)
    if options.json:
        Path(options.json).write_text(report.to_json(cells, about), encoding="utf-8")
    if options.markdown:
        Path(options.markdown).write_text(text, encoding="utf-8")
    return int(any(cell.problem and workloads.CONTESTANTS[cell.subject].side == "ours" for cell in cells))


def teller(start: float) -> Callable[[str], None]:
    """Make something that says on stderr where the run is."""

    def tell(line: str) -> None:
        print(f"[{time.perf_counter() - start:4.0f} s] {line}", file=sys.stderr, flush=True)

    return tell


def parse_arguments() -> argparse.Namespace:
    """Read what can be chosen."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description="corral beside the standard library, in one run"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of a tenth of the work: half a minute"
    )
    parser.add_argument(
        "--only", action="append", metavar="WORD", help="only workloads with WORD in their name"
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often every cell is run")
    parser.add_argument(
        "--budget-s",
        type=float,
        default=345,
        metavar="S",
        help="begin no round that would end later (default: 345)",
    )
    parser.add_argument("--ours", action="store_true", help="corral alone")
    parser.add_argument("--peers", action="store_true", help="also loky, pebble and mpire, where installed")
    parser.add_argument("--json", metavar="FILE", help="write every measurement to FILE")
    parser.add_argument("--markdown", metavar="FILE", help="write the table to FILE")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
