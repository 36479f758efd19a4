"""The ``corral`` command: parses the words, runs a command, turns whatever happens into an exit status.

Role in the flow:
    `main` is the console script and what ``python -m corral`` calls; the commands are in
    `corral.cli.mapping`, `corral.cli.comparing` and `corral.cli.running`.

Failure:
    Exit status 0 done, 1 some items failed, 2 usage, 130 Ctrl-C, 141 nobody reads our output
    any more, 143 SIGTERM.

See:
    docs/reference/cli.md
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, cast

from corral.cli import errors

STDERR_FD = 2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from corral.cli.arguments import Options
    from corral.cli.mapping import PoolMaker


def main(words: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status. Blocking: until it is done."""
    from corral.cli.arguments import parse

    _have_stderr()
    try:
        options = parse(list(sys.argv[1:] if words is None else words))
        status = _run(options)
        if sys.stdout is not None:
            sys.stdout.flush()
    except errors.UsageError as error:
        print(f"corral: {error}", file=sys.stderr)
        return errors.USAGE
    except errors.Stopped as stopped:
        if stopped.message:
            print(f"corral: {stopped.message}", file=sys.stderr)
        return errors.SIGNAL_BASE + stopped.signal_number
    except KeyboardInterrupt:
        print("corral: interrupted", file=sys.stderr)
        return errors.SIGNAL_BASE + signal.SIGINT
    except errors.OutputError as error:
        _abandon_stdout()
        print(f"corral: {error}", file=sys.stderr)
        return errors.SOME_FAILED
    except BrokenPipeError:
        _abandon_stdout()
        return errors.SIGNAL_BASE + signal.SIGPIPE
    return status


def _run(options: Options) -> int:
    """Carry out one command on corral's own pool."""
    import corral

    if options.command == "compare":
        from corral.cli import comparing

        return comparing.run(options)
    if options.command == "run":
        from corral.cli import running

        running.run(options)
    from corral.cli import mapping

    with _stopping_on(signal.SIGTERM, signal.SIGHUP):
        return mapping.run(options, make_pool=cast("PoolMaker", corral.Pool))


@contextlib.contextmanager
def _stopping_on(*signals: signal.Signals) -> Iterator[None]:
    """Let these signals unwind the stack, so that workers end and temporary files go."""
    ours = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == ours:
            raise errors.Stopped(number)
        os._exit(
            errors.SIGNAL_BASE + number
        )  # a forked child has inherited this, but has nothing of ours to tidy up

    taken = [each for each in signals if signal.getsignal(each) is signal.SIG_DFL]
    for each in taken:
        signal.signal(each, stop)
    try:
        yield
    finally:
        # `main` may have been called by a program that goes on.
        for each in taken:
            signal.signal(each, signal.SIG_DFL)


def _have_stderr() -> None:
    """Give a process started without stderr one that leads nowhere: words must never get among the data."""
    if sys.stderr is None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        if nothing == STDERR_FD:
            os.set_inheritable(STDERR_FD, True)  # as dup2 makes it
        else:
            os.dup2(nothing, STDERR_FD)
            os.close(nothing)
        sys.stderr = open(STDERR_FD, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as the one it replaces


def _abandon_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not complain."""
    with contextlib.suppress(OSError, AttributeError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
