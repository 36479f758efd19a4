"""The words of the command line: what can be typed, and what it means.

Role in the flow:
    `corral.cli.main` parses with `parse`; the commands read the resulting `Options`.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from corral.cli.errors import UsageError

_EXAMPLES = {
    "map": """\
examples:
  corral map mypackage.text:word_count book.txt
  corral map --jsonl shop.orders:total < orders.jsonl > totals.jsonl
  corral map images.py:size --files 'photos/**/*.jpg' --unordered --output sizes.jsonl

exit status: 0 all items have results; 1 some failed; 2 the command could not start; 130 Ctrl-C
""",
    "compare": """\
examples:
  corral compare mypackage.text:word_count book.txt
  corral compare builtins:len --files 'docs/**/*.md' --workers 4

exit status: 0 measured; 1 items failed or results differ; 2 the command could not start; 130 Ctrl-C
""",
    "run": """\
examples:
  corral run program.py --its-own options
  corral run --progress -m package.module
  corral run --start-method spawn --workers 4 program.py

exit status: the program's own
""",
}


_SUMMARIES = {
    "map": "apply a function to every line, record or file; one JSON result per line",
    "compare": "time a function sequentially and in parallel; say whether parallel pays",
    "run": "run a program as it is, with corral in the place of multiprocessing",
}


class Options(argparse.Namespace):
    """What the user asked for."""

    command: str
    function: str
    inputs: list[str]
    jsonl: bool
    files: list[str]
    encoding: str
    workers: int | None
    chunksize: int | None
    ordered: bool
    output: str | None
    progress: bool | None
    errors: str
    budget_s: float
    start_method: str | None
    program: list[str]

    @property
    def kind(self) -> str:
        """What an item is: ``line``, ``jsonl`` or ``file``."""
        return "file" if self.files else "jsonl" if self.jsonl else "line"


class _Parser(argparse.ArgumentParser):
    """Reports mistakes in our own words and way."""

    def error(self, message: str) -> NoReturn:
        if "required: FUNCTION" in message:
            message = (
                "name a function first, as package.module:function "
                "(before --files, which takes all words that follow)"
            )
        text = f"{message}\n(see: {self.prog} --help)"
        raise UsageError(text)


def parse(words: list[str]) -> Options:
    """Parse the words after ``corral``.

    Raises:
        UsageError: They make no sense.
        SystemExit: After ``--help`` or ``--version`` have printed theirs.
    """
    if not words or words[0] not in _SUMMARIES:
        _overview().parse_args(words)
        message = f"no command given: {' or '.join(_SUMMARIES)}\n(see: corral --help)"
        raise UsageError(message)
    # One parser per command rather than argparse's subparsers: those refuse an INPUT that follows an option.
    options = Options(command=words[0])
    if words[0] == "run":
        ours, options.program = _split(words[1:])
        _run_parser().parse_args(ours, namespace=options)
        if not options.program:
            raise UsageError("name a program: FILE, -m MODULE, -c CODE or -\n(see: corral run --help)")
        return options
    return _COMMANDS[words[0]]().parse_intermixed_args(words[1:], namespace=options)


_VALUED = ("-w", "--workers", "--start-method")
_PROGRAM = ("-", "-c", "-m")


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Tell the options of ``corral run`` from the program and what is the program's."""
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] not in _PROGRAM:
        at += 2 if words[at] in _VALUED else 1
    return words[:at], words[at:]


def _run_parser() -> argparse.ArgumentParser:
    summary = _SUMMARIES["run"]
    parser = _Parser(
        prog="corral run",
        usage="corral run [options] FILE|-m MODULE|-c CODE|- [ARGUMENT ...]",
        description=summary[0].upper() + summary[1:] + ", in it and in its child processes.\n\n"
        "The program is named as it is to python, and gets all the words that follow.",
        epilog=_EXAMPLES["run"],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-w",
        "--workers",
        type=_positive_int,
        metavar="N",
        help="what multiprocessing.cpu_count() says, and so how many workers a pool has that names no number",
    )
    parser.add_argument(
        "--start-method",
        choices=("fork", "forkserver", "spawn"),
        help="start processes so, whatever the program chooses (default: its choice, else the interpreter's)",
    )
    parser.add_argument(
        "--progress", action="store_true", help="show on stderr how far the maps of pools are"
    )
    return parser


