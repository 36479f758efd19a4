"""Runs one workload for one subject and prints its figures as JSON.

Role in the flow: `python -m benchmarks.cell KEY SUBJECT SIZE`.

Runs in: a fresh process, which `benchmarks.running` starts, bounds in time, and reads.
"""

from __future__ import annotations

import json
import os
import sys

from benchmarks.workloads import BY_KEY, CONTESTANTS


def main() -> None:
    """Measure, then answer on what was stdout: what the subject prints goes to stderr."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    key, subject, size = sys.argv[1:]
    figures = BY_KEY[key].measure(CONTESTANTS[subject], int(size))
    with answer:
        json.dump(figures, answer)


if __name__ == "__main__":  # the standard library's spawn and forkserver run this file again
    main()
