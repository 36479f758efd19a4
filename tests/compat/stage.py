"""A stage for the interpreter's suites: a bare environment, all of whose interpreters serve corral.

An environment variable would not do: the suites start interpreters with `-I`, which reads none. A `.pth` file
is read by all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
from tests.compat.inner.boot import MARK

import corral

INNER = Path(__file__).parent / "inner"
# A folder of tests to take those suites from that the interpreter came without.
EXTRA_TESTS = "CORRAL_COMPAT_TESTS"
_METHOD_IN_CASE = {
    "futures": ("ProcessPoolForkserver", "ProcessPoolFork", "ProcessPoolSpawn"),
    "main_handling": ("ForkServer", "Fork", "Spawn"),
}


class Test(NamedTuple):
    """One test of the interpreter's, for one start method."""

    __test__ = False

    suite: str
    lane: str  # what one process can run one after the other
    method: str
    module: str
    case: str
    test: str

    @property
    def name(self) -> str:
        """The name that it has for every start method: `Class.test`."""
        case = self.case
        for prefix in _METHOD_IN_CASE.get(self.suite, ()):
            if case.startswith(prefix):
                case = case.replace(prefix, "ProcessPool" if self.suite == "futures" else "", 1)
                break
        return f"{case}.{self.test}"

    @property
    def place(self) -> str:
        """Where it is found."""
        return f"{self.module}.{self.case}.{self.test}"

    @property
    def surroundings(self) -> set[str]:
        """What `unittest` calls the set-up and the ending of its class and of its module."""
        places = {f"Class ({self.module}.{self.case})", f"Module ({self.module})"}
        return {f"{when}{place}" for when in ("setUp", "tearDown") for place in places}


class Stage:
    """An environment made below a folder; `python` is its interpreter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "env/bin/python"
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder / "env")
        lines = [*map(str, [INNER, INNER / "suites", _home_of(corral), _home_of(cloudpickle)]), "import boot"]
        if EXTRA_TESTS in os.environ:
            overlay = folder / "overlay"
            _lay_over(overlay / "test", Path(os.environ[EXTRA_TESTS]))
            lines.insert(0, f"import sys; sys.path.insert(0, {str(overlay)!r})")
        (self.site_packages,) = folder.glob("env/lib/python*/site-packages")
        self.site_packages.joinpath("corral-compat.pth").write_text("\n".join(lines) + "\n")
        folder.joinpath("tmp").mkdir()

    def environment(self, mark: str) -> dict[str, str]:
        """Return the environment for a run; all of its processes can be found by the mark."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL"))}
        return kept | {MARK: mark, "TMPDIR": str(self.folder / "tmp")}

    def catalogue(self) -> tuple[list[Test], dict[str, str]]:
        """Return all tests; and the suites that the interpreter came without, with why."""
        done = subprocess.run(
            [self.python, INNER / "unit.py", "list"],
            env=self.environment("list"),
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        if done.returncode:
            raise RuntimeError(f"the suites cannot be listed:\n{done.stderr}")
        listed: dict[str, Any] = json.loads(done.stdout)
        return [Test(*row) for row in listed["tests"]], listed["missing"]


def _home_of(package: Any) -> Path:
    return Path(str(package.__file__)).parents[1]


def _lay_over(folder: Path, extra: Path) -> None:
    """Make a `test` package of the interpreter's own files, and of those others that it lacks."""
    folder.mkdir(parents=True)
    for source in (Path(sysconfig.get_path("stdlib")) / "test", extra):
        for entry in source.iterdir():
            target = folder / entry.name
            if not target.exists() and entry.name != "__pycache__":
                target.symlink_to(entry)
