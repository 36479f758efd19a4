"""The demo, small: it runs as a file and from standard input, and what it counts is right."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "parallel_processor.py"
SMALL = ("--numbers", "3000", "--files", "40", "--workers", "2")


@pytest.fixture(scope="module")
def demo() -> Any:
    """The demo's definitions: all of it but its last statement, which runs it."""
    tree = ast.parse(DEMO.read_text())
    tree.body.pop()
    module = types.ModuleType("demo")
    sys.modules["demo"] = module
    exec(compile(tree, str(DEMO), "exec"), module.__dict__)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("way", ["file", "stdin"])
def test_it_runs_without_a_guard(way: str) -> None:
    with DEMO.open() as source:
        done = subprocess.run(
            [sys.executable, str(DEMO) if way == "file" else "-", *SMALL],
            stdin=source,
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert "All 3,000 results are equal in all 4 runs." in done.stdout
    assert "All 40 results are equal in all 4 runs." in done.stdout
    assert re.search(r"^corral\.Pool +[\d.]+ m?s +[\d.]+x", done.stdout, re.MULTILINE)
    assert (
        f"sum of all results: {sum(sum(i * i for i in range(x)) for x in range(1000)) * 3:,}" in done.stdout
    )
    assert "40 files, " in done.stdout


SOURCE = """
class A:
    def plain(self):
        return 1

    async def busy(self, x):
        if x and x > 1 or x < 0:
            return [y for y in x if y if y > 1]
        elif x:
            while x:
                x -= 1
        try:
            pass
        except ValueError:
            pass

        def inner():
            return 1 if x else 2

        return inner
if A:
    pass
"""


def test_it_counts_what_is_there(demo: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(SOURCE)
    report = demo.analyse(str(path))
    assert (report.problem, report.classes, report.lines) == ("", 1, 22)
    # if 1, and/or 2, comprehension 1 + 2, elif 1, while 1, except 1
    assert [(each.name, each.lines, each.complexity) for each in report.functions] == [
        ("plain", 2, 1),
        ("busy", 15, 10),
        ("inner", 2, 2),
    ]
    assert report.branches == 9 + 1 + 1
    assert report.longest.name == "busy"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (b"def f(:\n", "line 1: invalid syntax"),
        (b"# coding: klingon\n", "unknown encoding"),
        (b"x = '\xff'\n", "utf-8"),
        (b"x = 1\0\n", "null bytes"),
        (b"-" * 20_000 + b"1\n", ""),
        (b"(" * 300 + b")" * 300, "too many nested parentheses"),
    ],
)
def test_a_file_that_does_not_parse_is_reported(
    demo: Any, source: bytes, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.py"
    path.write_bytes(source)
    report = demo.analyse(str(path))
    assert report.problem
    assert problem in report.problem
    assert report.functions == ()


def test_a_missing_file_is_reported(demo: Any, tmp_path: Path) -> None:
    assert "FileNotFoundError" in demo.analyse(str(tmp_path / "gone.py")).problem


def test_totals_are_sums_and_a_top_ten(demo: Any) -> None:
    functions = tuple(demo.Function(f"f{number}", number, 100 - number, number) for number in range(1, 13))
    totals = demo.merge(
        [
            demo.FileReport("a", "", 10, 1, 2, functions[:6]),
            demo.FileReport("b", problem="line 1: bad"),
            demo.FileReport("c", "", 5, 2, 3, functions[6:]),
        ]
    )
    assert (totals.files, totals.lines, totals.functions, totals.classes, totals.branches) == (
        3,
        15,
        12,
        3,
        5,
    )
    assert totals.mean_complexity == 6.5
    assert totals.longest == (functions[0], "a")
    assert [function.complexity for function, _ in totals.most_complex] == [*range(12, 2, -1)]
    assert [report.path for report in totals.problems] == ["b"]
