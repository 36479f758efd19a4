"""`multiprocessing.util` on corral: finalizers in their order, hooks after a fork, the logger, small helpers.

Role in the flow: what is borrowed of the standard library (managers, thread pools) registers here, and so may
a user; `corral.process` runs the finalizers at exit.
Runs in: parent and child, any thread.
Invariants:
    INV-UTIL-1: at exit the highest priority is finalized first, among equals the latest; those below zero
        after the children have been waited for.
    INV-UTIL-2: a finalizer runs once, and only in the process that made it.
Failure: an exception of a finalizer is printed, the others run all the same.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import weakref

from corral import process
from corral._launch import at_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

__all__ = [
    "SUBDEBUG",
    "SUBWARNING",
    "Finalize",
    "ForkAwareLocal",
    "ForkAwareThreadLock",
    "close_all_fds_except",
    "debug",
    "get_logger",
    "get_temp_dir",
    "info",
    "is_exiting",
    "log_to_stderr",
    "register_after_fork",
    "sub_debug",
    "sub_warning",
    "warn",
]

# --- the logger -----------------------------------------------------------------------------------

NOTSET = 0
SUBDEBUG = 5
DEBUG = 10
INFO = 20
SUBWARNING = 25
WARNING = 30

LOGGER_NAME = "multiprocessing"
"""The name that programs configure; messages of both worlds go to one place."""
DEFAULT_LOGGING_FORMAT = "[%(levelname)s/%(processName)s] %(message)s"

_logger: logging.Logger | None = None
_log_to_stderr = False


def get_logger() -> logging.Logger:
    """Return the logger that corral writes to; it hands nothing on to the root logger's handlers."""
    global _logger  # noqa: PLW0603  (nobody logs until somebody has asked for the logger)
    if _logger is None:
        import logging

        _logger = logging.getLogger(LOGGER_NAME)
        _logger.propagate = False
    return _logger


def log_to_stderr(level: int | str | None = None) -> logging.Logger:
    """Have the logger write to standard error, in this process and those launched from now on; return it."""
    global _log_to_stderr  # noqa: PLW0603
    import logging

    logger = get_logger()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(DEFAULT_LOGGING_FORMAT))
    logger.addHandler(handler)
    if level:
        logger.setLevel(level)
    _log_to_stderr = True
    return logger


def log_settings() -> tuple[int, bool] | None:
    """Return what a child's logger should be set to: the level, and whether it writes to standard error."""
    return None if _logger is None else (_logger.getEffectiveLevel(), _log_to_stderr)


def set_log(level: int, to_stderr: bool) -> None:
    """Set the logger as the parent's is."""
    get_logger().setLevel(level)
    if to_stderr:
        log_to_stderr(level)


def sub_debug(msg: str, *args: object) -> None:
    """Log below DEBUG."""
    if _logger is not None:
        _logger.log(SUBDEBUG, msg, *args, stacklevel=2)


def debug(msg: str, *args: object) -> None:
    """Log at DEBUG."""
    if _logger is not None:
        _logger.log(DEBUG, msg, *args, stacklevel=2)


def info(msg: str, *args: object) -> None:
    """Log at INFO."""
    if _logger is not None:
        _logger.log(INFO, msg, *args, stacklevel=2)


def sub_warning(msg: str, *args: object) -> None:
    """Log between INFO and WARNING."""
    if _logger is not None:
        _logger.log(SUBWARNING, msg, *args, stacklevel=2)


def warn(msg: str, *args: object) -> None:
    """Log at WARNING."""
    if _logger is not None:
        _logger.log(WARNING, msg, *args, stacklevel=2)


# --- finalizers -----------------------------------------------------------------------------------

_finalizer_registry: dict[tuple[int | None, int], Finalize] = {}
_finalizer_counter = itertools.count()


