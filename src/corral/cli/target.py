"""Finds the function a user names on the command line.

Role in the flow:
    `resolve` runs in the parent first, so that a wrong name is a usage error before any worker starts,
    then once in each worker: one import per worker, nothing pickled.

Failure:
    Every `UsageError` says what was looked for, where, and what to write instead.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from typing import cast

from corral.cli.errors import UsageError

Function = Callable[[object], object]
_CO_COROUTINE = 0x80
"""`inspect.CO_COROUTINE`, without the import: every worker imports this module."""


def resolve(spec: str) -> Function:
    """Import the function named by `spec`.

    Args:
        spec: ``package.module:function``, ``module:Class.method`` or ``path/to/file.py:function``.

    Raises:
        UsageError: No such module or function, or not something that can be called with one item.
    """
    module_name, path = _split(spec)
    target: object = _import(module_name, spec)
    for depth, name in enumerate(path):
        try:
            target = getattr(target, name)
        except AttributeError:
            raise UsageError(_no_such_name(target, ".".join([module_name, *path[:depth]]), name)) from None
    if not callable(target):
        kind = type(target).__name__
        message = f"{spec} is a {kind}, not a function: name something that can be called with one item"
        raise UsageError(message)
    if getattr(getattr(target, "__code__", None), "co_flags", 0) & _CO_COROUTINE:
        message = f"{spec} is an async function: name a plain one (it may call asyncio.run itself)"
        raise UsageError(message)
    return cast("Function", target)


def _split(spec: str) -> tuple[str, list[str]]:
    """Split a spec into a module's name and a path of attributes."""
    module_name, colon, attributes = spec.rpartition(":")
    if not colon or not module_name or not attributes:
        raise UsageError(_how_to_write(spec))
    if module_name.endswith(".py"):
        folder, filename = os.path.split(os.path.abspath(module_name))
        if not os.path.isfile(module_name):
            message = f"no file {module_name}: the part before ':' is looked up from {os.getcwd()}"
            raise UsageError(message)
        module_name = filename[: -len(".py")]
        if sys.path[:1] != [folder]:
            sys.path.insert(0, folder)
    return module_name, attributes.split(".")


def _import(name: str, spec: str) -> object:
    """Import a module, what it prints going to stderr, since stdout is for data."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise UsageError(_no_such_module(error.name, spec)) from None
        raise UsageError(_import_failed(name, error)) from None
    except (Exception, SystemExit) as error:
        raise UsageError(_import_failed(name, error)) from None


def _import_failed(name: str, error: BaseException) -> str:
    """Show the user's own traceback: the module was found, it is its code that fails."""
    import traceback

    frames = error.__traceback__
    while (frames is not None and "importlib" in frames.tb_frame.f_code.co_filename) or (
        frames and frames.tb_frame.f_globals is globals()
    ):
        frames = frames.tb_next
    shown = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
    return f"module {name} was found, but importing it fails:\n{shown}"


def _no_such_module(missing: str, spec: str) -> str:
    """Explain where a module was looked for, and the likely slip."""
    if hasattr(builtins, missing):
        return f"no module named {missing!r}: for the built-in function write builtins:{missing}"
    if os.path.isfile(missing.replace(".", os.sep)):
        return f"no module named {missing!r}: for a file write path/to/file.py:function"
    return (
        f"no module named {missing!r} (from {spec!r}): looked in {os.getcwd()} "
        f"and in this Python's packages ({sys.executable}); "
        "change to the folder that holds it, install it here, or write path/to/file.py:function"
    )


def _no_such_name(owner: object, owner_name: str, name: str) -> str:
    """List what the user may have meant."""
    callables = [
        each for each in dir(owner) if not each.startswith("_") and callable(getattr(owner, each, None))
    ]
    import difflib

    near = difflib.get_close_matches(name, callables, n=3)
    if near:
        return f"{owner_name} has no {name!r}: did you mean {' or '.join(near)}?"
    shown = ", ".join(callables[:8]) + (", ..." if len(callables) > 8 else "")  # noqa: PLR2004 - a line's worth
    return f"{owner_name} has no {name!r}: it has {shown or 'no functions'}"


def _how_to_write(spec: str) -> str:
    """Explain the form, with the user's own words put into it where they can be guessed."""
    form = "write the function as package.module:function"
    if spec.endswith(".py"):
        return f"{spec!r} names no function: {form}, or {spec}:function"
    module_name, dot, function = spec.strip(":").rpartition(".")
    if dot and module_name and function:
        return f"{spec!r} has no ':' between module and function: did you mean {module_name}:{function}?"
    if hasattr(builtins, spec):
        return f"{spec!r} names no module: for the built-in function write builtins:{spec}"
    return f"{spec!r} names no function: {form}"
