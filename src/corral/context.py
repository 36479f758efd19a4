"""Contexts: the names of `multiprocessing`, bound to a start method.

Role in the flow: `corral.get_context(method)` returns one; its `Process` launches by that method, and what
else it makes (a pool) launches by it too. The module's own default context is behind `corral.Process`.
Runs in: parent and child, any thread.
Failure: an unknown start method is a `ValueError`.
"""

# ruff: noqa: SLF001, N802  (the standard library's seams are private names, and not all lower case)

from __future__ import annotations

import sys

from corral import process
from corral._launch import METHODS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    import os
    from collections.abc import Callable, Iterable, Sequence
    from multiprocessing.managers import SyncManager
    from typing import Any

    from corral import synchronize
    from corral._launch import Child
    from corral._launch.passing import Passing
    from corral.synchronize import OnOwnerDeath

__all__ = [
    "BaseContext",
    "DefaultContext",
    "ForkContext",
    "ForkProcess",
    "ForkServerContext",
    "ForkServerProcess",
    "Process",
    "SpawnContext",
    "SpawnProcess",
    "assert_spawning",
    "get_spawning_popen",
    "set_spawning_popen",
]

_STDLIB_ERRORS = ("AuthenticationError", "BufferTooShort", "ProcessError", "TimeoutError")


def _module(name: str) -> Any:
    """Import a module by name: faces do not import each other, and `importlib` costs a child its time."""
    __import__(name)
    return sys.modules[name]


