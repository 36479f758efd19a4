"""Writes results, one per line, to stdout or to a file that appears only when it is whole.

Role in the flow:
    ``corral map`` enters the context that `open_sink` returns, writes lines, and calls `Sink.commit` last.

Failure:
    Leaving without `commit` (an error, Ctrl-C, SIGTERM) removes the temporary file; the named file is as it
    was.
    A SIGKILL leaves the temporary file, ``.NAME.XXXX.part``, beside it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING, BinaryIO

from corral.cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ALL_MAY_READ_WRITE = 0o666
_OURS_ALONE = 0o600
_NAME_KEPT = 60


class Sink:
    """Where result lines go. Single thread; owns nothing: `open_sink` closes the stream."""

    def __init__(self, stream: BinaryIO) -> None:
        """Write to `stream`; all but a regular file get every line at once: somebody may wait for it."""
        self._stream = stream
        self._eager = not _is_regular(stream)
        self.committed = False

    def write(self, text: str) -> None:
        """Write one line. Blocking: while a pipe is full."""
        try:
            self._stream.write(text.encode() + b"\n")
            if self._eager:
                self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _cannot_go_on(error) from None

    def commit(self) -> None:
        """Declare the output whole, and see it written."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _cannot_go_on(error) from None
        self.committed = True


@contextlib.contextmanager
def open_sink(path: str | None) -> Iterator[Sink]:
    """Open the output named by `path` (None or ``-``: stdout).

    Raises:
        UsageError: The file cannot be written there.
    """
    if path is None or path == "-":
        if sys.stdout is None:
            message = "standard output is closed: name a file with --output"
            raise UsageError(message)
        yield Sink(sys.stdout.buffer)
        return
    final = os.path.realpath(path)
    if os.path.isdir(final):
        message = f"cannot write {path}: it is a folder; name a file in it"
        raise UsageError(message)
    if os.path.exists(final) and not os.path.isfile(final):
        with _refusing(path):
            device = open(final, "wb")  # noqa: SIM115 - closed below
        with _closing(device):  # a device or a named pipe must never be replaced by a file
            yield Sink(device)
        return
    folder, name = os.path.split(final)
    part = os.path.join(folder, f".{name[:_NAME_KEPT]}.{os.urandom(4).hex()}.part")
    try:  # before the file is made: a signal may come between any two steps
        with _refusing(path):
            stream = open(part, "xb", opener=_private_if(final))  # noqa: SIM115 - closed below
        with _closing(stream):
            sink = Sink(stream)
            yield sink
            if sink.committed:
                _put_in_place(stream, part, final)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def _private_if(final: str) -> Callable[[str, int], int]:
    """Let nobody else read what is to replace a file that they perhaps may not read."""
    mode = _OURS_ALONE if os.path.exists(final) else _ALL_MAY_READ_WRITE
    return lambda path, flags: os.open(path, flags, mode)


def _put_in_place(stream: BinaryIO, part: str, final: str) -> None:
    """Give the whole file its name, and the permissions of the one it replaces."""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.fchmod(stream.fileno(), stat.S_IMODE(os.stat(final).st_mode))
        os.fsync(stream.fileno())
        os.replace(part, final)
    except OSError as error:
        raise _cannot_go_on(error) from None


@contextlib.contextmanager
def _closing(stream: BinaryIO) -> Iterator[BinaryIO]:
    """Close `stream` at the end; what it cannot write then has been complained about when it was flushed."""
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):
            stream.close()


def _cannot_go_on(error: OSError) -> OutputError:
    return OutputError(f"cannot write results: {error.strerror}")


@contextlib.contextmanager
def _refusing(path: str) -> Iterator[None]:
    """Turn the system's refusal to create the output into advice."""
    try:
        yield
    except FileNotFoundError:
        message = f"cannot write {path}: no folder {os.path.dirname(path) or '.'}; create it first (mkdir -p)"
        raise UsageError(message) from None
    except PermissionError:
        message = (
            f"cannot write {path}: no permission to create a file in {os.path.dirname(path) or os.getcwd()}"
        )
        raise UsageError(message) from None
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}"
        raise UsageError(message) from None


def _is_regular(stream: BinaryIO) -> bool:
    """Tell whether nobody can be waiting for the next line."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:
        return False
