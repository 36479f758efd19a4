"""Whatever a program may hold in `__main__` goes to a fresh interpreter and comes back.

The programs in tests/support/codec run as scripts, by `-c` and from standard input; each reports on its own
checks.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[1] / "support" / "codec"
WAYS = ("script", pytest.param("-c", marks=pytest.mark.slow), pytest.param("stdin", marks=pytest.mark.slow))
PROFILED = "profiled"


def checks_of(program: str) -> list[str]:
    return re.findall(r"^@check\ndef (\w+)", (PROGRAMS / program).read_text(), re.MULTILINE)


@cache
def report_of(program: str, way: str) -> dict[str, str]:
    path = PROGRAMS / program
    source = path.read_text()
    arguments = {
        "script": [str(path)],
        "-c": ["-c", source],
        "stdin": ["-"],
        PROFILED: ["-m", "cProfile", "-o", os.devnull, str(path)],
    }[way]
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        input=source if way == "stdin" else "",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(PROGRAMS), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"^REPORT (.*)$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
    report: dict[str, str] = json.loads(found[1])
    return report


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", checks_of("functions.py"))
def test_functions(name: str, way: str) -> None:
    assert report_of("functions.py", way)[name] == ""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", checks_of("classes.py"))
def test_classes(name: str, way: str) -> None:
    assert report_of("classes.py", way)[name] == ""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", checks_of("mirror.py"))
def test_the_mirror(name: str, way: str) -> None:
    assert report_of("mirror.py", way)[name] == ""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", checks_of("corners.py"))
def test_corners(name: str, way: str) -> None:
    assert report_of("corners.py", way)[name] == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", checks_of("classes.py"))
def test_a_script_whose_main_is_not_the_module_of_that_name(name: str) -> None:
    assert report_of("classes.py", PROFILED)[name] == ""
