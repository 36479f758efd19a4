"""The face of the heap: its numbers, and plain memory of it."""

from __future__ import annotations

import gc
import pickle

import pytest

import corral
from corral.heap import BufferWrapper


def test_what_is_made_is_counted_until_it_is_dropped() -> None:
    before = corral.heap_stats()
    made = corral.Array("d", 100_000)
    during = corral.heap_stats()
    assert during["bytes_used"] >= before["bytes_used"] + 800_000
    assert during["blocks_used"] > before["blocks_used"]
    assert 0 < during["bytes_resident"] < during["bytes_reserved"]
    del made
    gc.collect()
    assert corral.heap_stats()["bytes_used"] < before["bytes_used"] + 800_000


@pytest.mark.parametrize("size", [0, 1, 100, 10_000])
def test_plain_memory_is_zeroed_and_writable(size: int) -> None:
    view = BufferWrapper(size).create_memoryview()
    assert bytes(view) == bytes(size)
    view[:] = b"x" * size
    assert bytes(view) == b"x" * size


def test_plain_memory_of_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="out of range"):
        BufferWrapper(-1)


def fill(memory: BufferWrapper) -> None:
    memory.create_memoryview()[:] = b"from a child"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_plain_memory_is_shared_with_a_child_and_pickled_for_nobody_else(method: str) -> None:
    memory = BufferWrapper(12)
    process = corral.get_context(method).Process(target=fill, args=(memory,))
    process.start()
    process.join()
    assert bytes(memory.create_memoryview()) == b"from a child"
    with pytest.raises(RuntimeError, match="through inheritance"):
        pickle.dumps(memory)
