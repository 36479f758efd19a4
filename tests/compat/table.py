"""Write the compatibility page: what is expected to fail and why, and the numbers of the last full runs.

`python -m tests.compat.table [REPORT ...]` writes the page; reports of runs (`CORRAL_COMPAT_REPORT`), all
for one version, replace that version's numbers in `results.json` before, and the list of slow tests.
"""

from __future__ import annotations

import json
import platform
import sys
from collections import Counter
from pathlib import Path

from tests.compat.expectations import KINDS, METHODS, VERSION, VERSIONS, Expectation, expectation_for, read
from tests.compat.stage import Test

PAGE = Path(__file__).parents[2] / "docs/reference/compatibility.md"
TEMPLATE = Path(__file__).with_name("compatibility.md.in")
SLOW = Path(__file__).with_name("slow.txt")  # what `make test` leaves to `make compat`
SLOW_S = 1.0
RESULTS = Path(__file__).with_name("results.json")
COLUMNS = ("passed", *KINDS, "unexpected", "skipped")


def render() -> str:
    """Return the page."""
    page = TEMPLATE.read_text()
    for place, rows in {"numbers": _numbers(), **{kind: _rows(kind) for kind in KINDS}}.items():
        page = page.replace(f"@{place}@\n", "".join(rows))
    return page


def _numbers() -> list[str]:
    results = json.loads(RESULTS.read_text())
    return [
        f"| {release} | `{method}` | " + " | ".join(str(row.get(key, 0)) for key in COLUMNS) + " |\n"
        for release, methods in sorted(results.items())
        for method, row in methods.items()
    ]


def _rows(kind: str) -> list[str]:
    return [_row(entry) for entry in read() if entry.kind == kind]


def _row(entry: Expectation) -> str:
    names = "<br>".join(f"`{name}`" for name in entry.tests)
    methods = ", ".join(f"`{method}`" for method in entry.methods) if entry.methods != METHODS else "all"
    versions = ", ".join(entry.versions) if entry.versions != VERSIONS else "all"
    reason = entry.reason if entry.run else f"{entry.reason} (not run)"
    return f"| {names} | {methods} | {versions} | {reason} |\n"


def count(reports: list[Path]) -> dict[str, dict[str, int]]:
    """Return the numbers of runs by start method, as this interpreter's expectations judge them."""
    found: dict[str, Counter[str]] = {method: Counter() for method in METHODS}
    for report in reports:
        for row in json.loads(report.read_text()):
            test, outcome = Test(*row[:6]), row[6]
            expected = expectation_for(test)
            if outcome == "not run":
                kind = expected.kind if expected else "unexpected"
            elif outcome in {"passed", "skipped"}:
                kind = outcome if expected is None or outcome == "skipped" else "unexpected"
            else:
                kind = expected.kind if expected else "unexpected"
            found[test.method][kind] += 1
    return {method: dict(sorted(numbers.items())) for method, numbers in found.items() if numbers}


def slow(reports: list[Path]) -> list[str]:
    """Return the tests that take longer than a second by the default start method."""
    rows = [row for report in reports for row in json.loads(report.read_text()) if row[2] == "forkserver"]
    return sorted(
        {Test(*row[:6]).name for row in rows if row[8] > SLOW_S and not row[1].endswith(".threads")}
    )


def main() -> None:
    """Do what the command line says."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if len(sys.argv) > 1:
        results[platform.python_version()] = count([Path(name) for name in sys.argv[1:]])
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
        if VERSIONS[0] == VERSION:
            SLOW.write_text("\n".join(slow([Path(name) for name in sys.argv[1:]])) + "\n")
    PAGE.write_text(render())


if __name__ == "__main__":
    main()
