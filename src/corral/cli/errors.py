"""The ways a command can end other than well, each with its exit status.

Role in the flow:
    Raised anywhere in `corral.cli`, turned into a message on stderr and an exit status by `corral.cli.main`.
"""

from __future__ import annotations

OK = 0
SOME_FAILED = 1
USAGE = 2
SIGNAL_BASE = 128


class UsageError(Exception):
    """What was asked cannot be done; the message says what to do instead. Exit status 2."""


class OutputError(Exception):
    """Results cannot be written any more: a full disk, say. Exit status 1."""


class Stopped(Exception):
    """A signal asked the command to end. Exit status 128 + the signal's number."""

    def __init__(self, signal_number: int, message: str = "") -> None:
        super().__init__(signal_number, message)
        self.signal_number = signal_number
        self.message = message
