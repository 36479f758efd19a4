"""Nothing grows into the one big file, or the one big function, that every admired code base has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_LINES = 600
FUNCTION_LINES = 70
PROSE_LINES = {"README.md": 150, "ARCHITECTURE.md": 250}

CODE = sorted(
    path
    for room in ("src", "tests", "crates", "benchmarks", "examples")
    for path in (ROOT / room).rglob("*")
    if path.suffix in {".py", ".pyi", ".rs"}
)
PYTHON = [path for path in CODE if path.suffix == ".py"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_no_file_is_too_long() -> None:
    assert [f"{name_of(path)}: {lines_of(path)}" for path in CODE if lines_of(path) > FILE_LINES] == []


@pytest.mark.parametrize(("name", "limit"), PROSE_LINES.items())
def test_prose_that_everybody_reads_is_short(name: str, limit: int) -> None:
    assert lines_of(ROOT / name) <= limit


def test_no_python_function_is_too_long() -> None:
    found = [
        f"{name_of(path)}:{function.lineno} {function.name}: {body_lines(function)}"
        for path in PYTHON
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        if body_lines(function) > FUNCTION_LINES
    ]
    assert found == []  # clippy's too_many_lines says the same of Rust


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    end = function.end_lineno or function.lineno
    docs = 0
    if ast.get_docstring(function) is not None:
        first = function.body[0]
        docs = (first.end_lineno or first.lineno) - first.lineno + 1
    return end - function.lineno + 1 - docs
