"""The version matrix: what must hold on each interpreter that corral supports. `make` does everything else.

An interpreter that is not on the path is taken from pyenv, if it has one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import nox

nox.needs_version = ">=2025"
nox.options.sessions = ["compat"]

VERSIONS = re.findall(r"Python :: (3\.\d+)\"", Path("pyproject.toml").read_text(encoding="utf-8"))
PYENV = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"


def reach(version: str) -> str:
    """Return a version for nox to look for, with pyenv's newest one first on the path."""
    found = sorted(PYENV.glob(f"{version}.*/bin"), key=lambda path: int(path.parts[-2].split(".")[2]))
    if found:
        os.environ["PATH"] = f"{found[-1]}{os.pathsep}{os.environ['PATH']}"
    return version


@nox.session(python=[reach(version) for version in VERSIONS if version != "3.14"])
def compat(session: nox.Session) -> None:
    """Run the interpreter's own tests against corral, for each start method."""
    wheels = session.create_tmp()
    session.install("--requirement", "requirements-dev.txt")
    session.run("maturin", "build", "--release", "--locked", "--quiet", "--out", wheels)
    session.install("--force-reinstall", "--no-deps", *map(str, Path(wheels).glob("*.whl")))
    methods = os.environ.get("CORRAL_COMPAT", "fork forkserver spawn")
    session.run("python", "-m", "pytest", "tests/compat", *session.posargs, env={"CORRAL_COMPAT": methods})
