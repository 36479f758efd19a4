"""`multiprocessing.spawn` on corral: what programs use of it."""

from __future__ import annotations

from corral._launch.spawn import get_executable, set_executable

__all__ = ["freeze_support", "get_executable", "set_executable"]


def freeze_support() -> None:
    """Do nothing: only frozen executables on Windows need it."""
