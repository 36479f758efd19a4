"""`multiprocessing.forkserver` on corral: what programs use of it; the server is the zygote of `_launch`."""

from __future__ import annotations

from corral._launch import warm_up
from corral._launch.forkserver import set_preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ensure_running", "set_forkserver_preload"]


def ensure_running() -> None:
    """Start the zygote if there is none, and wait until it has made its first children.

    Raises:
        OSError: no room for another process.
    """
    warm_up()


def set_forkserver_preload(modules_names: Sequence[str]) -> None:
    """Have the modules imported once, in zygotes started from now on, for all children that they fork.

    Raises:
        TypeError: a name is no string.
    """
    set_preload(modules_names)
