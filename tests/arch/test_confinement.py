"""What may be done in one place only is done in no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "corral"
CORE = ROOT / "crates" / "corral-core" / "src"
BINDING = ROOT / "crates" / "corral-py" / "src"

# What we may take from the standard library's own engine: exceptions, so that `except` clauses keep working.
REPLACED = ("multiprocessing", "concurrent.futures.process")
# And its finalizers: in a process of its own making nothing else is run at the end.
BORROWED = {
    "AuthenticationError",
    "BrokenProcessPool",
    "BufferTooShort",
    "Finalize",
    "ProcessError",
    "TimeoutError",
}
# The command that compares us with it has to run it.
RIVALS = {"corral.cli.comparing"}
# Modules that are run as they are, on corral's own (`corral._borrowed`), and why they are not built anew.
RUN_ON_OURS = {
    "corral.managers": "managers: objects behind a socket, with nothing to win from shared memory",
    "corral.dummy": "dummy: the names of threading",
    "corral.dummy.connection": "dummy.connection: two queues",
    "corral._threadpool": "pool: its ThreadPool alone, which has no processes",
}
PURE = ("agenda", "chunking", "deadlines", "ledger", "retry", "scheduler", "sizing", "supervision")
IMPURE = {"os", "time", "threading", "random", "select", "signal", "socket", "subprocess"}


def rust(root: Path) -> Iterator[tuple[str, str]]:
    """Yield each Rust file's name under `root` and its code, without comments."""
    for path in sorted(root.rglob("*.rs")):
        code = "\n".join(re.sub(r"//.*", "", line) for line in path.read_text().splitlines())
        yield str(path.relative_to(root)), code


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield each Python module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        yield name, ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_only_sync_names_the_atomics() -> None:
    users = {name for name, code in rust(CORE) if re.search(r"\b(std|core|loom)::sync::atomic\b", code)}
    assert users <= {"sync.rs"}


def test_only_sys_calls_the_system() -> None:
    users = {name for name, code in rust(CORE) if re.search(r"\blibc\b", code)}
    assert {name for name in users if not name.startswith("sys/")} == set()


def test_the_binding_has_unsafe_code_only_for_the_buffer_protocol() -> None:
    users = {name for name, code in rust(BINDING) if re.search(r"\bunsafe\b", code)}
    assert users <= {"heap.rs", "buffer.rs", "cells.rs"}


def test_the_core_knows_no_python() -> None:
    assert "pyo3" not in (CORE.parent / "Cargo.toml").read_text()


def test_nothing_delegates_to_the_machinery_we_replace() -> None:
    found = {
        f"{module} takes {name}"
        for module, tree in modules()
        if module not in RIVALS
        for name in taken_from_the_replaced(tree)
        if name not in BORROWED
    }
    assert found == set()


def test_whole_modules_are_borrowed_by_those_listed_only() -> None:
    found = {
        module: node.args[1].value
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "run_as"
    }
    assert found == {module: reason.partition(":")[0] for module, reason in RUN_ON_OURS.items()}


def taken_from_the_replaced(tree: ast.Module) -> Iterator[str]:
    for_types = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for part in node.body
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if is_replaced(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module and is_replaced(node.module):
            yield from (alias.name for alias in node.names)


def is_replaced(module: str) -> bool:
    return any(f"{module}.".startswith(f"{name}.") for name in REPLACED)


@pytest.mark.parametrize("name", PURE)
def test_what_decides_does_nothing(name: str) -> None:
    path = PACKAGE / "_engine" / f"{name}.py"
    taken = {module.split(".")[0] for module in imports(ast.parse(path.read_text()))}
    assert taken & IMPURE == set()