class BaseContext:
    """What `multiprocessing` offers, bound to one start method."""

    _name: str
    Process: type[process.BaseProcess]

    current_process = staticmethod(process.current_process)
    parent_process = staticmethod(process.parent_process)
    active_children = staticmethod(process.active_children)

    def cpu_count(self) -> int:
        """Return how many CPUs this process may keep busy: affinity, control groups, `PYTHON_CPU_COUNT`."""
        from corral._launch.cpus import available_cpus

        return available_cpus()

    def Pipe(self, duplex: bool = True) -> Any:
        """Return the two ends of a pipe; messages go both ways, or from the second end to the first."""
        return _module("corral.connection").Pipe(duplex)

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
    ) -> Any:
        """Return a pool of worker processes."""
        return _module("corral.pool").Pool(
            processes, initializer, initargs, maxtasksperchild, context=self.get_context()
        )

    def ProcessPoolExecutor(self, max_workers: int | None = None, **options: Any) -> Any:
        """Return an executor whose workers start by this context's method."""
        futures = _module("corral.futures")
        return futures.ProcessPoolExecutor(max_workers, mp_context=self.get_context(), **options)

    def Lock(self, *, on_owner_death: OnOwnerDeath = "warn") -> synchronize.Lock:
        """Return a lock that its holder cannot take again."""
        made: synchronize.Lock = _module("corral.synchronize").Lock(on_owner_death=on_owner_death)
        return made

    def RLock(self, *, on_owner_death: OnOwnerDeath = "warn") -> synchronize.RLock:
        """Return a lock that its holder may take again, and nobody else release."""
        made: synchronize.RLock = _module("corral.synchronize").RLock(on_owner_death=on_owner_death)
        return made

    def Queue(self, maxsize: int = 0, *, capacity_bytes: int = 0) -> Any:
        """Return a queue for any number of processes; it grows unless a bound is given."""
        return _module("corral.queues").Queue(maxsize, ctx=self.get_context(), capacity_bytes=capacity_bytes)

    def JoinableQueue(self, maxsize: int = 0, *, capacity_bytes: int = 0) -> Any:
        """Return a queue that can be waited for until all that was put has been dealt with."""
        queues = _module("corral.queues")
        return queues.JoinableQueue(maxsize, ctx=self.get_context(), capacity_bytes=capacity_bytes)

    def SimpleQueue(self) -> Any:
        """Return a queue with no more than `put`, `get`, `empty` and `close`."""
        return _module("corral.queues").SimpleQueue(ctx=self.get_context())

    def Value(self, typecode_or_type: str | type[Any], *args: Any, lock: Any = True) -> Any:
        """Return a ctypes object in shared memory, with a lock around every access unless `lock` is False."""
        return _module("corral.sharedctypes").Value(
            typecode_or_type, *args, lock=lock, ctx=self.get_context()
        )

    def Array(self, typecode_or_type: str | type[Any], size_or_initializer: Any, *, lock: Any = True) -> Any:
        """Return a ctypes array in shared memory, with a lock around every access unless `lock` is False."""
        make = _module("corral.sharedctypes").Array
        return make(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    def RawValue(self, typecode_or_type: str | type[Any], *args: Any) -> Any:
        """Return a ctypes object in shared memory, without a lock."""
        return _module("corral.sharedctypes").RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: str | type[Any], size_or_initializer: Any) -> Any:
        """Return a ctypes array in shared memory, without a lock."""
        return _module("corral.sharedctypes").RawArray(typecode_or_type, size_or_initializer)

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:
        """Return a semaphore of so many units."""
        made: synchronize.Semaphore = _module("corral.synchronize").Semaphore(value)
        return made

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:
        """Return a semaphore that is not released more often than it was acquired."""
        made: synchronize.BoundedSemaphore = _module("corral.synchronize").BoundedSemaphore(value)
        return made

    def Condition(self, lock: Any = None) -> synchronize.Condition:
        """Return a condition, around a lock."""
        made: synchronize.Condition = _module("corral.synchronize").Condition(lock)
        return made

    def Event(self) -> synchronize.Event:
        """Return a flag to wait for."""
        made: synchronize.Event = _module("corral.synchronize").Event()
        return made

    def Barrier(
        self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None
    ) -> synchronize.Barrier:
        """Return a barrier for so many parties."""
        made: synchronize.Barrier = _module("corral.synchronize").Barrier(parties, action, timeout)
        return made

    def freeze_support(self) -> None:
        """Do nothing: only frozen executables on Windows need it."""

    def Manager(self) -> SyncManager:
        """Return a manager whose server process, started by this method, holds objects for all to share."""
        manager: SyncManager = _module("corral.managers").SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def get_logger(self) -> logging.Logger:
        """Return the logger that corral and the standard library's `multiprocessing` write to."""
        logger: logging.Logger = _module("corral.util").get_logger()
        return logger

    def log_to_stderr(self, level: int | str | None = None) -> logging.Logger:
        """Have the logger write to standard error, here and in processes launched from now on; return it."""
        logger: logging.Logger = _module("corral.util").log_to_stderr(level)
        return logger

    def allow_connection_pickling(self) -> None:
        """Do nothing: connections can always be sent."""

    def set_executable(self, executable: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        """Use another Python interpreter for the processes started from now on."""
        from corral._launch.spawn import set_executable

        set_executable(executable)

    def set_forkserver_preload(self, module_names: Sequence[str]) -> None:
        """Have the modules imported once, in the zygote, for all children that it forks."""
        from corral._launch.forkserver import set_preload

        set_preload(module_names)

    def get_context(self, method: str | None = None) -> BaseContext:
        """Return the context of a start method; this one if none is named.

        Raises:
            ValueError: there is no such method.
        """
        if method is None:
            return self
        try:
            return _concrete_contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None

    @property
    def reducer(self) -> Any:
        """The module, or object, with the pickler and the ways of handing descriptors on."""
        return _module(__name__).reduction

    @reducer.setter
    def reducer(self, reduction: Any) -> None:
        globals()["reduction"] = reduction

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """Return the name of the start method."""
        del allow_none
        return self._name

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Refuse: this context's method is its own."""
        del method, force
        raise ValueError("cannot set start method of concrete context")

    def __getattr__(self, name: str) -> Any:
        """Find the standard library's exception classes, which are borrowed when first used."""
        if name in _STDLIB_ERRORS:
            return getattr(_module("multiprocessing.context"), name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)


class Process(process.BaseProcess):
    """A process that starts by the default method, as it is when the process is started."""

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Child:
        return _default_context.get_context().Process._Popen(process_obj)


class ForkProcess(process.BaseProcess):
    """A process that is forked from this one."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Child:
        return process.launch_by("fork", process_obj)


class SpawnProcess(process.BaseProcess):
    """A process in a fresh interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Child:
        return process.launch_by("spawn", process_obj)


class ForkServerProcess(process.BaseProcess):
    """A process that the zygote has forked."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Child:
        return process.launch_by("forkserver", process_obj)


class ForkContext(BaseContext):
    """Start by forking this process."""

    _name = "fork"
    Process = ForkProcess


class SpawnContext(BaseContext):
    """Start a fresh interpreter."""

    _name = "spawn"
    Process = SpawnProcess


class ForkServerContext(BaseContext):
    """Start from the warm zygote."""

    _name = "forkserver"
    Process = ForkServerProcess


class DefaultContext(BaseContext):
    """The context whose start method can be set, once; until it is used it is open."""

    Process = Process

    def __init__(self, context: BaseContext) -> None:
        self._default_context = context
        self._actual_context: BaseContext | None = None

    def get_context(self, method: str | None = None) -> BaseContext:
        """Return the context of a start method; the default one, settled by this, if none is named."""
        if method is not None:
            return super().get_context(method)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Settle the start method; None with `force` opens it again.

        Raises:
            RuntimeError: it is settled, and `force` is not given.
        """
        if self._actual_context is not None and not force:
            raise RuntimeError("context has already been set")
        if method is None and force:
            self._actual_context = None
            return
        self._actual_context = self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """Return the start method's name, settling it unless `allow_none`; None if it is open."""
        if self._actual_context is None:
            if allow_none:
                return None
            self._actual_context = self._default_context
        return self._actual_context._name

    def get_all_start_methods(self) -> list[str]:
        """Return the start methods of this system, the default first."""
        default = self._default_context._name
        return [default, *(method for method in METHODS if method != default)]


_contexts: dict[str, BaseContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_concrete_contexts = _contexts.copy()
_default_context = DefaultContext(_concrete_contexts["forkserver"])


def _set_default(method: str, imposed: str | None = None) -> None:
    """Make `method` the default, for `corral run`; an `imposed` one is meant whatever is asked for."""
    _concrete_contexts.update({name: _contexts[imposed or name] for name in METHODS})
    _default_context._default_context = _concrete_contexts[method]


def _force_start_method(method: str | None) -> None:
    """Make a child's default start method its parent's."""
    if method is not None:
        _default_context._actual_context = _concrete_contexts[method]


def get_spawning_popen() -> Any:
    """Return what this thread's launch, ours or the standard library's, passes along; None outside of one."""
    from corral._launch import passing

    return passing.current() or passing.foreign()


def set_spawning_popen(popen: Passing | None) -> None:
    """Begin or end a launch in this thread."""
    from corral._launch import passing

    passing.set_current(popen)


def assert_spawning(obj: object) -> None:
    """Raise RuntimeError unless this thread is launching a process."""
    if get_spawning_popen() is None:
        raise RuntimeError(
            f"{type(obj).__name__} objects should only be shared between processes through inheritance"
        )


def __getattr__(name: str) -> Any:
    """Load what the standard library's module of the name has, too, when it is asked for."""
    if name == "reduction":
        return _module("corral.reduction")
    if name in _STDLIB_ERRORS:
        return getattr(_module("multiprocessing.context"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=__name__)


# The names that `corral` offers are this module's default context's.
Pipe = _default_context.Pipe
Barrier = _default_context.Barrier
BoundedSemaphore = _default_context.BoundedSemaphore
Condition = _default_context.Condition
Event = _default_context.Event
Lock = _default_context.Lock
RLock = _default_context.RLock
JoinableQueue = _default_context.JoinableQueue
Queue = _default_context.Queue
SimpleQueue = _default_context.SimpleQueue
Array = _default_context.Array
RawArray = _default_context.RawArray
RawValue = _default_context.RawValue
Value = _default_context.Value
Manager = _default_context.Manager
allow_connection_pickling = _default_context.allow_connection_pickling
Semaphore = _default_context.Semaphore
cpu_count = _default_context.cpu_count
freeze_support = _default_context.freeze_support
get_all_start_methods = _default_context.get_all_start_methods
get_context = _default_context.get_context
get_logger = _default_context.get_logger
get_start_method = _default_context.get_start_method
log_to_stderr = _default_context.log_to_stderr
set_executable = _default_context.set_executable
set_forkserver_preload = _default_context.set_forkserver_preload
set_start_method = _default_context.set_start_method
