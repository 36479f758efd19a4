"""A launched process runs its entry, has what it was given, and tells how it ended."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from corral._launch import METHODS, Child, heap, kin, launch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENTRIES = """
import os, signal, sys, time

def echo(payload, fds):
    os.write(fds[0], bytes(payload))

def leave(payload, fds):
    raise SystemExit(eval(payload))

def fail(payload, fds):
    raise ValueError("no good")

def die(payload, fds):
    os.kill(os.getpid(), int(bytes(payload)))

def wait(payload, fds):
    os.write(fds[0], b"!")
    time.sleep(60)

def tell(payload, fds):
    os.write(fds[0], repr(eval(bytes(payload))).encode())
"""


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module of entries that a child can import."""
    (tmp_path / "launch_entries.py").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "launch_entries"


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ask(entries: str, method: str) -> Callable[..., str]:
    """Have an expression evaluated in a child, and return what it is there."""

    def ask(expression: str) -> str:
        read, write = os.pipe()
        with os.fdopen(read, "rb") as answer:
            child = launch(method, f"{entries}:tell", expression.encode(), fds=[write])
            os.close(write)
            text = answer.read().decode()
        assert child.wait() == 0
        return text

    return ask


@pytest.mark.parametrize("size", [0, 5, 60_000, 70_000, 3_000_000])
def test_a_child_gets_the_payload_whatever_its_size(entries: str, method: str, size: int) -> None:
    payload = os.urandom(size)
    read, write = os.pipe()
    with os.fdopen(read, "rb") as answer:
        child = launch(method, f"{entries}:echo", payload, fds=[write])
        os.close(write)
        assert answer.read() == payload
    assert child.wait() == 0


@pytest.mark.parametrize(("code", "expected"), [("0", 0), ("None", 0), ("3", 3), ("'words'", 1), ("-1", 255)])
def test_the_exit_code_is_that_of_system_exit(entries: str, method: str, code: str, expected: int) -> None:
    assert launch(method, f"{entries}:leave", code.encode()).wait() == expected


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1])
def test_a_signal_is_a_negative_exit_code(entries: str, method: str, number: int) -> None:
    assert launch(method, f"{entries}:die", str(int(number)).encode()).wait() == -number


def test_an_exception_is_printed_with_the_process_name(
    entries: str, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launch(method, f"{entries}:fail", b"", about=kin.describe("Rabbit-1")).wait() == 1
    printed = capfd.readouterr().err
    assert printed.startswith("Process Rabbit-1:\nTraceback (most recent call last):\n")
    assert printed.endswith("ValueError: no good\n")
    assert "_launch" not in printed


def test_terminate_and_kill_and_poll(entries: str, method: str) -> None:
    for end, expected in ((Child.terminate, -signal.SIGTERM), (Child.kill, -signal.SIGKILL)):
        read, write = os.pipe()
        child = launch(method, f"{entries}:wait", b"", fds=[write])
        assert os.read(read, 1) == b"!"
        assert child.poll() is None
        assert child.wait(0.01) is None
        end(child)
        assert child.wait() == expected
        assert child.poll() == expected
        end(child)
        os.close(read)
        os.close(write)


def test_a_child_has_the_parents_surroundings(
    ask: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heap()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prog", "--option"])
    monkeypatch.setenv("CORRAL_TEST_SET", "now")
    monkeypatch.delenv("HOME", raising=False)
    assert ask("os.getcwd()") == repr(str(tmp_path))
    assert ask("sys.argv") == "['prog', '--option']"
    assert ask("sys.path") == repr(sys.path)
    assert ask("os.environ.get('CORRAL_TEST_SET'), os.environ.get('HOME')") == "('now', None)"
    assert ask("sys.stdin.read()") == "''"


def test_a_child_prints_where_the_parent_prints_now(
    entries: str, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert (
        launch(method, f"{entries}:leave", b"[print('out'), print('err', file=sys.stderr), 0][2]").wait() == 0
    )
    assert capfd.readouterr() == ("out\n", "err\n")


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="no start method 'thread'"):
        launch("thread", "os:getpid", b"")
