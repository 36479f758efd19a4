"""The `corral` command as a shell sees it: data on stdout, words on stderr, the exit status."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

FUNCTIONS = """
import os, sys, time

def upper(x): return x.upper()
def half(x): return 1 / int(x)
def total(order): return sum(order["prices"])
def size(path): return [path, os.path.getsize(path)]
def loud(x):
    print("from python", x)
    os.write(1, b"from C\\n")
    os.system("echo from a child")
    return x
def deadly(x):
    if x == "die": os.kill(os.getpid(), 9)
    return x
def late(x):
    if x != "first": time.sleep(60)
    return x
def earlier(x):
    time.sleep(float(x))
    return x
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "fns.py").write_text(FUNCTIONS)
    return tmp_path


def start(folder: Path, *words: str, **options: int | None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "corral", *words],
        cwd=folder,
        env=environment,
        stdin=options.get("stdin", subprocess.PIPE),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def corral(folder: Path, *words: str, feed: bytes = b"") -> tuple[int, str, str]:
    """Run the command to its end: status, stdout, stderr."""
    with start(folder, *words) as process:
        out, err = process.communicate(feed)
    return process.returncode, out.decode(), err.decode()


@contextlib.contextmanager
def running(folder: Path, *words: str, feed: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command, give it its input, and see to it that it ends."""
    with start(folder, *words) as process:
        assert process.stdin is not None
        process.stdin.write(feed)
        process.stdin.close()
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_lines_from_standard_input_in_order(folder: Path) -> None:
    feed = "".join(f"é{number}\n" for number in range(1000)).encode()
    status, out, err = corral(folder, "map", "fns:upper", feed=feed)
    assert (status, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [f"É{number}" for number in range(1000)]


def test_records_of_a_file_into_a_file(folder: Path) -> None:
    (folder / "orders.jsonl").write_text('{"prices": [1, 2]}\n\n{"prices": []}\n')
    words = ("map", "--jsonl", "fns:total", "orders.jsonl", "--output", "totals.jsonl")
    assert corral(folder, *words) == (0, "", "")
    assert (folder / "totals.jsonl").read_text() == "3\n0\n"


def test_files_by_pattern(folder: Path) -> None:
    for name in ("b.txt", "a.txt"):
        (folder / name).write_text(name * 2)
    status, out, _ = corral(folder, "map", "fns.py:size", "--files", "*.txt")
    assert status == 0
    assert [json.loads(line) for line in out.splitlines()] == [["a.txt", 10], ["b.txt", 10]]


def test_unordered_results_come_as_they_are_ready(folder: Path) -> None:
    words = ("map", "fns:earlier", "--unordered", "--workers", "2", "--chunksize", "1")
    status, out, _ = corral(folder, *words, feed=b"1\n0\n0.1\n")
    assert status == 0
    assert out == '"0"\n"0.1"\n"1"\n'


def test_failures_are_named_and_are_status_one(folder: Path) -> None:
    status, out, err = corral(folder, "map", "fns:half", feed=b"1\n0\n4\n")
    assert (status, out) == (1, "1.0\n0.25\n")
    assert "<stdin>:2: ZeroDivisionError: division by zero" in err
    assert "2 results, 1 failed" in err


def test_stop_leaves_the_old_output(folder: Path) -> None:
    (folder / "out").write_text("old")
    words = ("map", "fns:half", "--errors", "stop", "-o", "out")
    status, _, err = corral(folder, *words, feed=b"1\n0\n" + b"1\n" * 1000)
    assert status == 1
    assert "<stdin>:2: ZeroDivisionError" in err
    assert sorted(os.listdir(folder)) == ["fns.py", "out"]
    assert (folder / "out").read_text() == "old"


def test_a_dead_worker_costs_its_line(folder: Path) -> None:
    status, out, err = corral(folder, "map", "fns:deadly", feed=b"a\nb\ndie\nc\nd\n")
    assert status == 1
    assert out.split() == ['"a"', '"b"', '"c"', '"d"']
    assert "<stdin>:3: worker " in err
    assert "was killed by SIGKILL" in err


def test_usage_is_status_two(folder: Path) -> None:
    status, out, err = corral(folder, "map", "fns:uper")
    assert (status, out) == (2, "")
    assert err == "corral: fns has no 'uper': did you mean upper?\n"


def test_what_functions_print_is_no_data(folder: Path) -> None:
    status, out, err = corral(folder, "map", "fns:loud", feed=b"a\n")
    assert (status, out) == (0, '"a"\n')
    for words in ("from python a", "from C", "from a child"):
        assert words in err


def test_a_reader_that_has_seen_enough_ends_it_quietly(folder: Path) -> None:
    feed = b"".join(b"%d\n" % number for number in range(20_000))
    with running(folder, "map", "fns:upper", feed=feed) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b'"0"\n'
        process.stdout.close()
        assert process.wait() == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGINT, b"corral: interrupted"), (signal.SIGTERM, b"")]
)
def test_a_signal_stops_it_with_the_output_as_it_was(
    number: signal.Signals, words: bytes, folder: Path
) -> None:
    (folder / "out").write_text("old")
    options = ("--unordered", "--workers", "2", "--chunksize", "1", "-o", "out")
    with running(folder, "map", "fns:late", *options, feed=b"first\nsecond\nthird\n") as process:
        _wait_for_a_part(folder)
        os.killpg(process.pid, number)
        assert process.wait() == 128 + number
        assert process.stderr is not None
        assert process.stderr.read().startswith(words)
    assert sorted(os.listdir(folder)) == ["fns.py", "out"]
    assert (folder / "out").read_text() == "old"


def _wait_for_a_part(folder: Path) -> None:
    """Wait until the output is being written, beside its final place."""
    while not any(name.endswith(".part") for name in os.listdir(folder)):
        os.sched_yield()


def test_results_reach_a_pipe_one_by_one_and_ctrl_c_ends_it(folder: Path) -> None:
    with running(folder, "map", "fns:late", "--chunksize", "1", feed=b"first\nsecond\n") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b'"first"\n'
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT
        assert process.stderr.read().startswith(b"corral: interrupted after ")


def test_compare_prints_the_table_and_a_verdict(folder: Path) -> None:
    (folder / "in").write_text("a\n" * 200)
    status, out, _ = corral(folder, "compare", "fns:upper", "in", "--workers", "2")
    assert status == 0
    for words in (
        "200 items, 2 workers",
        "sequential",
        "multiprocessing.Pool",
        "corral.Pool",
        "corral executor",
    ):
        assert words in out
    assert "Parallel does not pay" in out


def test_compare_reports_items_that_fail(folder: Path) -> None:
    status, out, _ = corral(folder, "compare", "fns:half", feed=b"1\n0\n2\n")
    assert status == 1
    assert "1 of 3 items failed; the first: ZeroDivisionError: division by zero" in out
    assert "RESULTS DIFFER" not in out


def test_compare_without_items(folder: Path) -> None:
    assert corral(folder, "compare", "fns:half") == (
        2,
        "",
        "corral: the input has no items: nothing to compare\n",
    )
