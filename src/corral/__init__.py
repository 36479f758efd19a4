"""The names of `multiprocessing`, and corral's own few, on corral's engine.

Role in the flow: `import corral as mp` is the whole migration. Each name is loaded from its room when it
is first used, so that importing corral costs next to nothing.
See: ARCHITECTURE.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.context import AuthenticationError as AuthenticationError
    from multiprocessing.context import BufferTooShort as BufferTooShort
    from multiprocessing.context import ProcessError as ProcessError
    from multiprocessing.context import TimeoutError as TimeoutError  # noqa: A004 - the name it has there

    from corral._worker.current import current_task as current_task
    from corral.context import Array as Array
    from corral.context import Barrier as Barrier
    from corral.context import BoundedSemaphore as BoundedSemaphore
    from corral.context import Condition as Condition
    from corral.context import Event as Event
    from corral.context import JoinableQueue as JoinableQueue
    from corral.context import Lock as Lock
    from corral.context import Manager as Manager
    from corral.context import Pipe as Pipe
    from corral.context import Process as Process
    from corral.context import Queue as Queue
    from corral.context import RawArray as RawArray
    from corral.context import RawValue as RawValue
    from corral.context import RLock as RLock
    from corral.context import Semaphore as Semaphore
    from corral.context import SimpleQueue as SimpleQueue
    from corral.context import Value as Value
    from corral.context import allow_connection_pickling as allow_connection_pickling
    from corral.context import cpu_count as cpu_count
    from corral.context import freeze_support as freeze_support
    from corral.context import get_all_start_methods as get_all_start_methods
    from corral.context import get_context as get_context
    from corral.context import get_logger as get_logger
    from corral.context import get_start_method as get_start_method
    from corral.context import log_to_stderr as log_to_stderr
    from corral.context import set_executable as set_executable
    from corral.context import set_forkserver_preload as set_forkserver_preload
    from corral.context import set_start_method as set_start_method
    from corral.errors import ChannelBroken as ChannelBroken
    from corral.errors import ChannelClosed as ChannelClosed
    from corral.errors import ChannelDamaged as ChannelDamaged
    from corral.errors import ChannelEmpty as ChannelEmpty
    from corral.errors import ChannelError as ChannelError
    from corral.errors import ChannelFull as ChannelFull
    from corral.errors import CorralError as CorralError
    from corral.errors import DecodeError as DecodeError
    from corral.errors import EncodeError as EncodeError
    from corral.errors import InternalError as InternalError
    from corral.errors import LaunchError as LaunchError
    from corral.errors import LockPoisoned as LockPoisoned
    from corral.errors import MapErrors as MapErrors
    from corral.errors import OwnerDied as OwnerDied
    from corral.errors import OwnerDiedWarning as OwnerDiedWarning
    from corral.errors import PoisonTask as PoisonTask
    from corral.errors import PoolBroken as PoolBroken
    from corral.errors import PoolClosed as PoolClosed
    from corral.errors import PoolError as PoolError
    from corral.errors import RemoteTraceback as RemoteTraceback
    from corral.errors import SyncError as SyncError
    from corral.errors import TaskCancelled as TaskCancelled
    from corral.errors import TaskError as TaskError
    from corral.errors import TaskTimeout as TaskTimeout
    from corral.errors import WorkerLost as WorkerLost
    from corral.futures import ProcessPoolExecutor as ProcessPoolExecutor
    from corral.futures import as_completed as as_completed
    from corral.futures import cancel as cancel
    from corral.futures import wait as wait
    from corral.heap import heap_stats as heap_stats
    from corral.pool import Pool as Pool
    from corral.process import active_children as active_children
    from corral.process import current_process as current_process
    from corral.process import parent_process as parent_process

__version__ = "0.1.0"

__all__ = [
    "Array",
    "AuthenticationError",
    "Barrier",
    "BoundedSemaphore",
    "BufferTooShort",
    "ChannelBroken",
    "ChannelClosed",
    "ChannelDamaged",
    "ChannelEmpty",
    "ChannelError",
    "ChannelFull",
    "Condition",
    "CorralError",
    "DecodeError",
    "EncodeError",
    "Event",
    "InternalError",
    "JoinableQueue",
    "LaunchError",
    "Lock",
    "LockPoisoned",
    "Manager",
    "MapErrors",
    "OwnerDied",
    "OwnerDiedWarning",
    "Pipe",
    "PoisonTask",
    "Pool",
    "PoolBroken",
    "PoolClosed",
    "PoolError",
    "Process",
    "ProcessError",
    "ProcessPoolExecutor",
    "Queue",
    "RLock",
    "RawArray",
    "RawValue",
    "RemoteTraceback",
    "Semaphore",
    "SimpleQueue",
    "SyncError",
    "TaskCancelled",
    "TaskError",
    "TaskTimeout",
    "TimeoutError",
    "Value",
    "WorkerLost",
    "active_children",
    "allow_connection_pickling",
    "as_completed",
    "cancel",
    "cpu_count",
    "current_process",
    "current_task",
    "freeze_support",
    "get_all_start_methods",
    "get_context",
    "get_logger",
    "get_start_method",
    "heap_stats",
    "log_to_stderr",
    "parent_process",
    "set_executable",
    "set_forkserver_preload",
    "set_start_method",
    "wait",
]

# name -> the module that defines it, or "module:attribute" where the name differs there
_SUBMODULES = frozenset(
    {
        "connection",
        "context",
        "dummy",
        "errors",
        "forkserver",
        "futures",
        "heap",
        "managers",
        "pool",
        "process",
        "queues",
        "reduction",
        "resource_sharer",
        "resource_tracker",
        "shared_memory",
        "sharedctypes",
        "spawn",
        "synchronize",
        "util",
    }
)
_ROOMS = {
    # The very classes, so that `except` clauses which name either module catch what we raise.
    "AuthenticationError": "multiprocessing.context",
    "BufferTooShort": "multiprocessing.context",
    "ProcessError": "multiprocessing.context",
    "TimeoutError": "multiprocessing.context",
    "ChannelBroken": "corral.errors",
    "ChannelClosed": "corral.errors",
    "ChannelDamaged": "corral.errors",
    "ChannelEmpty": "corral.errors",
    "ChannelError": "corral.errors",
    "ChannelFull": "corral.errors",
    "CorralError": "corral.errors",
    "DecodeError": "corral.errors",
    "EncodeError": "corral.errors",
    "InternalError": "corral.errors",
    "LaunchError": "corral.errors",
    "LockPoisoned": "corral.errors",
    "MapErrors": "corral.errors",
    "OwnerDied": "corral.errors",
    "OwnerDiedWarning": "corral.errors",
    "PoisonTask": "corral.errors",
    "PoolBroken": "corral.errors",
    "PoolClosed": "corral.errors",
    "PoolError": "corral.errors",
    "RemoteTraceback": "corral.errors",
    "SyncError": "corral.errors",
    "TaskCancelled": "corral.errors",
    "TaskError": "corral.errors",
    "TaskTimeout": "corral.errors",
    "WorkerLost": "corral.errors",
    "ProcessPoolExecutor": "corral.futures",
    "as_completed": "corral.futures",
    "heap_stats": "corral.heap",
    "cancel": "corral.futures",
    "wait": "corral.futures",
    "Pipe": "corral.context",
    "Lock": "corral.context",
    "Barrier": "corral.context",
    "BoundedSemaphore": "corral.context",
    "Condition": "corral.context",
    "Event": "corral.context",
    "Semaphore": "corral.context",
    "current_task": "corral._worker.current",
    "Process": "corral.context",
    "RLock": "corral.context",
    "JoinableQueue": "corral.context",
    "Queue": "corral.context",
    "SimpleQueue": "corral.context",
    "Array": "corral.context",
    "RawArray": "corral.context",
    "RawValue": "corral.context",
    "Value": "corral.context",
    "Manager": "corral.context",
    "allow_connection_pickling": "corral.context",
    "cpu_count": "corral.context",
    "freeze_support": "corral.context",
    "get_all_start_methods": "corral.context",
    "get_context": "corral.context",
    "get_logger": "corral.context",
    "get_start_method": "corral.context",
    "log_to_stderr": "corral.context",
    "set_executable": "corral.context",
    "set_forkserver_preload": "corral.context",
    "set_start_method": "corral.context",
    "active_children": "corral.process",
    "current_process": "corral.process",
    "parent_process": "corral.process",
    "Pool": "corral.pool",
}


def __getattr__(name: str) -> object:
    """Load a public name from its room and keep it."""
    room = _ROOMS.get(name)
    if room is None and name not in _SUBMODULES:
        raise AttributeError(f"module 'corral' has no attribute {name!r}", name=name, obj=__name__)
    import sys

    # Not `importlib`: it would cost a spawned child its time.
    module, _, attribute = (room or f"corral.{name}").partition(":")
    __import__(module)
    if room is None:
        return sys.modules[module]
    value: object = getattr(sys.modules[module], attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"TYPE_CHECKING"})
