"""A parallel data processor: two jobs on real input, each run four ways, checked and timed.

Act (a) computes on 200,000 numbers. Act (b) reads every Python file of the standard library and measures
its functions. Both run sequentially, with multiprocessing.Pool, with corral.Pool and with corral's executor;
all results must be equal.

    python examples/parallel_processor.py
    python - < examples/parallel_processor.py

There is no `if __name__ == "__main__"`: corral does not run this file again in its workers.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import multiprocessing
import os
import sys
import sysconfig
import time
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import corral
from corral.cli import table
from corral.cli.progress import open_bar, wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")


# --- act (a): numbers --------------------------------------------------------------------------------


def sum_of_squares(number: int) -> int:
    """Do some arithmetic: up to a thousand steps, 25 microseconds on average."""
    return sum(i * i for i in range(number % 1000))


# --- act (b): the source of the standard library -------------------------------------------------------


class Function(NamedTuple):
    """What is known of one function."""

    name: str
    line: int
    lines: int
    complexity: int


class FileReport(NamedTuple):
    """What is known of one file; `problem` says why the rest is empty."""

    path: str
    problem: str = ""
    lines: int = 0
    classes: int = 0
    branches: int = 0
    functions: tuple[Function, ...] = ()

    @property
    def longest(self) -> Function | None:
        """The function with the most lines."""
        return max(self.functions, key=lambda function: function.lines, default=None)


class Totals(NamedTuple):
    """All files together."""

    files: int
    lines: int
    functions: int
    classes: int
    branches: int
    mean_complexity: float
    longest: tuple[Function, str] | None
    most_complex: list[tuple[Function, str]]
    problems: list[FileReport]


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DECISIONS = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.Assert,
    ast.match_case,
)


def analyse(path: str) -> FileReport:
    """Parse one file and measure it; a file that cannot be parsed gives a report that says so."""
    try:
        with open(path, "rb") as file:
            source = file.read()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in test files are none of our business
            tree = ast.parse(source, path)
    except SyntaxError as error:
        return FileReport(path, problem=f"line {error.lineno}: {error.msg}")
    # ValueError: null bytes; RecursionError, MemoryError: too deep for the parser.
    except (ValueError, RecursionError, MemoryError, OSError) as error:
        return FileReport(path, problem=f"{type(error).__name__}: {error}")
    return measure(path, source.count(b"\n"), tree)


def measure(path: str, lines: int, tree: ast.Module) -> FileReport:
    """Walk a tree once, without recursion, counting every decision for the innermost function around it."""
    functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
    decisions: list[int] = []  # per function
    classes = branches = 0
    todo: list[tuple[ast.AST, int]] = [(tree, -1)]
    while todo:
        node, owner = todo.pop()
        if isinstance(node, DEFINITIONS):
            owner = len(functions)
            functions.append(node)
            decisions.append(0)
        classes += isinstance(node, ast.ClassDef)
        count = decisions_at(node)
        branches += count
        if owner >= 0:
            decisions[owner] += count
        todo.extend((child, owner) for child in ast.iter_child_nodes(node))
    found = [
        Function(node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1, 1 + count)
        for node, count in zip(functions, decisions, strict=True)
    ]
    return FileReport(
        path, "", lines, classes, branches, tuple(sorted(found, key=lambda function: function.line))
    )


def decisions_at(node: ast.AST) -> int:
    """Count how many ways out a node adds, as McCabe counts them."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, DECISIONS))


def merge(reports: Sequence[FileReport]) -> Totals:
    """Add up the reports of all files, in order."""
    functions = [(function, report.path) for report in reports for function in report.functions]
    return Totals(
        files=len(reports),
        lines=sum(report.lines for report in reports),
        functions=len(functions),
        classes=sum(report.classes for report in reports),
        branches=sum(report.branches for report in reports),
        mean_complexity=sum(function.complexity for function, _ in functions) / max(1, len(functions)),
        longest=max(functions, key=lambda found: found[0].lines, default=None),
        most_complex=sorted(functions, key=lambda found: found[0].complexity, reverse=True)[:10],
        problems=[report for report in reports if report.problem],
    )


def standard_library() -> list[str]:
    """List the Python files of this interpreter's standard library, without what was installed into it."""
    found: list[str] = []
    for folder, subfolders, names in os.walk(sysconfig.get_path("stdlib")):
        subfolders[:] = sorted(set(subfolders) - {"site-packages", "dist-packages", "__pycache__"})
        found.extend(os.path.join(folder, name) for name in sorted(names) if name.endswith(".py"))
    return found


