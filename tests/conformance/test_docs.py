"""Every program and every console session of the documentation does what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if re.search(r"^```console\n(?!\$ (make|pip|git) )", page.read_text(), re.MULTILINE)
)
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_HERE = (
    "make ",
    "pip ",
    "git ",
    "corral compare mypackage",
    "corral run program.py --its",
    'corral run "$(which',
)

pytestmark = pytest.mark.slow


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text())


def sessions(block: str) -> list[tuple[str, str]]:
    """Split a console block into commands and what they are said to print."""
    found: list[tuple[str, str]] = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append((line[2:].strip().split("  #")[0], ""))
        else:
            found[-1] = (found[-1][0], found[-1][1] + line)
    return found


def fits(expected: str, got: str) -> bool:
    """Compare, `...` standing for anything."""
    pattern = ".*?".join(re.escape(part) for part in expected.split("..."))
    return re.fullmatch(pattern, got, re.DOTALL) is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_is_true(page: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    status = 0
    for kind, block in blocks(page):
        if kind == "python":
            name = re.match(r"# (\w+\.py)\n", block)
            if name:
                (tmp_path / name[1]).write_text(block)
            continue
        for command, expected in sessions(block):
            if command.startswith(NOT_HERE):
                continue
            done = subprocess.run(
                ["bash", "-c", f"(exit {status}); {command}"],
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            status = done.returncode
            assert fits(expected, done.stdout) or not expected, f"$ {command}\n{done.stdout}"
            if not expected:
                assert (command, done.returncode) == (command, 0), done.stdout
