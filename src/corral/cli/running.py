"""``corral run``: become the Python that runs the user's program, with `multiprocessing` served by corral.

Role in the flow:
    `corral.cli.main` calls `run` and never hears of it again: this process becomes the program's, by exec.
    In it `_startup/sitecustomize.py` installs `corral._alias` before the program begins.

Failure:
    What cannot be started as asked is a `UsageError`; from the exec on, everything is as Python says.

See:
    docs/decisions/0017-run-by-startup-hook.md
"""

from __future__ import annotations

import marshal
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import corral
from corral.cli import progress
from corral.cli.errors import UsageError

if TYPE_CHECKING:
    from corral.cli.arguments import Options

_STARTUP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_startup")


def run(options: Options) -> NoReturn:
    """Replace this process by the program's.

    Raises:
        UsageError: this interpreter was told not to look at its environment, which is the way in.
    """
    if not sys.executable:
        raise UsageError("cannot tell which Python to run: sys.executable is empty")
    if options.progress:
        progress.wanted(choice=True, stdout_is_shown=True)
    words = [*_interpreter_options(), *options.program]
    environment = dict(os.environ)
    environment["CORRAL_RUN"] = marshal.dumps(
        {
            "settings": {"start_method": options.start_method, "workers": options.workers},
            "progress": options.progress,
            "root": os.path.dirname(os.path.dirname(os.path.abspath(corral.__file__))),
            "PYTHONPATH": environment.get("PYTHONPATH"),
        }
    ).hex()
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [_STARTUP, environment.get("PYTHONPATH")]))
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os.execve(sys.executable, [sys.executable, *words], environment)  # noqa: S606  (that is the command)


def _interpreter_options() -> list[str]:
    """Return the words of ``python WORDS -m corral run``; the script's shebang line is not the user's."""
    words = sys.orig_argv[1:]
    before = words[: words.index("corral")] if "corral" in words else []
    if not before or not before[0].startswith("-") or not before[-1].endswith("m"):
        return []
    if sys.flags.no_site or sys.flags.ignore_environment:
        raise UsageError("run python without -S, -E and -I: corral run needs site and the environment")
    last = before.pop()[:-1]
    return before if last == "-" else [*before, last]
