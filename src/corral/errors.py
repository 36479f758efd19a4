"""Every exception that corral raises of its own accord.

Each also inherits what a user of the standard library already catches (in brackets):

    CorralError
    ├── TaskError                   one task failed, for a reason that is not its function's exception
    │   ├── EncodeError             what was to be sent cannot be pickled    [pickle.PicklingError, TypeError,
    │   │                               multiprocessing.pool's MaybeEncodingError; what pickling it raised]
    │   ├── DecodeError       late  what arrived cannot be rebuilt [pickle.UnpicklingError, BrokenProcessPool]
    │   ├── TaskTimeout       late  not ready in time            [multiprocessing.TimeoutError, TimeoutError]
    │   ├── TaskCancelled           raised inside a running task that is cancelled
    │   ├── WorkerLost        late  its worker died meanwhile    [concurrent.futures BrokenProcessPool]
    │   └── PoisonTask        late  it killed worker after worker              [WorkerLost]
    ├── MapErrors                   every failure of a map that collects them  [ExceptionGroup]
    ├── PoolError
    │   ├── PoolClosed              closed by us; takes no more tasks          [ValueError, RuntimeError]
    │   └── PoolBroken        late  workers die faster than they may be replaced        [BrokenProcessPool]
    ├── LaunchError                 a process could not be started             [OSError]
    ├── SyncError
    │   ├── OwnerDied               the holder of a lock has just been found dead      [RuntimeError]
    │   └── LockPoisoned            since then nobody has said that all is well            [RuntimeError]
    ├── ChannelError
    │   ├── ChannelClosed           closed by us                               [OSError, ValueError]
    │   ├── ChannelBroken           the peer is gone                           [BrokenPipeError, EOFError]
    │   ├── ChannelDamaged          shared memory holds what nobody wrote      [ValueError]
    │   ├── ChannelFull       late  no room, and none came in time             [queue.Full]
    │   └── ChannelEmpty      late  nothing there, and nothing came in time    [queue.Empty]
    └── InternalError               corral's own fault: please report          [RuntimeError]

    OwnerDiedWarning                as OwnerDied, where the lock is granted nevertheless     [RuntimeWarning]
    RemoteTraceback                 the worker's traceback, as text: the `__cause__` of what a task raised

Role in the flow: raised everywhere, imports nothing of ours. The ones marked "late" inherit from modules that
are slow to import and that most programs never need; they live in `_errors_late` and are loaded when they are
first named.
Invariants: every exception survives a pickle round trip with its fields; none needs an argument that a
default cannot stand in for.
"""

from __future__ import annotations

# The very classes that `pickle` re-exports, without `pickle`, whose import costs more than all of corral's.
from _pickle import PicklingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from corral._errors_late import ChannelEmpty as ChannelEmpty
    from corral._errors_late import ChannelFull as ChannelFull
    from corral._errors_late import DecodeError as DecodeError
    from corral._errors_late import PoisonTask as PoisonTask
    from corral._errors_late import PoolBroken as PoolBroken
    from corral._errors_late import WorkerLost as WorkerLost
    from corral._errors_timeout import TaskTimeout as TaskTimeout

__all__ = [
    "ChannelBroken",
    "ChannelClosed",
    "ChannelDamaged",
    "ChannelEmpty",
    "ChannelError",
    "ChannelFull",
    "CorralError",
    "DecodeError",
    "EncodeError",
    "InternalError",
    "LaunchError",
    "LockPoisoned",
    "MapErrors",
    "OwnerDied",
    "OwnerDiedWarning",
    "PoisonTask",
    "PoolBroken",
    "PoolClosed",
    "PoolError",
    "RemoteTraceback",
    "SyncError",
    "TaskCancelled",
    "TaskError",
    "TaskTimeout",
    "WorkerLost",
    "describe_exit",
]

_LATE = frozenset(
    {"ChannelEmpty", "ChannelFull", "DecodeError", "PoisonTask", "PoolBroken", "TaskTimeout", "WorkerLost"}
)
_APART = {"TaskTimeout": "corral._errors_timeout"}


