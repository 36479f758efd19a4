"""Shows how far the work is: a tqdm bar on a terminal, nothing elsewhere.

Role in the flow:
    The commands and ``examples/parallel_processor.py`` ask `open_bar` for a `Bar` and tell it what is done.

Invariants:
    Everything goes to stderr; stdout is for data. tqdm (the extra ``progress``) is imported only when a
    bar is shown.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Protocol

from corral.cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

INSTALL_ADVICE = "a progress bar needs tqdm: pip install 'corral[progress]', or leave --progress out"


class Bar(Protocol):
    """Something that shows progress and lets lines be printed past it."""

    def update(self, count: int = 1, /) -> object:
        """Count `count` more as done."""

    def say(self, line: str, /) -> None:
        """Print a line on stderr without tearing the bar."""


class NoBar:
    """Shows nothing; lines go to stderr as they are."""

    def update(self, count: int = 1, /) -> None:
        """Ignore progress."""

    def say(self, line: str, /) -> None:
        """Print a line on stderr."""
        print(line, file=sys.stderr, flush=True)


def wanted(choice: bool | None, *, stdout_is_shown: bool) -> bool:
    """Decide whether to show a bar.

    Args:
        choice: What the user asked for; None: a bar if stderr is a terminal, tqdm is there, and no results
            scroll past.
        stdout_is_shown: Whether results appear on the same terminal.

    Raises:
        UsageError: A bar was asked for and tqdm is missing.
    """
    if choice is not None:
        if choice and not _has_tqdm():
            raise UsageError(INSTALL_ADVICE)
        return choice
    return sys.stderr.isatty() and not stdout_is_shown and _has_tqdm()


@contextlib.contextmanager
def open_bar(*, show: bool, total: int | None = None, unit: str = "item", title: str = "") -> Iterator[Bar]:
    """Show a bar for as long as the context lasts."""
    if not show:
        yield NoBar()
        return
    from tqdm import tqdm

    class Shown(tqdm):  # type: ignore[type-arg]  # tqdm is generic only in its stubs
        """A bar that can say a line."""

        monitor_interval = 0
        """No watching thread: a process with threads is worse at forking."""

        def say(self, line: str, /) -> None:
            """Print a line above the bar."""
            self.write(line, file=sys.stderr)

    with Shown(
        total=total, unit=f" {unit}", desc=title or None, file=sys.stderr, dynamic_ncols=True, leave=False
    ) as bar:
        yield bar


def _has_tqdm() -> bool:
    """Tell whether tqdm can be imported, by doing so: a broken one counts as missing."""
    try:
        import tqdm  # noqa: F401 - asked only whether it is there
    except ImportError:
        return False
    return True
