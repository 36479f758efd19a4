"""A place for a worker, and who sits there."""

from __future__ import annotations

from collections import deque

from corral._channel import wire
from corral._engine.deadlines import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from corral._engine.ports import Child
    from corral._native import Link


class Seat:
    """A place for a worker, and the incarnation that sits there now."""

    __slots__ = (
        "child",
        "damage",
        "inbox",
        "index",
        "known",
        "link",
        "look_at_s",
        "passing",
        "quota",
        "ready",
        "reason",
        "retired",
        "send",
        "stopping",
        "stuck",
        "token",
        "told",
        "verdict",
        "watch",
    )

    def __init__(self, index: int, token: int, link: Link, child: Child, quota: int | None) -> None:
        self.damage: ValueError | None = None  # what its link could not be
        self.index = index
        self.token = token
        self.link = link
        self.send = link.send  # bound once: it is called for every task
        self.child = child
        self.quota = quota
        self.inbox: list[tuple[int, int, int, Any]] = []  # read, and not yet taken note of
        self.known: set[int] = set()
        self.passing: deque[int] = deque()  # of the known, those that may be forgotten, oldest first
        self.ready = False
        self.stopping = False  # gets no more tasks
        self.told = False  # ... and knows it
        self.reason = ""  # why we kill it
        self.retired = False  # it leaves for good
        self.watch = Watch()
        self.stuck: tuple[int, float] | None = None  # the task it does not take, and since when we know
        self.look_at_s = float("inf")  # when the warden will look here
        self.verdict: tuple[int, BaseException | None] | None = None  # the task we kill it for, and its error

    def is_between_tasks(self) -> bool:
        """Whether the worker has begun its life, and is not at work on a frame."""
        return self.ready and wire.PHASES.get(self.link.phase()) != "decoding"
