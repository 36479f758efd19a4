"""News of a chunk that overtake each other: two threads may deliver what they have read."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest

from corral._channel import wire
from corral._codec import encode_reply
from corral._engine.ledger import ChunkTask
from corral._engine.maps import MapCall
from corral._engine.stream import Stream
from corral.errors import WorkerLost

ITEMS = list(range(10))
ORDERS = list(permutations(range(3)))
ENGINE: Any = SimpleNamespace(workers=2, snapshot=None, add_source=lambda source: None)


def body(first: int, end: int) -> bytes:
    return encode_reply(([x * x for x in range(first, end)], [])).payload


def news(last: Any) -> list[Any]:
    parts = [
        (wire.PARTIAL, wire.part(first, end - first), body(first, end)) for first, end in ((0, 3), (3, 7))
    ]
    return [*parts, last]


def tell(sink: Any, task: ChunkTask, what: Any) -> None:
    if isinstance(what, Exception):
        sink.failed(task, what)
    else:
        sink.settled(task, *what)


def chunk(sink: Any) -> ChunkTask:
    task = ChunkTask(wire.CHUNK, abs, 0, (), b"", None, sink, (0, len(ITEMS)))
    task.items = ITEMS
    task.heard = 7  # all was read before any of it is delivered
    return task


@pytest.mark.parametrize("order", ORDERS)
def test_a_maps_values_come_to_their_places(order: tuple[int, ...]) -> None:
    call = MapCall(ENGINE, abs, ITEMS, star=False, chunksize=10)
    task = chunk(call)
    told = news((wire.CHUNK_REST, 1000, body(7, 10)))
    for place in order:
        assert not call.done
        tell(call, task, told[place])
    assert call.done
    assert call.value == [x * x for x in ITEMS]


@pytest.mark.parametrize("order", ORDERS)
def test_a_death_costs_what_was_not_answered(order: tuple[int, ...]) -> None:
    call = MapCall(ENGINE, abs, ITEMS, star=False, chunksize=10, collect=True)
    task = chunk(call)
    told = news(WorkerLost("gone"))
    for place in order:
        assert not call.done
        tell(call, task, told[place])
    assert call.done
    error: Any = call.error
    assert [index for index, _, _ in error.failures] == [7, 8, 9]
    assert error.results == {x: x * x for x in range(7)}


@pytest.mark.parametrize("order", ORDERS)
def test_a_streams_values_come_in_order(order: tuple[int, ...]) -> None:
    stream = Stream(ENGINE, abs, ITEMS, ordered=True, star=False, chunksize=10, window=None)
    task = stream.next_task()
    assert isinstance(task, ChunkTask)
    task.heard = 7
    told = news((wire.CHUNK_REST, 1000, body(7, 10)))
    for place in order:
        tell(stream, task, told[place])
    assert [stream.next(0) for _ in ITEMS] == [x * x for x in ITEMS]
    with pytest.raises(StopIteration):
        stream.next(0)
