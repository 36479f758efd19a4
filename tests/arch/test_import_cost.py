"""What importing corral costs, in terms of what it loads: modules, not milliseconds."""

from __future__ import annotations

import subprocess
import sys

# Each costs a millisecond or more, and none is needed before a pool is made or a task arrives.
HEAVY = {
    "asyncio",
    "cloudpickle",
    "concurrent.futures",
    "ctypes",
    "dataclasses",
    "inspect",
    "json",
    "logging",
    "multiprocessing",
    "numpy",
    "pickle",
    "queue",
    "random",
    "re",
    "selectors",
    "socket",
    "subprocess",
    "tempfile",
    "tqdm",
    "typing",
}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter loads for a statement.

    Without `site`, whose work for an editable installation is not ours.
    """
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\nbefore = set(sys.modules)\n{statement}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_importing_corral_loads_itself_alone() -> None:
    assert loaded_by("import corral") - {"__future__"} == {"corral"}


def test_a_name_of_corral_loads_only_its_room() -> None:
    assert loaded_by("import corral; corral.CorralError") & HEAVY == set()


def test_the_worker_is_light_and_knows_nothing_of_the_engine() -> None:
    loaded = loaded_by("import corral._worker.loop")
    assert loaded & HEAVY == set()
    assert {name for name in loaded if name.startswith(("corral._engine", "corral._backends"))} == set()
