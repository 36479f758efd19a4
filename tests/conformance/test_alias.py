"""The standard library's names served by corral: `corral._alias`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parents[1] / "support" / "alias"


def run(program: str, *words: str) -> str:
    """Run a program of `tests/support/alias` in an interpreter where the names are corral's."""
    start = (
        "import sys; from corral import _alias; _alias.install({}); import runpy;"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-W", "error", "-c", start, str(PROGRAMS / program), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
def test_each_way_to_import_leads_to_corral() -> None:
    assert run("imports.py") == "done\n"


@pytest.mark.slow
def test_the_standard_library_and_corral_itself_get_the_standard_librarys_own() -> None:
    assert run("insiders.py") == "done\n"


@pytest.mark.slow
def test_what_is_set_is_set_in_corral_and_what_is_deleted_comes_back() -> None:
    assert run("patching.py") == "done\n"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_and_their_children_have_it_too(method: str) -> None:
    assert run("children.py", method).splitlines() == ["process corral", "grandchild corral", "pool corral"]
