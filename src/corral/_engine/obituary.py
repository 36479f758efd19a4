"""The errors that tell of a death: made where it is noticed, worded in `corral.errors`."""

from __future__ import annotations

from corral._channel import wire
from corral._engine.ledger import ChunkTask

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral._engine.ledger import Task
    from corral._engine.ports import Child


def name_of(function: Any) -> str:
    """Name a callable as a reader would look for it."""
    name = getattr(function, "__qualname__", None)
    if name is None:
        inner = getattr(function, "func", None)  # functools.partial
        return repr(function) if inner is None else f"partial of {name_of(inner)}"
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if module else str(name)


def describe_task(task: Task, items: range | None = None) -> str:
    """Name the function of a task, and of a chunk its items, or those that it is about."""
    name = name_of(task.function)
    if task.span is None:
        return name
    first, end = task.span if items is None else (items.start, items.stop)
    if end - first == 1:
        return f"{name} (item {first})"
    return f"{name} (items {first} to {end - 1})"


def lost_items(task: Task) -> range | None:
    """The items of a chunk that were lost with its worker: those that had begun and were not answered."""
    if task.span is None:
        return None
    first, end = task.span
    if not isinstance(task, ChunkTask):
        return range(first, end)
    at = first + task.reported
    return range(at, end if task.begun is None else max(at, min(end, first + task.begun)))


def worker_lost(
    task: Task, child: Child, exitcode: int | None, phase: int = 0, details: str = ""
) -> BaseException:
    """The error of a task whose worker died while it had it.

    `phase`: what it was doing, as its link says; `details`: what else is known.
    """
    try:
        from corral.errors import WorkerLost
    except RuntimeError:
        return pool_broken(f"worker {child.pid} died with {describe_task(task)}", None)
    if exitcode == -9 and not details:  # noqa: PLR2004 - SIGKILL
        details = "SIGKILL is what the kernel sends when memory runs out, or what somebody sent on purpose"
    items = lost_items(task)
    return WorkerLost(
        task=describe_task(task, items),
        pid=child.pid,
        exitcode=exitcode,
        items=items,
        phase=wire.PHASES.get(phase, ""),
        attempt=getattr(task, "attempt", 1),
        details=details,
    )


def timed_out(task: Task, child: Child, index: int | None) -> BaseException:
    """The error of a task whose worker was killed because the task would not stop.

    `index`: which item of a chunk it was that ran.
    """
    from corral.errors import TaskTimeout

    terms = task.terms
    name = describe_task(task)
    if task.span is not None and index is not None:
        item = task.span[0] + index
        name = describe_task(task, range(item, item + 1))
    return TaskTimeout(
        task=name,
        pid=child.pid,
        timeout_s=None if terms is None else terms.timeout_s,
        attempt=getattr(task, "attempt", 1),
        killed=True,
    )


def lost_beside(error: BaseException) -> BaseException:
    """The error of an item whose result was lost with that of another one, which `error` tells of."""
    from corral.errors import WorkerLost

    pid: int = getattr(error, "pid", 0)
    return WorkerLost(
        f"worker {pid} was killed for another item before it could report this one ({error})", pid=pid
    )


def again(error: BaseException) -> BaseException:
    """Make the same error anew: one instance raised in many places would gather and keep their frames."""
    other = type(error)(*error.args)
    other.__cause__ = error.__cause__
    return other


def pool_broken(message: str, cause: BaseException | None) -> BaseException:
    """The error of every task of a pool that gave up."""
    from corral.errors import PoolClosed

    text = message if cause is None else f"{message}: {type(cause).__name__}: {cause}"
    try:
        from corral.errors import PoolBroken
    except RuntimeError:
        # concurrent.futures.process cannot be imported any more once the interpreter is shutting down.
        error: BaseException = PoolClosed(text)
    else:
        error = PoolBroken(text)
    error.__cause__ = cause
    return error
