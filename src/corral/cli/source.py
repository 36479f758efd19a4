"""Reads the input of a command, item by item, and knows where each item came from.

Role in the flow:
    `open_source` checks everything that can be checked before work starts; the pool then pulls
    `Source.items` as it needs them, so input of any length needs no memory.

Runs in:
    The parent, in the thread that consumes the results.

Invariants:
    Items are numbered from 0 without gaps. `Source.place` knows an item until it is `forget`-ed.
"""

from __future__ import annotations

import codecs
import contextlib
import glob
import io
import os
import stat
import sys
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from corral.cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from corral.cli.calling import Item

STDIN = "-"
_COUNTED_BYTES = 1 << 30
"""Input beyond this is not read a second time merely to know how far we are."""


class Place(NamedTuple):
    """Where an item came from: a file, and there a line, unless the file itself is the item."""

    name: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.line}" if self.line else self.name


class Source:
    """Items pulled from somewhere, each with its place for messages.

    Not thread-safe: one thread pulls. Owns the files it reads: leave its context to close them.
    """

    def __init__(
        self,
        pieces: Iterator[tuple[Place, bytes | str]],
        total: int | None,
        opened: contextlib.ExitStack | None = None,
    ) -> None:
        """Number the pieces (place, raw item) of the input; `total` is None where nobody can know it."""
        self._pieces = pieces
        self._opened = opened or contextlib.ExitStack()
        self._places: dict[int, Place] = {}
        self.total = total
        self.pulled = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._opened.close()

    def items(self) -> Iterator[Item]:
        """Pull the input. Blocking: as long as the input makes us wait."""
        for place, raw in self._pieces:
            number = self.pulled
            self._places[number] = place
            self.pulled += 1
            yield number, raw

    def settle(self, number: int) -> Place:
        """Forget an item that has its outcome, and tell its place."""
        return self._places.pop(number)

    def unsettled(self) -> list[Place]:
        """Tell the places of the items pulled that never got an outcome, in input order."""
        return [self._places[number] for number in sorted(self._places)]


def open_source(inputs: Sequence[str], *, patterns: Sequence[str], kind: str, encoding: str) -> Source:
    """Open what the user named: files of lines, standard input, or paths matching patterns.

    Raises:
        UsageError: Nothing named, nothing found, or something that cannot be read.
    """
    if patterns:
        if inputs:
            message = (
                f"--files takes patterns for paths, {inputs[0]!r} would be read line by line: use one of both"
            )
            raise UsageError(message)
        paths = expand(patterns)
        return Source(((Place(path), path) for path in paths), len(paths))
    names = list(inputs) or [STDIN]
    if not inputs and sys.stdin is not None and sys.stdin.isatty():
        message = (
            "no input: name a file, pipe lines in, or give paths with --files 'PATTERN' "
            "(use - to type lines in)"
        )
        raise UsageError(message)
    _check_encoding(encoding)
    with contextlib.ExitStack() as opened:
        streams = [(name, _open(name, opened)) for name in names]
        total = _count_lines(streams) if kind == "line" else None
        utf8 = codecs.lookup(encoding).name == "utf-8"
        return Source(_lines(streams, skip_blank=kind == "jsonl", utf8=utf8), total, opened.pop_all())


def expand(patterns: Sequence[str]) -> list[str]:
    """List the files that match, without repeats, sorted; ``**`` matches folders of any depth."""
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = [
            path for path in glob.glob(os.path.expanduser(pattern), recursive=True) if not os.path.isdir(path)
        ]
        if not matches:
            hint = (
                "; it is a folder: write " + os.path.join(pattern, "**", "*")
                if os.path.isdir(pattern)
                else ""
            )
            message = f"no file matches {pattern!r}, looked from {os.getcwd()}{hint}"
            raise UsageError(message)
        found.update(dict.fromkeys(sorted(matches)))
    return list(found)


def _check_encoding(encoding: str) -> None:
    """Refuse names Python does not know, and encodings whose lines cannot be told apart by a newline byte."""
    try:
        newline = "\n".encode(encoding)
    except LookupError:
        message = f"unknown encoding {encoding!r}: try utf-8, latin-1 or cp1252"
        raise UsageError(message) from None
    if newline != b"\n":
        advice = f"convert first, e.g. iconv -f {encoding} -t utf-8"
        message = f"{encoding} cannot be split into lines byte by byte: {advice}"
        raise UsageError(message)


def _open(name: str, opened: contextlib.ExitStack) -> BinaryIO:
    """Open one input for reading bytes; all but standard input is to be closed with `opened`."""
    if name == STDIN:
        if sys.stdin is None:
            message = "standard input is closed: name a file"
            raise UsageError(message)
        return sys.stdin.buffer
    try:
        return opened.enter_context(open(name, "rb"))
    except IsADirectoryError:
        message = f"{name} is a folder: name its files with --files '{os.path.join(name, '**', '*')}'"
        raise UsageError(message) from None
    except OSError as error:
        message = f"cannot read {name}: {error.strerror} (looked from {os.getcwd()})"
        raise UsageError(message) from None


def _count_lines(streams: Sequence[tuple[str, BinaryIO]]) -> int | None:
    """Count the lines of ordinary, not too large files; None where that would cost too much or lose input."""
    size = 0
    for _, stream in streams:
        try:
            status = os.fstat(stream.fileno())
        except (OSError, io.UnsupportedOperation):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        size += status.st_size
    if size > _COUNTED_BYTES:
        return None
    count = 0
    for _, stream in streams:
        start, last = stream.tell(), b"\n"
        while block := stream.read(1 << 20):
            count += block.count(b"\n")
            last = block[-1:]
        count += last != b"\n"
        stream.seek(start)
    return count


def _lines(
    streams: Sequence[tuple[str, BinaryIO]], *, skip_blank: bool, utf8: bool
) -> Iterator[tuple[Place, bytes]]:
    """Yield every line without its end, as bytes: a line that cannot be decoded is that item's failure."""
    for name, stream in streams:
        shown = "<stdin>" if name == STDIN else name
        for number, ended in enumerate(stream, 1):
            line = ended.removesuffix(b"\n")
            if len(line) < len(ended):
                line = line.removesuffix(b"\r")
            if utf8 and number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if skip_blank and not line.strip():
                continue
            yield Place(shown, number), line
