from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral._native import Heap, identity


def test_a_block_is_a_writable_buffer() -> None:
    block = Heap.create().alloc(5)
    memoryview(block)[:] = b"hello"
    assert bytes(block) == b"hello"
    assert (len(block), block.size) == (5, 5)


def test_an_attached_heap_shares_the_block() -> None:
    heap = Heap.create()
    there = Heap.attach(heap.fileno())
    block = heap.alloc(5)
    memoryview(block)[:] = b"hello"
    assert bytes(there.adopt(block.ref, identity())) == b"hello"


def test_a_block_with_an_exported_buffer_is_not_released() -> None:
    block = Heap.create().alloc(5)
    view = memoryview(block)
    with pytest.raises(BufferError):
        block.release()
    view.release()
    block.release()
    with pytest.raises(BufferError):
        memoryview(block)


def test_another_file_is_no_heap() -> None:
    with Path(os.devnull).open() as other, pytest.raises(ValueError, match="not a corral heap"):
        Heap.attach(other.fileno())
