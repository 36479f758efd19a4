"""What is expected to fail, and why: `expected.toml`, read and checked.

A test is named as `Class.test`, without the start method; `*` stands for any characters.
"""

from __future__ import annotations

import fnmatch
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.compat.stage import Test

FILE = Path(__file__).with_name("expected.toml")
METHODS = ("fork", "forkserver", "spawn")
VERSIONS = ("3.11", "3.12", "3.13")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
KINDS = {
    "internals": "tests private internals of the standard library's implementation",
    "difference": "corral behaves otherwise on purpose, and says so",
    "race": "decided by timing, so not run",
}


class Expectation(NamedTuple):
    """An entry of the list."""

    tests: tuple[str, ...]
    kind: str
    reason: str
    methods: tuple[str, ...]
    versions: tuple[str, ...]
    run: bool

    def covers(self, test: Test) -> bool:
        """Tell whether this is about the test, on this interpreter."""
        return (
            test.method in self.methods
            and VERSION in self.versions
            and any(fnmatch.fnmatchcase(test.name, pattern) for pattern in self.tests)
        )


@cache
def read() -> tuple[Expectation, ...]:
    """Return the list; each entry is checked.

    Raises:
        ValueError: an entry says what cannot be.
    """
    with FILE.open("rb") as file:
        return tuple(entry(row) for row in tomllib.load(file)["expected"])


def entry(row: dict[str, Any]) -> Expectation:
    """Return an entry as it was read, if it makes sense."""
    found = Expectation(
        tuple(row["tests"]),
        row["kind"],
        row["reason"],
        tuple(row.get("methods", METHODS)),
        tuple(row.get("versions", VERSIONS)),
        row.get("run", True),
    )
    unknown = row.keys() - set(Expectation._fields)
    bad = {*found.methods} - {*METHODS} | {*found.versions} - {*VERSIONS} | {found.kind} - {*KINDS} | unknown
    if bad or not found.tests or not found.reason:
        raise ValueError(f"expected.toml, {row}: {', '.join(sorted(bad)) or 'tests and a reason are needed'}")
    return found


def expectation_for(test: Test) -> Expectation | None:
    """Return why the test is expected to fail; None if it should pass."""
    return next((entry for entry in read() if entry.covers(test)), None)
