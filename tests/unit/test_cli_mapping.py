"""`corral map` without processes: what is written, what is said, which status."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from corral import cli
from corral.cli import arguments, calling, mapping
from corral.errors import PoolBroken, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from corral.cli.calling import Item, Outcome

FUNCTIONS = """
def echo(x): return x
def double(x): return 2 * x
def half(x): return 1 / int(x)
def odd(x): return {"set": {1}, "nan": float("nan"), "key": {(1, 2): 3}, "lone": "\\ud800", "utf": "é"}[x]
def leave(x): raise SystemExit(3)
"""


class InlinePool:
    """Runs items in this process; `die_on` items cost their worker's life, `break_on` the pool's."""

    def __init__(self, *, die_on: bytes | None = None, break_on: bytes | None = None) -> None:
        self.chunksizes: list[int | None] = []
        self.used: list[str] = []
        self._die_on = die_on
        self._break_on = break_on

    def start(self, workers: int, *, initializer: Callable[..., None], initargs: tuple[Any]) -> Any:
        self.workers = workers
        initializer(initargs[0]._replace(in_worker=False))
        return contextlib.nullcontext(self)

    def imap(
        self, func: Callable[[Item], Outcome], items: Iterator[Item], chunksize: int | None = None
    ) -> Any:
        self.used.append("ordered")
        self.chunksizes.append(chunksize)
        return _Results(self._call(func, item) for item in items)

    def imap_unordered(
        self, func: Callable[[Item], Outcome], items: Iterator[Item], chunksize: int | None = None
    ) -> Any:
        self.used.append("unordered")
        self.chunksizes.append(chunksize)
        return _Results(reversed([self._call(func, item) for item in items]))

    def _call(self, func: Callable[[Item], Outcome], item: Item) -> Outcome | Exception:
        if item[1] == self._die_on:
            return WorkerLost(pid=7, exitcode=-9, details="much memory")
        if item[1] == self._break_on:
            return PoolBroken("too many deaths")
        return func(item)


class _Results:
    """An iterator that survives the exceptions it raises, as imap's does."""

    def __init__(self, outcomes: Iterator[Outcome | Exception]) -> None:
        self._outcomes = outcomes

    def __iter__(self) -> _Results:
        return self

    def __next__(self) -> Outcome:
        outcome = next(self._outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module `fns` and an empty input `in`, on which nothing depends afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(calling, "_ready", None)
    (tmp_path / "fns.py").write_text(FUNCTIONS)
    return tmp_path


def run(*words: str, lines: bytes = b"", pool: InlinePool | None = None) -> int:
    """Run `corral map WORDS in -o out` with these lines as its input."""
    with open("in", "wb") as file:
        file.write(lines)
    options = arguments.parse(["map", *words, "in", "-o", "out"])
    return mapping.run(options, make_pool=(pool or InlinePool()).start)


def out() -> list[Any]:
    with open("out", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_every_line_has_its_result() -> None:
    pool = InlinePool()
    assert run("fns:double", "-w", "3", lines=b"a\n\nb\n", pool=pool) == 0
    assert out() == ["aa", "", "bb"]
    assert pool.workers == 3
    assert pool.chunksizes == [None]


def test_records_are_values() -> None:
    assert run("fns:double", "--jsonl", lines=b'1\n\n"x"\n[0]\n') == 0
    assert out() == [2, "xx", [0, 0]]


def test_unordered_and_chunksize_reach_the_pool() -> None:
    pool = InlinePool()
    assert run("fns:echo", "--unordered", "--chunksize", "5", lines=b"a\nb\n", pool=pool) == 0
    assert out() == ["b", "a"]
    assert (pool.used, pool.chunksizes) == (["unordered"], [5])


def test_a_failure_is_named_and_the_rest_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fns:half", lines=b"1\n0\nx\n2\n") == 1
    assert out() == [1.0, 0.5]
    shown = capsys.readouterr().err
    assert "in:2: ZeroDivisionError: division by zero\n" in shown
    assert "in:3: ValueError: invalid literal" in shown
    assert "2 results, 2 failed" in shown


def test_the_first_failure_has_its_traceback_and_no_frame_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    run("fns:half", lines=b"0\n0\n")
    shown = capsys.readouterr().err
    assert shown.count("Traceback") == 1
    assert "def half(x)" in shown
    assert "calling.py" not in shown


def test_stop_ends_at_the_first_failure_and_writes_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fns:half", "--errors", "stop", lines=b"1\n0\nx\n") == 1
    shown = capsys.readouterr().err
    assert "in:2: ZeroDivisionError" in shown
    assert "in:3" not in shown
    assert "out not written" in shown
    with pytest.raises(FileNotFoundError):
        out()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"set", "result is no JSON: Object of type set is not JSON serializable (return str"),
        (b"nan", "result is no JSON"),
        (b"key", "result is no JSON"),
        (b"\xff", "line is not utf-8: invalid start byte at byte 1; name its encoding with --encoding"),
    ],
)
def test_what_cannot_be_read_or_written(line: bytes, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fns:odd", lines=line) == 1
    assert f"in:1: {words}" in capsys.readouterr().err


def test_a_line_that_is_no_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fns:echo", "--jsonl", lines=b"1\n{bad\n2\n") == 1
    assert out() == [1, 2]
    assert "in:2: line is no JSON" in capsys.readouterr().err


def test_text_stays_readable_where_it_can() -> None:
    assert run("fns:odd", lines=b"utf\nlone\n") == 0
    with open("out", "rb") as file:
        assert file.read() == '"é"\n"\\ud800"\n'.encode()


def test_other_encodings() -> None:
    assert run("fns:echo", "--encoding", "latin-1", lines=b"\xe9\n") == 0
    assert out() == ["é"]


def test_sys_exit_costs_one_item(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fns:leave", lines=b"a\n") == 1
    assert "in:1: the function called sys.exit(3)" in capsys.readouterr().err


@pytest.mark.parametrize("order", ["--ordered", "--unordered"])
def test_a_worker_s_death_names_its_item(order: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fns:echo", order, lines=b"a\nb\nc\n", pool=InlinePool(die_on=b"b")) == 1
    assert sorted(out()) == ["a", "c"]
    assert "in:2: worker 7 was killed by SIGKILL; much memory\n" in capsys.readouterr().err


def test_a_broken_pool_says_where_it_stood(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fns:echo", lines=b"a\nb\nc\n", pool=InlinePool(break_on=b"b")) == 1
    shown = capsys.readouterr().err
    assert "too many deaths" in shown
    assert "1 items begun have no result, the first: in:2" in shown
    with pytest.raises(FileNotFoundError):
        out()


def test_files_are_given_as_paths(capsys: pytest.CaptureFixture[str]) -> None:
    options = arguments.parse(["map", "fns:echo", "--files", "*.py"])
    assert mapping.run(options, make_pool=InlinePool().start) == 0
    assert capsys.readouterr().out == '"fns.py"\n'


def test_progress_without_tqdm_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert cli.main(["map", "fns:echo", "fns.py", "--progress"]) == 2
    assert "pip install 'corral[progress]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ([], "no command given"),
        (["mop"], "invalid choice: 'mop'"),
        (["map"], "name a function first"),
        (["map", "--files", "*.py", "fns:echo"], "name a function first"),
        (["map", "fns:echo", "--workers", "0"], "not a whole number of at least 1"),
        (["map", "fns:echo", "--errors", "ignore"], "choose from"),
        (["map", "fns:echo", "--wrong"], "--wrong"),
        (["map", "fns:eco", "in"], "did you mean echo"),
        (["map", "fns:echo", "nothing"], "cannot read nothing"),
        (["compare", "fns:echo", "--budget-s", "x"], "not a number above 0"),
    ],
)
def test_wrong_words_are_status_two(
    words: list[str], advice: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert cli.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("corral: ")
    assert advice in shown.err


def test_words_may_come_in_any_order() -> None:
    options = arguments.parse(["map", "-w", "2", "m:f", "--jsonl", "one", "--unordered", "two"])
    assert (options.function, options.inputs, options.workers) == ("m:f", ["one", "two"], 2)
    assert (options.kind, options.ordered) == ("jsonl", False)
