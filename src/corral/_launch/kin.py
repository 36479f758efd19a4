"""Know who this process is: its name, its key, its parent; and hand that on to those it launches.

Role in the flow: `launch` has every child told who it is; `corral.process` makes objects of it when they are
asked for, and `neighbour` tells the standard library.
Runs in: parent and child, any thread.
Invariants:
    INV-KIN-1: all processes of a tree have one authentication key, and so has the standard library in them.
    INV-KIN-2: what is handed on is plain: it travels by `marshal`.
Failure: none of its own.
"""

from __future__ import annotations

import os
import sys

from corral._launch import neighbour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    About = dict[str, Any]  # what a process is told of itself; plain values only

__all__ = ["about", "be", "config", "describe"]

KEY_BYTES = 32

_about: About | None = None
_config: dict[str, Any] | None = None


def about() -> About | None:
    """Return what this process was told of itself when it was launched; None in a root."""
    return _about


def config() -> dict[str, Any]:
    """Return what all descendants inherit: the key and the settings of the standard library's own parts."""
    global _config  # noqa: PLW0603  (one per process is the meaning of it)
    if _config is None:
        theirs = neighbour.loaded("multiprocessing.process")
        if theirs is not None:
            # The very dictionary: a key that is set on their side is set on ours.
            _config = theirs.current_process()._config  # noqa: SLF001
        else:
            _config = {"authkey": os.urandom(KEY_BYTES), "semprefix": "/mp"}
            neighbour.when_loaded("multiprocessing.process", _share_config)
    return _config


def describe(
    name: str,
    *,
    identity: tuple[int, ...] | None = None,
    daemon: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> About:
    """Return what a process that this one is about to launch has to know of itself.

    Args:
        name: its name.
        identity: its place among its relatives, as the standard library counts them; None: the next one.
        daemon: whether it ends with its parent rather than being waited for.
        settings: what it inherits in place of this process's own `config`.
    """
    process: Any = sys.modules.get("corral.process")
    me = process.current_process() if process is not None else None
    if settings is None:
        settings = {**(config() if me is None else me._config), "daemon": daemon}  # noqa: SLF001
    own_name = me.name if me is not None else "MainProcess" if _about is None else _about["name"]
    if identity is None:
        # Programs take the last number for that of a pool's worker.
        identity = () if process is None else process.next_identity()
    told = {
        "name": name,
        "identity": identity,
        "config": _plain(settings),
        "parent": (own_name, os.getpid()),
    }
    util: Any = sys.modules.get("corral.util")
    if util is not None and util.log_settings() is not None:
        told["log"] = util.log_settings()
    return told


def be(told: About, *, forked: bool = False) -> None:
    """Be, from now on, the process that the parent has described."""
    global _about, _config  # noqa: PLW0603
    _about = told
    _config = told["config"]
    process: Any = sys.modules.get("corral.process")
    if process is not None:
        process.be_told(told)
    neighbour.introduce(forked=forked)
    if "log" in told and not forked:
        # It lies above: by name.
        __import__("corral.util")
        sys.modules["corral.util"].set_log(*told["log"])


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that can travel; a key is bytes, of whatever class it is."""
    kept = {name: value for name, value in settings.items() if type(value) in _SCALARS}
    if "authkey" in settings:
        kept["authkey"] = bytes(settings["authkey"])
    return kept


_SCALARS = frozenset({bool, bytes, float, int, str, type(None)})


def _share_config(theirs: Any) -> None:
    """Have the standard library's own process object, just made, live by our key."""
    if _about is None and _config is not None:
        _config["authkey"] = theirs.AuthenticationString(_config["authkey"])
        theirs.current_process()._config = _config  # noqa: SLF001