def _overview() -> argparse.ArgumentParser:
    """Build the parser of what can be said before a command."""
    lines = "\n".join(f"  {name:<9} {summary}" for name, summary in _SUMMARIES.items())
    parser = _Parser(
        prog="corral",
        usage="corral COMMAND ...",
        description="Run a Python function over many items, on all cores.\n\n"
        f"commands:\n{lines}\n\ncorral COMMAND --help tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=_version())
    parser.add_argument("command", nargs="?", choices=tuple(_SUMMARIES), help=argparse.SUPPRESS)
    return parser


def _map_parser() -> argparse.ArgumentParser:
    parser = _command_parser("map")
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write results to FILE, which appears when it is whole (default: stdout)",
    )
    order = parser.add_mutually_exclusive_group()
    order.add_argument(
        "--ordered",
        dest="ordered",
        action="store_true",
        default=True,
        help="results in the order of the input (default)",
    )
    order.add_argument("--unordered", dest="ordered", action="store_false", help="results as they are ready")
    parser.add_argument(
        "--errors",
        choices=("collect", "stop"),
        default="collect",
        help="when an item fails: name it and go on (collect, the default), or end there (stop)",
    )
    return parser


def _compare_parser() -> argparse.ArgumentParser:
    parser = _command_parser("compare")
    parser.add_argument(
        "--budget-s",
        type=_positive_float,
        default=10.0,
        metavar="SECONDS",
        help="stop taking input when the sequential run has lasted this long (default: 10)",
    )
    return parser


_COMMANDS = {"map": _map_parser, "compare": _compare_parser}


def _command_parser(name: str) -> argparse.ArgumentParser:
    """Build what all commands have: function, input, workers, progress."""
    summary = _SUMMARIES[name]
    parser = _Parser(
        prog=f"corral {name}",
        description=summary[0].upper() + summary[1:] + ".",
        epilog=_EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "function", metavar="FUNCTION", help="package.module:function or path/to/file.py:function"
    )
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="*",
        help="files whose lines are the items; - or nothing: standard input",
    )
    parser.add_argument(
        "--jsonl", action="store_true", help="each line is a JSON value; blank lines are skipped"
    )
    parser.add_argument(
        "--files",
        metavar="PATTERN",
        nargs="+",
        action="extend",
        default=[],
        help="the items are the paths that match, ** standing for folders of any depth",
    )
    parser.add_argument("--encoding", default="utf-8", metavar="NAME", help="of lines (default: utf-8)")
    parser.add_argument(
        "-w",
        "--workers",
        type=_positive_int,
        metavar="N",
        help="worker processes (default: one per core available)",
    )
    parser.add_argument(
        "--chunksize",
        type=_positive_int,
        metavar="N",
        help="items handed to a worker at a time (default: found while running)",
    )
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="a progress bar on stderr (default: on a terminal)",
    )
    return parser


def _positive_int(text: str) -> int:
    """Read a whole number of at least one."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        message = f"{text!r} is not a whole number of at least 1"
        raise argparse.ArgumentTypeError(message)
    return value


def _positive_float(text: str) -> float:
    """Read a number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        message = f"{text!r} is not a number above 0"
        raise argparse.ArgumentTypeError(message)
    return value


def _version() -> str:
    """Tell the installed version."""
    from importlib import metadata

    try:
        return f"corral {metadata.version('corral')}"
    except metadata.PackageNotFoundError:
        return "corral (not installed)"
