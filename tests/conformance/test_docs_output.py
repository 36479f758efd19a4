"""The programs of a page print what the page says, where it says so in an `output` block."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAIR = re.compile(r"^```python\n(.*?)^```\n+```output\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAIRS = [
    pytest.param(program, output, id=f"{page.stem}-{number}")
    for page in sorted(DOCS.rglob("*.md"))
    for number, (program, output) in enumerate(PAIR.findall(page.read_text()))
]


@pytest.mark.slow
@pytest.mark.parametrize(("program", "output"), PAIRS)
def test_the_program_prints_what_the_page_says(program: str, output: str, tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(program)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=50, check=False)
    assert (done.stdout, done.stderr) == (output, "")