class Finalize:
    """A call to be made once: when an object is collected, at exit, or when this is called.

    Args:
        obj: the object whose end it belongs to; it is not kept alive. None: only exit, or a call.
        callback: what to call, with `args` and `kwargs`.
        exitpriority: when at exit, the highest first; None: not at exit.

    Belongs to the process that made it: a forked child's copy does nothing.
    """

    def __init__(
        self,
        obj: object,
        callback: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        exitpriority: int | None = None,
    ) -> None:
        if exitpriority is not None and not isinstance(exitpriority, int):
            raise TypeError(
                f"Exitpriority ({exitpriority!r}) must be None or int, not {type(exitpriority)!s}"
            )
        if obj is None and exitpriority is None:
            raise ValueError("Without object, exitpriority cannot be None")
        self._key: tuple[int | None, int] | None = (exitpriority, next(_finalizer_counter))
        self._call: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None
        self._call = (callback, tuple(args), dict(kwargs or {}))
        self._pid = os.getpid()
        self._weakref = None if obj is None else weakref.ref(obj, self)
        _finalizer_registry[self._key] = self
        if exitpriority is not None:
            at_exit(process.exit_function)

    def __call__(self, wr: object = None) -> Any:  # noqa: ARG002  (as a weak reference calls it)
        """Make the call and return what it returns, unless that was done, cancelled, or is another's."""
        call = self._take()
        if call is None or self._pid != os.getpid():
            return None
        callback, args, kwargs = call
        sub_debug("finalizer calling %s with args %s and kwargs %s", callback, args, kwargs)
        return callback(*args, **kwargs)

    def cancel(self) -> None:
        """See to it that the call is never made."""
        self._take()

    def still_active(self) -> bool:
        """Tell whether the call is still to be made."""
        return self._key in _finalizer_registry

    def _take(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None:
        """Return the call, to exactly one who asks, and forget what it holds."""
        found = None if self._key is None else _finalizer_registry.pop(self._key, None)
        if found is None:
            return None
        call, self._call = self._call, None
        self._weakref = self._key = None
        return call

    def __repr__(self) -> str:
        call, key, reference = self._call, self._key, self._weakref
        if call is None or key is None or (reference is not None and reference() is None):
            return f"<{type(self).__name__} object, dead>"
        callback, args, kwargs = call
        words = [f"callback={getattr(callback, '__name__', callback)}"]
        if args:
            words.append(f"args={args}")
        if kwargs:
            words.append(f"kwargs={kwargs}")
        if key[0] is not None:
            words.append(f"exitpriority={key[0]}")
        return f"<{type(self).__name__} object, {', '.join(words)}>"


def _run_finalizers(minpriority: int | None = None) -> None:
    """Run the finalizers that have an exit priority, of at least `minpriority`, the highest first.

    The registry may change meanwhile: by them, by the collector, by other threads.
    """
    keys = [
        (key[0], key[1])
        for key in list(_finalizer_registry)
        if key[0] is not None and (minpriority is None or key[0] >= minpriority)
    ]
    for key in sorted(keys, reverse=True):
        finalizer = _finalizer_registry.get(key)
        if finalizer is not None:
            sub_debug("calling %s", finalizer)
            try:
                finalizer()
            except Exception:
                sys.excepthook(*sys.exc_info())
    if minpriority is None:
        _finalizer_registry.clear()


def is_exiting() -> bool:
    """Tell whether this process is shutting down."""
    return process.is_exiting()


def _exit_function() -> None:
    """Do what is done at exit, once: finalizers, then children, then the other finalizers."""
    if not is_exiting():
        process.exit_function()


# --- after a fork ---------------------------------------------------------------------------------

_afterfork_registry: weakref.WeakValueDictionary[tuple[int, int, Callable[[Any], object]], Any] = (
    weakref.WeakValueDictionary()
)
_afterfork_counter = itertools.count()


def register_after_fork(obj: Any, func: Callable[[Any], object]) -> None:
    """Have `func(obj)` called in each process that is launched by a fork, while `obj` lives."""
    _afterfork_registry[(next(_afterfork_counter), id(obj), func)] = obj


def _run_after_forkers() -> None:
    """Call what was registered, in that order, in a forked child."""
    for (_, _, func), obj in sorted(_afterfork_registry.items(), key=lambda item: item[0][0]):
        try:
            func(obj)
        except Exception as error:
            info("after forker raised exception %s", error)


class ForkAwareThreadLock:
    """A lock between threads that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        register_after_fork(self, ForkAwareThreadLock._at_fork_reinit)

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]  # noqa: SLF001  (the interpreter's own way)

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *args: object) -> None:
        self._lock.release()


class ForkAwareLocal(threading.local):
    """Attributes of each thread that a forked child does not inherit, nor a pickle carries."""

    def __init__(self) -> None:
        register_after_fork(self, lambda obj: obj.__dict__.clear())

    def __reduce__(self) -> tuple[type[ForkAwareLocal], tuple[()]]:
        return type(self), ()


# --- folders, descriptors -------------------------------------------------------------------------

abstract_sockets_supported = sys.platform == "linux"


def is_abstract_socket_namespace(address: str | bytes | None) -> bool:
    """Tell whether a socket's address has no file: it begins with a null byte."""
    if not address:
        return False
    if isinstance(address, bytes):
        return address[0] == 0
    if isinstance(address, str):
        return address[0] == "\0"
    raise TypeError(f"address type of {address!r} unrecognized")


def get_temp_dir() -> str:
    """Return a folder of this process and its descendants for temporary files; it is removed at exit."""
    config = process.current_process()._config  # noqa: SLF001  (where the descendants inherit it from)
    found: str | None = config.get("tempdir")
    if found is None:
        import shutil
        import tempfile

        found = tempfile.mkdtemp(prefix="pymp-")
        info("created temp directory %s", found)
        Finalize(None, _remove_temp_dir, args=(shutil.rmtree, found), exitpriority=-100)
        config["tempdir"] = found
    return found


def _remove_temp_dir(remove: Callable[[str], object], folder: str) -> None:
    remove(folder)
    process.current_process()._config["tempdir"] = None  # noqa: SLF001


def close_all_fds_except(fds: Iterable[int]) -> None:
    """Close all descriptors of this process but these."""
    bounds = sorted({-1, *fds, os.sysconf("SC_OPEN_MAX")})
    for low, high in itertools.pairwise(bounds):
        os.closerange(low + 1, high)


def close_fds(*fds: int) -> None:
    """Close the descriptors."""
    for fd in fds:
        os.close(fd)


def spawnv_passfds(path: str | bytes, args: Iterable[str | bytes], passfds: Iterable[int]) -> int:
    """Start a program that gets 0, 1, 2 and these descriptors and no other; return its process id."""
    import subprocess

    started = subprocess.Popen(list(args), executable=path, pass_fds=sorted({*map(int, passfds)}))  # noqa: S603
    # Who gets the process id is who waits for it.
    started.returncode = 0
    return started.pid


def _args_from_interpreter_flags() -> list[str]:
    """Return the options that make an interpreter behave as this one."""
    from corral._launch.spawn import interpreter_flags

    return interpreter_flags()


def _flush_std_streams() -> None:
    """Write out what standard output and standard error have buffered."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):
            # None, closed or replaced.
            continue


def _after_fork() -> None:
    """Begin anew in a forked child, whoever forked it: what its parent has to finalize isn't its to do.

    Not only where corral forks: a program's own fork must not share a proxy's connection with its parent.
    """
    _finalizer_registry.clear()
    _run_after_forkers()


os.register_at_fork(after_in_child=_after_fork)
