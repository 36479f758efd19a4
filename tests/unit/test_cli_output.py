"""Where results go, and that a file appears only when it is whole."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

import pytest

from corral.cli.errors import UsageError
from corral.cli.output import open_sink

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with open_sink(str(path)) as sink:
        sink.write("é")
        assert not path.exists()
        sink.commit()
    assert path.read_bytes() == "é\n".encode()
    assert os.listdir(tmp_path) == ["out"]


def test_without_commit_the_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("before")
    with contextlib.suppress(KeyboardInterrupt), open_sink(str(path)) as sink:
        sink.write("after")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["out"]


def test_permissions_are_kept_or_usual(tmp_path: Path) -> None:
    old, new, usual = tmp_path / "old", tmp_path / "new", tmp_path / "usual"
    old.write_text("")
    old.chmod(0o640)
    usual.write_text("")
    for path in (old, new):
        with open_sink(str(path)) as sink:
            sink.commit()
    assert old.stat().st_mode & 0o777 == 0o640
    assert new.stat().st_mode == usual.stat().st_mode


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with open_sink(str(tmp_path / "link")) as sink:
        sink.write("x")
        sink.commit()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "x\n"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(path.read_text()))
    reader.start()
    with open_sink(str(path)) as sink:
        sink.write("x")
        sink.commit()
    reader.join()
    assert got == ["x\n"]
    assert path.is_fifo()


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it is a folder"), open_sink(str(tmp_path)):
        pass
    with pytest.raises(UsageError, match="mkdir"), open_sink(str(tmp_path / "no" / "out")):
        pass
