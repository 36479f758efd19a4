"""What the engine asks of the rooms around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from corral._engine.ledger import Task
    from corral._launch import Child as Child
    from corral._native import Link, WaitSet


class Sink(Protocol):
    """Who is told a task's outcome. Called outside the engine's lock, by any thread, once per task."""

    def settled(self, task: Task, kind: int, elapsed_ns: int, body: Any) -> None:
        """The worker answered with a settling frame (`corral._channel.wire`)."""

    def failed(self, task: Task, error: BaseException) -> None:
        """The task will get no answer: its worker died, or the pool ended."""

    def cancel(self) -> bool:
        """The executor is shut down and its queued work unwanted: cancel, if this kind of call can be."""


class Waitable(Protocol):
    """Something a caller waits for."""

    @property
    def done(self) -> bool:
        """Whether the wait is over."""

    def park(self, timeout_s: float | None) -> None:
        """Sleep until `done` or the time is up, while another thread drives the engine."""


class Source(Protocol):
    """A call that makes its tasks as workers become free for them (a map)."""

    depth: int | None

    def next_task(self) -> Task | None:
        """Return the next task, or None if there is none now; the source then leaves the queue."""

    def abandon(self, error: BaseException) -> None:
        """No more tasks can be run."""


class Backend(Protocol):
    """Where workers live."""

    waitset: WaitSet
    spin_us: int
    memory_bytes: int | None

    def weigh(self, pid: int) -> int:
        """How many bytes of memory of its own a worker uses."""

    def launch(self, seat: int) -> tuple[Link, Child]:
        """Start a worker for `seat`; its first frame will be READY or BROKEN."""

    def tidy(self) -> None:
        """There has been nothing to do for a while: hand idle memory back."""

    def last_words(self, child: Child) -> str:
        """What a worker that was ended by a signal has said of it; empty if nothing."""

    def bury(self, child: Child) -> None:
        """Take back what a dead worker held."""