def print_totals(totals: Totals) -> None:
    """Show what act (b) has found."""
    root = sysconfig.get_path("stdlib") + os.sep
    print(f"\n{totals.files:,} files, {totals.lines:,} lines: {totals.functions:,} functions,", end=" ")
    print(
        f"{totals.classes:,} classes, {totals.branches:,} branches, "
        f"mean complexity {totals.mean_complexity:.2f}"
    )
    if totals.longest:
        function, path = totals.longest
        print(
            f"longest function: {function.name}, {function.lines:,} lines "
            f"({path.removeprefix(root)}:{function.line})"
        )
    print("\ntop ten by cyclomatic complexity")
    for function, path in totals.most_complex:
        print(f"  {function.complexity:4}  {function.name:32}  {path.removeprefix(root)}:{function.line}")
    print(f"\n{len(totals.problems)} files do not parse")
    for report in totals.problems:
        print(f"  {report.path.removeprefix(root)}: {report.problem}")


# --- running a job four ways ---------------------------------------------------------------------------


def sequential(function: Callable[[Item], Result], items: Sequence[Item], *_: int) -> Iterator[Result]:
    """One after the other, in this process."""
    return map(function, items)


def with_multiprocessing(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, chunksize: int
) -> Iterator[Result]:
    """The standard library's pool, started by fork: its other ways need a guard around the main program."""
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from pool.imap(function, items, chunksize)


def with_corral_pool(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, chunksize: int
) -> Iterator[Result]:
    """The same call on corral's pool."""
    with corral.Pool(workers) as pool:
        yield from pool.imap(function, items, chunksize)


def with_corral_executor(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, chunksize: int
) -> Iterator[Result]:
    """The same on corral's executor."""
    with corral.ProcessPoolExecutor(workers) as executor:
        yield from executor.map(function, items, chunksize=chunksize)


# multiprocessing comes before corral, so that it forks a process without threads.
WAYS: dict[str, Callable[..., Iterator[Any]]] = {
    "sequential": sequential,
    "multiprocessing.Pool": with_multiprocessing,
    "corral.Pool": with_corral_pool,
    "corral executor": with_corral_executor,
}


def run_all(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    unit: str,
    *,
    workers: int,
    chunksize: int,
    bars: bool,
) -> list[Result]:
    """Run a job all ways, check that the results are equal, print the table; return the results."""
    runs: list[table.Run] = []
    expected: list[Result] = []
    print(table.conditions(workers=workers, items=len(items), unit=unit), flush=True)
    for name, way in WAYS.items():
        gc.collect()
        results: list[Result] = []
        with open_bar(show=bars, total=len(items), unit=unit.rstrip("s"), title=f"{name:20}") as bar:
            start = time.perf_counter()
            for count, result in enumerate(way(function, items, workers, chunksize), 1):
                results.append(result)
                if count % 16 == 0:
                    bar.update(16)
            runs.append(table.Run(name, time.perf_counter() - start))
        if len(runs) == 1:
            expected = results
        elif results != expected:
            raise SystemExit(f"{name}: results differ from the sequential run")
    print(f"\n{table.render(runs, workers=workers, items=len(items))}")
    print(f"All {len(items):,} results are equal in all {len(WAYS)} runs.", flush=True)
    return expected


def parse_arguments() -> argparse.Namespace:
    """Read the few things that can be chosen."""
    parser = argparse.ArgumentParser(
        prog="parallel_processor.py", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "--workers", type=int, default=table.cores_available(), help="default: one per core (%(default)s)"
    )
    parser.add_argument(
        "--numbers", type=int, default=200_000, metavar="N", help="act (a) (default: %(default)s)"
    )
    parser.add_argument(
        "--files", type=int, metavar="N", help="act (b): only the first N files (default: all)"
    )
    parser.add_argument("--progress", action=argparse.BooleanOptionalAction, help="default: on a terminal")
    return parser.parse_args()


def main() -> None:
    """Play both acts."""
    options = parse_arguments()
    bars = wanted(options.progress, stdout_is_shown=False)
    workers = max(1, options.workers)
    print(table.note_on_load(), end="")
    if sys.stderr.isatty() and not bars and options.progress is None:
        print("(this takes a minute or two; a progress bar comes with: pip install 'corral[progress]')")

    print("(a) sum(i*i for i in range(x % 1000)) for many x")
    numbers = range(options.numbers)
    chunksize = max(1, len(numbers) // (16 * workers))
    sums = run_all(sum_of_squares, numbers, "numbers", workers=workers, chunksize=chunksize, bars=bars)
    print(f"\nsum of all results: {sum(sums):,}")

    print("\n(b) functions, classes, branches and complexity of every file of the standard library")
    files = standard_library()[: options.files]
    reports = run_all(analyse, files, "files", workers=workers, chunksize=4, bars=bars)
    print_totals(merge(reports))


with contextlib.suppress(BrokenPipeError):
    main()
