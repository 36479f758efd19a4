"""The errors that tell of a death: made where it is noticed, worded in `corral.errors`."""

from __future__ import annotations

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


def describe_task(task: Task) -> str:
    """Name the function of a task, and of a chunk its items."""
    name = name_of(task.function)
    if task.span is None:
        return name
    first, end = task.span
    if end - first == 1:
        return f"{name} (item {first})"
    return f"{name} (items {first} to {end - 1})"


def worker_lost(task: Task, child: Child, exitcode: int | None) -> BaseException:
    """The error of a task whose worker died while it had it."""
    try:
        from corral.errors import WorkerLost
    except RuntimeError:
        return pool_broken(f"worker {child.pid} died with {describe_task(task)}", None)
    details = ""
    if exitcode == -9:  # noqa: PLR2004 - SIGKILL
        details = "SIGKILL is what the kernel sends when memory runs out, or what somebody sent on purpose"
    items = None if task.span is None else range(*task.span)
    return WorkerLost(
        task=describe_task(task), pid=child.pid, exitcode=exitcode, items=items, details=details
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
