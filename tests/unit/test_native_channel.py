"""Channel as Python sees it; the algorithms are tested in the crate."""

from __future__ import annotations

import os
import threading

import pytest

from corral._native import Block, Channel, Heap

RESERVE = 1 << 30


@pytest.fixture
def channel() -> Channel:
    return Channel.create(Heap.create(RESERVE))


def test_short_items_are_bytes_and_long_ones_blocks(channel: Channel) -> None:
    assert channel.send(b"short")
    assert channel.send(bytearray(b"x" * 100_000))
    assert channel.send(b"payload", [bytearray(b"one"), memoryview(b"two")])
    assert len(channel) == 3
    assert channel.recv() == b"short"
    long = channel.recv()
    assert isinstance(long, Block)
    assert bytes(long.parts()[0]) == b"x" * 100_000
    parted = channel.recv()
    assert isinstance(parted, Block)
    assert [bytes(part) for part in parted.parts()] == [b"payload", b"one", b"two"]
    assert len(channel) == 0


def test_a_received_block_is_the_receivers_own_writable_memory(channel: Channel) -> None:
    channel.send(b"", [bytes(10)])
    block = channel.recv()
    assert isinstance(block, Block)
    view = block.parts()[1]
    view[:] = b"0123456789"
    assert bytes(block.parts()[1]) == b"0123456789"


def test_nothing_in_time_is_none(channel: Channel) -> None:
    assert channel.recv(0) is None
    assert channel.recv(0.001) is None
    assert channel.recv_many(5, 0) == []
    assert channel.recv_many(0) == []


def test_no_room_in_time_is_false() -> None:
    heap = Heap.create(RESERVE)
    channel = Channel.create(heap, max_items=1)
    assert channel.send(b"1", timeout_s=0)
    assert channel.full()
    used = heap.stats()["blocks_used"]
    assert not channel.send(b"2", timeout_s=0.001)
    assert not channel.send(b"2", [b"buffer"], timeout_s=0)
    assert heap.stats()["blocks_used"] == used
    assert channel.recv_many(10) == [b"1"]
    assert not channel.full()


def test_many_come_at_once_up_to_the_limit(channel: Channel) -> None:
    for number in range(10):
        channel.send(b"%d" % number)
    assert channel.recv_many(3) == [b"0", b"1", b"2"]
    assert channel.recv_many(100) == [b"%d" % number for number in range(3, 10)]


def test_after_the_end_there_are_the_errors_of_a_pipe(channel: Channel) -> None:
    channel.send(b"last")
    channel.close()
    assert channel.closed
    with pytest.raises(BrokenPipeError):
        channel.send(b"late")
    assert channel.recv() == b"last"
    with pytest.raises(EOFError):
        channel.recv()
    with pytest.raises(EOFError):
        channel.recv_many(1)


def test_a_waiting_receiver_releases_the_gil_and_is_woken(channel: Channel) -> None:
    got: list[object] = []
    receiver = threading.Thread(target=lambda: got.append(channel.recv()))
    receiver.start()
    channel.send(b"for you")
    receiver.join()
    assert got == [b"for you"]


def test_a_forked_child_uses_its_parents_channel(channel: Channel) -> None:
    pid = os.fork()
    if pid == 0:
        channel.send(channel.recv() + b" and back", [b"buffer"])  # type: ignore[operator]
        os._exit(0)
    channel.send(b"there")
    os.waitpid(pid, 0)
    block = channel.recv()
    assert isinstance(block, Block)
    assert bytes(block.parts()[0]) == b"there and back"


def test_a_channel_is_attached_by_heap_and_reference(channel: Channel) -> None:
    heap = Heap.create(RESERVE)
    first = Channel.create(heap)
    again = Channel.attach(Heap.attach(heap.fileno()), first.ref)
    first.send(b"hello")
    assert again.recv() == b"hello"
    with pytest.raises(ValueError, match=r"no channel|never was"):
        Channel.attach(heap, first.ref + 1)
