"""A call whose outcome is one value.

Role in the flow: faces make them, the engine settles them, callers wait on them through `Engine.wait_for`.
"""

from __future__ import annotations

from corral._channel import wire
from corral._codec import define, encode
from corral._engine.gate import Gate
from corral._engine.ledger import Task
from corral._engine.outcome import call_outcome
from corral._native import pickle_plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral._codec import Snapshot
    from corral._engine.engine import Engine


def call_task(snapshot: Snapshot, function: Any, args: Any, kwargs: Any, sink: Any) -> Task:
    """Encode a single call.

    Raises:
        EncodeError: the function or an argument cannot be pickled.
    """
    group = define(function, snapshot)
    if kwargs:
        payload, buffers, needs = encode((args, kwargs), snapshot)
        kind = wire.CALL_KW
    else:
        kind = wire.CALL
        plain = pickle_plain(args)
        if plain is not None:
            return Task(kind, function, group.number, (group,), plain, None, sink)
        payload, buffers, needs = encode(args, snapshot)
    return Task(kind, function, group.number, (group, *needs) if needs else (group,), payload, buffers, sink)


class Call(Gate):
    """One task's outcome, to be waited for."""

    __slots__ = ("_engine", "error", "task", "value")

    def __init__(self, engine: Engine) -> None:
        """Begin unsettled."""
        self.done = False
        self._event = None
        self._engine = engine
        self.value: Any = None
        self.error: BaseException | None = None
        self.task: Task | None = None

    def settled(self, task: Task, kind: int, elapsed_ns: int, body: Any) -> None:
        """Take the worker's answer."""
        self.value, self.error = call_outcome(kind, body)
        self.open()

    def failed(self, task: Task | None, error: BaseException) -> None:
        """Take the news that there will be no answer."""
        self.error = error
        self.open()

    def cancel(self) -> bool:
        """Not offered for a pool's calls (`Sink`)."""
        return False
