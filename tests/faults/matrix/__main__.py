"""Run the crash matrix and print its table: `python -m tests.faults.matrix [--method M] [--cause C] [...]`.

A child runs the cells and says how each ended; when it falls silent, the cell it was at hangs, and another
child goes on with the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter

from tests.faults.matrix.causes import STRIKES
from tests.faults.matrix.cells import CALLS, METHODS, PHASES, Cell, all_cells, run

SILENCE_S = 20.0
"""How long a cell may take before it counts as hanging."""


def main() -> int:
    """Run what the options choose; the exit status says whether all cells ended as they should."""
    parser = argparse.ArgumentParser(prog="matrix", description="Run the crash matrix and print its table.")
    for name in ("method", "call", "phase", "cause"):
        parser.add_argument(f"--{name}", action="append", help="only this; may be repeated")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    chosen = [
        cell
        for cell in all_cells()
        if all(
            getattr(options, name) is None or getattr(cell, name) in getattr(options, name)
            for name in Cell._fields
        )
    ]
    begin = time.monotonic()
    verdicts = run_all(chosen)
    print_table(verdicts)
    bad = {cell: verdict for cell, verdict in verdicts.items() if verdict}
    for cell, verdict in bad.items():
        print(f"{cell}: {verdict}")
    print(f"{len(verdicts)} cells, {len(bad)} not as they should be, {time.monotonic() - begin:.0f} s")
    return 1 if bad else 0


def serve() -> int:
    """Run the cells that come on standard input, saying on standard output how each ended."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            cell = Cell(*json.loads(line))
            try:
                verdict = run(cell, folder)
            except BaseException as error:
                verdict = f"raised {type(error).__name__}: {error}"
            print(json.dumps(verdict), file=out, flush=True)
    return 0


def run_all(cells: list[Cell]) -> dict[Cell, str]:
    """Run the cells in children; a child that is silent for too long is replaced."""
    verdicts: dict[Cell, str] = {}
    left = cells
    while left:
        left = left[run_some(left, verdicts) :]
    return verdicts


def run_some(cells: list[Cell], verdicts: dict[Cell, str]) -> int:
    """Run cells in one child until it is through or hangs; return how many were judged."""
    command = [sys.executable, "-m", "tests.faults.matrix", "--serve"]
    with tempfile.TemporaryFile() as noise:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise)
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            for number, cell in enumerate(cells):
                child.stdin.write(json.dumps(cell).encode() + b"\n")
                child.stdin.flush()
                ready, _, _ = select.select([child.stdout], [], [], SILENCE_S)
                line = child.stdout.readline() if ready else b""
                if not line:
                    noise.seek(0)
                    tail = noise.read()[-300:].decode(errors="replace") if ready else ""
                    verdicts[cell] = f"the caller died: {tail}" if ready else "HANGS"
                    return number + 1
                verdicts[cell] = json.loads(line)
                if sys.stderr.isatty():
                    print(f"\r{len(verdicts)} {cell}\x1b[K", end="", file=sys.stderr)
            return len(cells)
        finally:
            child.stdin.close()
            if child.poll() is None and child.stdout.readable():
                try:
                    child.wait(10)
                except subprocess.TimeoutExpired:
                    child.kill()
            child.wait()
            child.stdout.close()


def print_table(verdicts: dict[Cell, str]) -> None:
    """Print cause x phase: how many of the calls and methods ended well."""
    total: Counter[tuple[str, str]] = Counter()
    good: Counter[tuple[str, str]] = Counter()
    for cell, verdict in verdicts.items():
        total[cell.cause, cell.phase] += 1
        good[cell.cause, cell.phase] += not verdict
    width = max(map(len, STRIKES))
    print(f"{len(CALLS)} ways of calling x {len(METHODS)} start methods; cells that end as they should / all")
    print(" " * width, *(f"{phase:>12}" for phase in PHASES))
    for cause in STRIKES:
        cells = (
            f"{good[cause, phase]:>8}/{total[cause, phase]:<3}" if total[cause, phase] else f"{'-':>12}"
            for phase in PHASES
        )
        print(f"{cause:<{width}}", *cells)


if __name__ == "__main__":
    raise SystemExit(main())
