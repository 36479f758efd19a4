"""Which function is meant by a word of the command line, and what is said when none is."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from corral.cli.errors import UsageError
from corral.cli.target import resolve

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, where modules are looked for; nothing of it stays in the interpreter."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def test_a_function_of_a_module() -> None:
    assert resolve("posixpath:join") is os.path.join


def test_a_method_of_a_class() -> None:
    assert resolve("builtins:str.upper")("a") == "A"


def test_a_module_of_the_current_folder(somewhere: Path) -> None:
    (somewhere / "here_mod.py").write_text("def double(x): return 2 * x")
    assert resolve("here_mod:double")(2) == 4


def test_a_file(somewhere: Path) -> None:
    (somewhere / "sub").mkdir()
    (somewhere / "sub" / "file_mod.py").write_text("def double(x): return 2 * x")
    assert resolve("sub/file_mod.py:double")(3) == 6


def test_what_a_module_prints_is_no_data(somewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (somewhere / "loud_mod.py").write_text("print('hello')\ndef f(x): return x")
    resolve("loud_mod:f")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "hello\n")


@pytest.mark.parametrize(
    ("spec", "advice"),
    [
        ("len", "builtins:len"),
        ("len:len", "builtins:len"),
        ("os.path.join", "did you mean os.path:join"),
        ("script.py", "script.py:function"),
        ("nothing", "package.module:function"),
        ("os:", "package.module:function"),
        (":f", "package.module:function"),
        ("no_such_package.mod:f", "looked in "),
        ("nowhere.py:f", "no file nowhere.py"),
        ("posixpath:joim", "did you mean join"),
        ("math:pi", "is a float, not a function"),
        ("builtins:str.uper", "did you mean upper"),
        ("os:path.nix", "os.path has no 'nix'"),
    ],
)
def test_a_wrong_word_is_answered_with_advice(spec: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(spec)
    assert advice in str(caught.value)


def test_a_module_that_fails_shows_its_own_traceback(somewhere: Path) -> None:
    (somewhere / "broken_mod.py").write_text("x = 1\ny = x / 0\n")
    with pytest.raises(UsageError) as caught:
        resolve("broken_mod:f")
    message = str(caught.value)
    assert "broken_mod.py" in message
    assert "ZeroDivisionError" in message
    assert "importlib" not in message


def test_a_module_that_lacks_another_names_that_one(somewhere: Path) -> None:
    (somewhere / "needy_mod.py").write_text("import no_such_dependency\n")
    with pytest.raises(UsageError) as caught:
        resolve("needy_mod:f")
    assert "importing it fails" in str(caught.value)
    assert "no_such_dependency" in str(caught.value)


def test_an_async_function_is_refused(somewhere: Path) -> None:
    (somewhere / "async_mod.py").write_text("async def f(x): return x\n")
    with pytest.raises(UsageError) as caught:
        resolve("async_mod:f")
    assert "async" in str(caught.value)
