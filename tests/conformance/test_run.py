"""`corral run`: a program is what it is under python, except for who serves `multiprocessing`."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parents[1] / "support" / "run"
PYTHON = [sys.executable]
CORRAL = [sys.executable, "-m", "corral", "run"]


class End(NamedTuple):
    status: int
    out: str
    err: str


def end(command: list[str], *, stdin: str = "", **environment: str) -> End:
    done = subprocess.run(
        command,
        input=stdin,
        env={**os.environ, **environment},
        cwd=PROGRAMS,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    return End(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def begun(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a program in a process group of its own, and leave nothing of it."""
    with subprocess.Popen(
        command,
        cwd=PROGRAMS,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "words",
    [
        ["surroundings.py", "-m", "--workers", "x"],
        ["-m", "surroundings", "one"],
        ["-m", "package"],
        ["package"],
        ["-c", "import surroundings", "--", "-c"],
    ],
    ids=" ".join,
)
def test_a_program_cannot_tell_how_it_was_started(words: list[str]) -> None:
    expected = end([*PYTHON, *words])
    assert expected.status == 0
    assert end([*CORRAL, *words]) == expected


def test_a_program_may_come_from_standard_input() -> None:
    program = (PROGRAMS / "surroundings.py").read_text()
    expected = end([*PYTHON, "-", "word"], stdin=program)
    assert expected.status == 0
    assert end([*CORRAL, "-", "word"], stdin=program) == expected


def test_the_interpreters_options_are_the_programs() -> None:
    options = ["-X", "dev", "-W", "ignore::UserWarning", "-O"]
    expected = end([*PYTHON, *options, "surroundings.py"])
    assert end([*PYTHON, *options, "-m", "corral", "run", "surroundings.py"]) == expected


def test_the_environments_own_startup_and_path_are_kept(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("")
    expected = end([*PYTHON, "surroundings.py"], PYTHONPATH=str(tmp_path))
    assert f"{tmp_path}/sitecustomize.py" in expected.out
    assert end([*CORRAL, "surroundings.py"], PYTHONPATH=str(tmp_path)) == expected


@pytest.mark.parametrize(
    "ending",
    [
        "return",
        "code",
        "text",
        "raise",
        "group",
        "_exit",
        "thread",
        "interrupt",
        "sigint",
        "sigterm",
        "sigkill",
        "import",
        "no such ending",
    ],
)
def test_a_program_ends_as_under_python(ending: str) -> None:
    assert end([*CORRAL, "endings.py", ending]) == end([*PYTHON, "endings.py", ending])


@pytest.mark.parametrize("words", [["missing.py"], ["-m", "missing"], ["-c", "if"], ["-m"]], ids=" ".join)
def test_what_cannot_be_run_is_reported_by_python(words: list[str]) -> None:
    expected = end([*PYTHON, *words])
    assert expected.status != 0
    assert end([*CORRAL, *words]) == expected


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("program", ["idioms.py", "objects.py"])
def test_usual_programs_do_what_they_do(program: str, method: str) -> None:
    expected = end([*PYTHON, program, method])
    assert expected.status == 0
    assert end([*CORRAL, program, method]) == expected


def test_logs_and_warnings_of_workers_arrive_as_they_do() -> None:
    # With fork, where workers have the program's set-up: the others go through the parent's.
    expected, got = end([*PYTHON, "logs.py", "fork"]), end([*CORRAL, "logs.py", "fork"])
    assert (got.status, sorted(got.out.splitlines())) == (0, sorted(expected.out.splitlines()))
    assert got.err == expected.err


def test_the_start_method_is_the_interpreters_unless_imposed() -> None:
    ask = "import multiprocessing as m; print(m.get_start_method(), m.get_context('fork').get_start_method())"
    plain = end([*PYTHON, "-c", ask]).out
    assert end([*CORRAL, "-c", ask]).out == plain
    assert end([*CORRAL, "--start-method", "spawn", "-c", ask]).out == "spawn spawn\n"
    imposed = end([*CORRAL, "--start-method", "spawn", "idioms.py", "fork"])
    assert imposed.out == end([*PYTHON, "idioms.py", "spawn"]).out


def test_the_number_of_workers_may_be_given() -> None:
    ask = "import multiprocessing as m; p = m.Pool(); print(m.cpu_count(), p._processes); p.terminate()"
    assert end([*CORRAL, "-w", "3", "-c", ask]).out == "3 3\n"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_progress_counts_every_item_once_and_only_in_the_program_itself(method: str) -> None:
    status, out, err = end([*CORRAL, "--progress", "--start-method", method, "maps.py"])
    assert (status, out) == (0, "285 285 285 285 10\n")
    # Drawn over and over; a bar ends, and the next begins at nothing, when there is no map for a moment.
    drawn = [int(done) for done in re.findall(r"(\d+)/\d+ ", err)]
    assert sum(done for done, later in zip(drawn, [*drawn[1:], 0], strict=True) if later < done) == 51


def test_corral_serves_the_program() -> None:
    ask = "import multiprocessing.pool as p; print(p.Pool.__module__)"
    assert end([*CORRAL, "-c", ask]).out == "corral.pool\n"


def test_compileall_writes_what_it_writes(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"module{number}.py").write_text(f"x = {number}")
    words = ["-m", "compileall", "-q", "-j2", "-f", "--invalidation-mode", "checked-hash", str(tmp_path)]
    written = []
    for command in (PYTHON, CORRAL):
        assert end([*command, *words]) == End(0, "", "")
        written.append({path.name: path.read_bytes() for path in (tmp_path / "__pycache__").iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_signal_ends_the_program_and_its_children(number: signal.Signals, method: str) -> None:
    with begun([*CORRAL, "--start-method", method, "waiting.py"]) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()]
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode == -number
        assert err.splitlines()[-1:] == (["KeyboardInterrupt"] if number == signal.SIGINT else [])
        assert len(workers) == 2
        for pid in workers:
            wait_for_end(pid)


def wait_for_end(pid: int) -> None:
    """Wait until there is no process `pid`: the kernel kills it, somebody else reaps it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], 20)[0]
    finally:
        os.close(pidfd)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a program"),
        (["--workers", "none", "x.py"], "not a whole number"),
        (["--start-method", "thread", "x.py"], "invalid choice"),
        (["--faster", "x.py"], "unrecognized arguments: --faster"),
    ],
)
def test_what_makes_no_sense_is_said(words: list[str], message: str) -> None:
    status, out, err = end([*CORRAL, *words])
    assert (status, out) == (2, "")
    assert message in err


def test_an_interpreter_without_site_is_refused() -> None:
    status, _, err = end([sys.executable, "-S", "-m", "corral", "run", "x.py"], PYTHONPATH=":".join(sys.path))
    assert (status, "without -S" in err) == (2, True)
