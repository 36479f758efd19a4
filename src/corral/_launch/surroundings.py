"""Hand a parent's surroundings to a launched process: paths, arguments, directory, environment, output.

Role in the flow: `forkserver` and `spawn` capture and compare in the parent, `child` applies.
Runs in: parent (any thread, under no lock) and child (main thread).
Invariants:
    INV-SURR-1: only what differs from the process the child comes from is sent.
    INV-SURR-2: what is carried is done in the child before anything of the launch's payload is decoded.
"""

from __future__ import annotations

import os
import sys

from corral._launch import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Surroundings = dict[str, Any]  # plain builtins only: it travels by `marshal`

__all__ = ["apply", "capture", "carry", "difference", "output_fds"]

_carried: dict[str, Any] = {}


def carry(entry: str, argument: Any) -> None:
    """Have `entry`, "package.module:function", called with a plain value in every child; not for None."""
    if argument is None:
        _carried.pop(entry, None)
    else:
        _carried[entry] = argument


def capture() -> Surroundings:
    """Take down the surroundings of this process, as they are now."""
    return {
        "path": _texts(sys.path),
        "argv": _texts(getattr(sys, "argv", [])),
        "cwd": _cwd(),
        "env": dict(_environment()),
        "out": _stream_settings(sys.stdout),
        "err": _stream_settings(sys.stderr),
        "carried": dict(_carried),
        "root": tree.root(),
    }


def difference(base: Surroundings) -> Surroundings:
    """Return what has to change in a process that has the surroundings `base` to have ours."""
    changes: Surroundings = {}
    if sys.path != base["path"]:
        changes["path"] = _texts(sys.path)
    if getattr(sys, "argv", []) != base["argv"]:
        changes["argv"] = _texts(getattr(sys, "argv", []))
    cwd = _cwd()
    if cwd != base["cwd"]:
        changes["cwd"] = cwd
    if tree.root() != base["root"]:
        changes["root"] = tree.root()
    env = _environment()
    old = base["env"]
    if env != old:
        now = dict(env)
        changes["env"] = {name: value for name, value in now.items() if old.get(name) != value}
        changes["unset"] = [name for name in old if name not in now]
    for key, stream in (("out", sys.stdout), ("err", sys.stderr)):
        settings = _stream_settings(stream)
        if settings is not None and settings != base[key]:
            changes[key] = settings
    if _carried != base["carried"]:
        changes["carried"] = dict(_carried)
    return changes


def apply(changes: Surroundings) -> None:
    """Make this process's surroundings differ as `changes` says."""
    for key, value in changes.items():
        _APPLY[key](value)


def output_fds() -> list[int]:
    """Return standard output and standard error as far as they are open; a closed one is -1."""
    return [fd if _is_open(fd) else -1 for fd in (1, 2)]


def _texts(values: list[str]) -> list[str]:
    """Return the strings as plain ones: programs put subclasses and paths into these lists."""
    return [str(value) for value in values]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _cwd() -> str | None:
    """Return the current directory, or None when it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return None


def _environment() -> Mapping[bytes, bytes]:
    """Return the environment as bytes; the encoded dictionary itself where Python shows it, for speed."""
    inner = getattr(os.environ, "_data", None)
    return inner if isinstance(inner, dict) else dict(os.environb)


def _stream_settings(stream: object) -> list[object] | None:
    """Return how a text stream encodes and buffers; None for what isn't a text file."""
    encoding = getattr(stream, "encoding", None)
    write_through = getattr(stream, "write_through", None)
    if not isinstance(encoding, str) or write_through is None:
        return None
    return [
        encoding,
        getattr(stream, "errors", None),
        bool(getattr(stream, "line_buffering", False)),
        bool(write_through),
    ]


def _set_path(value: Any) -> None:
    sys.path[:] = value


def _set_argv(value: Any) -> None:
    sys.argv = value


def _set_cwd(value: Any) -> None:
    if isinstance(value, str):
        os.chdir(value)


def _set_environment(value: Any) -> None:
    os.environb.update(value)


def _unset_environment(value: Any) -> None:
    for name in value:
        os.environb.pop(name, None)


def _carry_out(value: Any) -> None:
    for entry, argument in value.items():
        module, _, function = entry.partition(":")
        __import__(module)
        getattr(sys.modules[module], function)(argument)


def _set_stream(stream: Any, value: Any) -> None:
    if value is None or value == _stream_settings(stream):
        return
    encoding, errors, line_buffering, write_through = value
    stream.reconfigure(
        encoding=encoding,
        errors=errors,
        line_buffering=line_buffering,
        write_through=write_through,
    )


_APPLY: dict[str, Callable[[Any], None]] = {
    "root": tree.set_root,
    "path": _set_path,
    "argv": _set_argv,
    "cwd": _set_cwd,
    "env": _set_environment,
    "unset": _unset_environment,
    "out": lambda value: _set_stream(sys.stdout, value),
    "err": lambda value: _set_stream(sys.stderr, value),
    "carried": _carry_out,
}
