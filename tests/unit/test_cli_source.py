"""What the items of an input are, and where each came from."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from corral.cli.errors import UsageError
from corral.cli.source import Source, open_source

if TYPE_CHECKING:
    from pathlib import Path


class Stdin(io.StringIO):
    """Something like `sys.stdin`."""

    def __init__(self, data: bytes, *, shown: bool = False) -> None:
        super().__init__()
        self.buffer = io.BytesIO(data)
        self._shown = shown

    def isatty(self) -> bool:
        return self._shown


def lines(*inputs: str, kind: str = "line", encoding: str = "utf-8") -> Source:
    return open_source(inputs, patterns=(), kind=kind, encoding=encoding)


def raw(source: Source) -> list[bytes | str]:
    with source:
        return [raw for _, raw in source.items()]


def test_lines_lose_their_ends_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"a \n\r\n\tb\r\n\nc\x85\x0b")
    source = lines(str(path))
    assert source.total == 5
    assert raw(source) == [b"a ", b"", b"\tb", b"", b"c\x85\x0b"]


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n")
    assert raw(lines(str(path))) == [b"a", b"\xef\xbb\xbfb"]
    assert raw(lines(str(path), encoding="latin-1")) == [b"\xef\xbb\xbfa", b"\xef\xbb\xbfb"]


def test_blank_lines_are_no_records(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"1\n\n  \n2")
    assert raw(lines(str(path), kind="jsonl")) == [b"1", b"2"]


def test_every_item_knows_its_place_until_it_is_settled(tmp_path: Path) -> None:
    first, second = tmp_path / "one", tmp_path / "two"
    first.write_bytes(b"a\nb\n")
    second.write_bytes(b"c\n")
    source = lines(str(first), str(second))
    with source:
        assert list(source.items()) == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert str(source.settle(1)) == f"{first}:2"
    assert [str(place) for place in source.unsettled()] == [f"{first}:1", f"{second}:1"]


def test_standard_input_is_read_when_nothing_or_a_dash_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for inputs in ((), ("-",)):
        monkeypatch.setattr(sys, "stdin", Stdin(b"x\n"))
        source = lines(*inputs)
        assert source.total is None
        assert raw(source) == [b"x"]
        assert [str(place) for place in source.unsettled()] == ["<stdin>:1"]


def test_a_terminal_is_not_read_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b"", shown=True))
    with pytest.raises(UsageError, match="no input"):
        lines()


def test_input_is_pulled_as_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = Stdin(b"a\n" * 100_000)
    monkeypatch.setattr(sys, "stdin", stdin)
    source = lines()
    next(source.items())
    assert source.pulled == 1


@pytest.mark.parametrize(("name", "advice"), [("missing", "cannot read"), (".", "--files")])
def test_input_that_cannot_be_read(
    name: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").write_text("")
    with pytest.raises(UsageError, match=advice):
        lines("good", name)


@pytest.mark.parametrize(("encoding", "advice"), [("klingon", "unknown"), ("utf-16", "iconv")])
def test_an_encoding_that_cannot_be(encoding: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("")
    with pytest.raises(UsageError, match=advice):
        lines(str(tmp_path / "in"), encoding=encoding)


def test_paths_that_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    for name in ("b.py", "a.py", "d/c.py", "d/x.txt"):
        (tmp_path / name).write_text("")
    source = open_source((), patterns=["**/*.py", "a.py"], kind="file", encoding="utf-8")
    assert source.total == 3
    assert raw(source) == ["a.py", "b.py", "d/c.py"]
    assert [str(place) for place in source.unsettled()] == ["a.py", "b.py", "d/c.py"]


@pytest.mark.parametrize(
    ("pattern", "advice"), [("*.rs", "no file matches"), ("d", r"it is a folder: write d/\*\*")]
)
def test_patterns_that_match_nothing(
    pattern: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    with pytest.raises(UsageError, match=advice):
        open_source((), patterns=[pattern], kind="file", encoding="utf-8")


def test_paths_and_lines_do_not_mix() -> None:
    with pytest.raises(UsageError, match="use one of both"):
        open_source(["in"], patterns=["*"], kind="file", encoding="utf-8")