class CorralError(Exception):
    """The root: whatever corral raises of its own accord."""


class TaskError(CorralError):
    """One task failed, for a reason that is not an exception of its function."""


class EncodeError(TaskError, PicklingError, TypeError):
    """An object cannot be sent; the message names it and the path that leads to it.

    Attributes:
        exc: What pickling it raised, as text.
        value: What was to be sent, as text.
    """

    def __init__(self, message: str = "", *, exc: str = "", value: str = "") -> None:
        super().__init__(message)
        self.exc = exc
        self.value = value

    def __str__(self) -> str:
        # That of another base may want other arguments.
        return Exception.__str__(self)


class TaskCancelled(TaskError):
    """Somebody cancelled the task while it ran; raised inside it, so that it can clean up."""


class MapErrors(ExceptionGroup[Exception], CorralError):
    """Items of a map with `errors="collect"` have failed: all exceptions, with the item in a note.

    Attributes:
        failures: For each of the items that failed: its index, its input's short repr, its exception.
        results: The values of the others, by index.
    """

    failures: list[tuple[int, str, Exception]]
    results: dict[int, object]

    def __new__(
        cls,
        message: str = "",
        exceptions: Sequence[Exception] = (),
        *,
        failures: Sequence[tuple[int, str, Exception]] = (),
        results: Mapping[int, object] | None = None,
    ) -> Self:
        """Make the group with its fields: an exception's must be there before `__init__`."""
        self = super().__new__(cls, message, list(exceptions) or [TaskError("an item failed")])
        self.failures = list(failures)
        self.results = dict(results or {})
        return self

    def __init__(self, message: str = "", exceptions: Sequence[Exception] = (), **_: object) -> None:
        super().__init__(message, exceptions)

    def derive(self, excs: Sequence[Exception]) -> MapErrors:  # type: ignore[override]
        """Make the group that `split` and `subgroup` return: those exceptions, and all the results."""
        kept = {id(each) for each in excs}
        failures = [failure for failure in self.failures if id(failure[2]) in kept]
        return MapErrors(self.message, excs, failures=failures, results=self.results)


class PoolError(CorralError):
    """A pool or an executor cannot do what was asked of it."""


class PoolClosed(PoolError, ValueError, RuntimeError):
    """The pool was closed, by us, and takes no more tasks."""


class LaunchError(CorralError, OSError):
    """A process could not be started."""


class SyncError(CorralError):
    """A lock or another means of synchronisation cannot keep its promise."""


class OwnerDied(SyncError, RuntimeError):
    """The process that held a lock died: what it guards may be half-written."""


class OwnerDiedWarning(RuntimeWarning):
    """The process that held a lock died; the lock is granted again."""


class LockPoisoned(SyncError, RuntimeError):
    """A holder died, and what its lock guards may be half-written."""


class ChannelError(CorralError):
    """A channel cannot carry what was asked of it."""


class ChannelClosed(ChannelError, OSError, ValueError):
    """This end was closed, by us."""


class ChannelBroken(ChannelError, BrokenPipeError, EOFError):
    """The other end is gone."""


class ChannelDamaged(ChannelError, ValueError):
    """Shared memory holds something that no correct process writes."""


class InternalError(CorralError, RuntimeError):
    """An invariant of corral's own does not hold: a bug, please report it."""


class RemoteTraceback(Exception):
    """The traceback of a task in its worker, as text; the `__cause__` of the exception it raised."""

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.text = text

    @property
    def tb(self) -> str:
        """The text, by the standard library's name."""
        return self.text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def describe_exit(exitcode: int | None) -> str:
    """Say in words how a process ended: its code, or the signal that ended it.

    Args:
        exitcode: As `Process.exitcode` has it: the negative of a signal's number, None if not known.
    """
    if exitcode is None:
        return "is gone, nobody knows how"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    import signal

    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"was killed by {name}"


def __getattr__(name: str) -> object:
    """Load the exceptions whose bases are slow to import, when one is first named."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    late = importlib.import_module(_APART.get(name, "corral._errors_late"))
    value: object = getattr(late, name)
    globals()[name] = value
    return value
