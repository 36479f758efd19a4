"""Links, bells and wait sets from Python, both sides in this process where that is enough."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from corral._native import Bell, Block, Heap, Link, WaitSet, identity, pack

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pair:
    """Both sides of a small link, and what watches it (token 7)."""

    def __init__(self) -> None:
        self.heap = Heap.create()
        self.bell = Bell.create(self.heap)
        self.parent = Link.create(self.heap, self.bell, 4096)
        self.worker = Link.attach(self.heap, self.parent.ref, self.bell.fileno())
        self.waits = WaitSet(self.bell)
        self.waits.add_link(7, self.parent)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    # pytest keeps the object until after the check for leaks.
    vars(pair).clear()


def body_of(block: bytes | Block) -> list[bytes]:
    assert isinstance(block, Block)
    return [bytes(part) for part in block.parts()]


class TestFrames:
    def test_a_frame_arrives_as_it_was_sent(self, pair: Pair) -> None:
        assert pair.parent.send(3, 2**62 - 1, 2**64 - 1, b"body") == 0
        assert pair.worker.recv(0) == (3, 2**62 - 1, 2**64 - 1, b"body")
        assert pair.worker.recv(0) is None

    def test_replies_are_collected_in_order_up_to_the_limit(self, pair: Pair) -> None:
        for number in range(5):
            pair.worker.reply(1, number, 0, b"")
        assert [frame[1] for frame in pair.parent.recv_many(3)] == [0, 1, 2]
        assert [frame[1] for frame in pair.parent.recv_many()] == [3, 4]
        assert pair.parent.recv_many() == []

    def test_a_full_ring_refuses_and_takes_again_after_a_receive(self, pair: Pair) -> None:
        count = 0
        while pair.parent.send(1, count, 0, bytes(100)) >= 0:
            count += 1
        assert count == 4096 // 128
        assert pair.worker.recv(0) is not None
        assert pair.parent.send(1, count, 0, bytes(100)) > 0

    def test_what_is_too_long_for_the_ring_travels_as_a_block(self, pair: Pair) -> None:
        payload = os.urandom(513)
        pair.parent.send(1, 1, 0, payload)
        frame = pair.worker.recv(0)
        assert frame is not None
        assert body_of(frame[3]) == [payload]
        pair.worker.reply(1, 1, 0, payload)
        [(_, _, _, body)] = pair.parent.recv_many()
        assert body_of(body) == [payload]

    def test_buffers_travel_beside_the_payload_and_arrive_aligned(self, pair: Pair) -> None:
        long = bytearray(os.urandom(100_000))
        pair.parent.send(1, 1, 0, b"payload", [b"one", memoryview(long)])
        frame = pair.worker.recv(0)
        assert frame is not None
        assert body_of(frame[3]) == [b"payload", b"one", bytes(long)]

    def test_a_block_sent_is_no_longer_the_senders(self, pair: Pair) -> None:
        block = pack(pair.heap, b"payload", [b"buffer"])
        pair.parent.send(1, 1, 0, block)
        with pytest.raises(ValueError, match="handed over"):
            pair.parent.send(1, 2, 0, block)
        del block
        frame = pair.worker.recv(0)
        assert frame is not None
        assert body_of(frame[3]) == [b"payload", b"buffer"]

    @pytest.mark.parametrize("body", ["text", None, bytearray(b"x")])
    def test_a_body_is_bytes_or_a_block(self, pair: Pair, body: object) -> None:
        with pytest.raises(TypeError, match="bytes or a Block"):
            pair.parent.send(1, 1, 0, body)  # type: ignore[arg-type]

    def test_an_id_has_62_bits(self, pair: Pair) -> None:
        with pytest.raises(ValueError, match="id"):
            pair.parent.send(1, 2**62, 0, b"")

    def test_each_side_has_its_own_methods(self, pair: Pair) -> None:
        with pytest.raises(RuntimeError, match="worker's side"):
            pair.parent.recv(0)
        with pytest.raises(RuntimeError, match="parent's side"):
            pair.worker.send(1, 1, 0, b"")


class TestTakingBack:
    def test_a_queued_frame_is_taken_back_and_never_received(self, pair: Pair) -> None:
        first = pair.parent.send(1, 1, 0, b"first")
        pair.parent.send(1, 2, 0, b"second")
        assert pair.parent.revoke(first, 1) == b"first"
        assert pair.parent.revoke(first, 1) is None
        assert not pair.parent.taken(first, 1)
        assert pair.worker.recv(0) == (1, 2, 0, b"second")
        assert pair.worker.recv(0) is None

    def test_a_taken_frame_stays_taken(self, pair: Pair) -> None:
        position = pair.parent.send(1, 1, 0, b"")
        assert not pair.parent.taken(position, 1)
        pair.worker.recv(0)
        assert pair.parent.taken(position, 1)
        assert pair.parent.revoke(position, 1) is None

    def test_a_revoked_block_can_be_sent_elsewhere(self, pair: Pair) -> None:
        position = pair.parent.send(1, 1, 0, b"payload", [b"buffer"])
        block = pair.parent.revoke(position, 1)
        assert isinstance(block, Block)
        other = Link.create(pair.heap, pair.bell, 4096)
        worker = Link.attach(pair.heap, other.ref, pair.bell.fileno())
        other.send(1, 1, 0, block)
        frame = worker.recv(0)
        assert frame is not None
        assert body_of(frame[3]) == [b"payload", b"buffer"]

    def test_a_position_that_was_never_sent_is_an_error(self, pair: Pair) -> None:
        pair.parent.send(1, 1, 0, b"")
        with pytest.raises(ValueError, match="no frame was sent"):
            pair.parent.taken(8000, 1)
        with pytest.raises(ValueError, match="another id"):
            pair.parent.taken(0, 2)


class TestWaiting:
    def test_a_reply_makes_its_link_ready(self, pair: Pair) -> None:
        assert pair.waits.wait(0) == []
        pair.worker.reply(1, 1, 0, b"")
        assert pair.waits.wait(None) == [7]
        pair.parent.recv_many()
        assert pair.waits.wait(0) == []

    def test_a_descriptor_is_reported_once(self, pair: Pair) -> None:
        read, write = os.pipe()
        try:
            pair.waits.add_fd(9, read)
            assert pair.waits.wait(0) == []
            os.write(write, b"x")
            assert pair.waits.wait(None) == [9]
            assert pair.waits.wait(0) == []
        finally:
            os.close(read)
            os.close(write)

    def test_a_kick_is_kept_for_the_next_wait(self, pair: Pair) -> None:
        pair.waits.kick()
        assert pair.waits.wait(None) == []
        assert pair.waits.wait_background() == []

    def test_a_sleeping_waiter_is_woken_by_a_reply(self, pair: Pair) -> None:
        thread = threading.Thread(target=pair.worker.reply, args=(1, 1, 0, b""))
        thread.start()
        assert pair.waits.wait(None) == [7]
        thread.join()

    def test_what_was_removed_is_not_reported(self, pair: Pair) -> None:
        pair.worker.reply(1, 1, 0, b"")
        pair.waits.remove(7)
        assert pair.waits.wait(0) == []

    def test_a_link_with_another_bell_is_refused(self, pair: Pair) -> None:
        other = Link.create(pair.heap, Bell.create(pair.heap), 4096)
        with pytest.raises(ValueError, match="another bell"):
            pair.waits.add_link(8, other)

    def test_the_background_takes_over_when_the_foreground_is_gone(self, pair: Pair) -> None:
        ready: list[list[int]] = []
        thread = threading.Thread(target=lambda: ready.append(pair.waits.wait_background()))
        thread.start()
        pair.worker.reply(1, 1, 0, b"")
        assert pair.waits.wait(None) == [7]
        pair.waits.nudge()
        thread.join()
        assert ready == [[7]]

    def test_other_threads_run_while_one_waits(self, pair: Pair) -> None:
        for wait in (pair.worker.recv, lambda: pair.waits.wait(None), pair.waits.wait_background):
            thread = threading.Thread(target=wait)
            thread.start()
            # We only get here, and on, if the wait has released the interpreter.
            sum(range(100_000))
            pair.parent.send(1, 1, 0, b"")
            pair.waits.kick()
            thread.join()
            pair.waits.wait(0)
            pair.waits.wait(0)
            pair.worker.recv(0)


class TestTime:
    def test_a_receive_gives_up_at_its_time_out(self, pair: Pair) -> None:
        begin = time.monotonic()
        assert pair.worker.recv(0.01) is None
        assert time.monotonic() - begin >= 0.01
        assert pair.worker.recv(-1) is None
        with pytest.raises(ValueError, match="not a number"):
            pair.worker.recv(float("nan"))

    def test_the_time_since_the_last_task_is_known(self, pair: Pair) -> None:
        pair.parent.send(1, 1, 0, b"")
        before = time.monotonic_ns()
        pair.worker.recv(0)
        elapsed = pair.worker.elapsed_ns()
        assert 0 <= elapsed <= time.monotonic_ns() - before

    def test_the_spin_bound_is_kept(self, pair: Pair) -> None:
        assert pair.worker.spin_us == 0
        pair.worker.spin_us = 30
        assert pair.worker.spin_us == 30


class TestDamage:
    """Anything may stand in a link's block: errors at most."""

    @pytest.mark.parametrize("seed", range(20))
    def test_random_bytes_in_a_links_block_are_errors_at_most(self, pair: Pair, seed: int) -> None:
        numbers = random.Random(seed)
        for number in range(6):
            pair.parent.send(1, number, 0, bytes(40), [b"x"] if number % 2 else None)
            pair.worker.reply(1, number, 0, bytes(40))
        block = pair.heap.adopt(pair.parent.ref, identity())
        view = memoryview(block).cast("B")
        for _ in range(numbers.randrange(1, 40)):
            view[numbers.randrange(len(view))] = numbers.randrange(256)
        for number in range(20):
            for use in (
                lambda: pair.worker.recv(0),
                pair.parent.recv_many,
                lambda number=number: pair.parent.send(1, number, 0, bytes(30)),
                lambda number=number: pair.parent.revoke(32 * number, number),
                lambda number=number: pair.parent.taken(32 * number, number),
                lambda: pair.waits.wait(0),
            ):
                try:
                    use()
                except ValueError as error:
                    assert "damaged" in str(error) or "owned" in str(error)  # noqa: PT017 - errors are allowed

    def test_parts_that_do_not_fit_their_block_are_an_error(self, pair: Pair) -> None:
        block = pair.heap.alloc(4096)
        memoryview(block)[:] = random.Random(1).randbytes(4096)
        pair.parent.send(1, 1, 0, block)
        frame = pair.worker.recv(0)
        assert frame is not None
        assert isinstance(frame[3], Block)
        with pytest.raises(ValueError, match="parts"):
            frame[3].parts()

    def test_nobody_attaches_to_a_block_that_is_no_link(self, pair: Pair) -> None:
        block = pair.heap.alloc(4096)
        with pytest.raises(ValueError, match="damaged"):
            Link.attach(pair.heap, block.ref, pair.bell.fileno())


def test_everything_is_given_back(pair: Pair) -> None:
    before = pair.heap.stats()["blocks_used"]
    for number in range(20):
        link = Link.create(pair.heap, pair.bell, 4096)
        worker = Link.attach(pair.heap, link.ref, pair.bell.fileno())
        pair.waits.add_link(100 + number, link)
        link.send(1, 1, 0, b"", [b"unreceived"])
        link.send(1, 2, 0, b"", [b"unreceived"])
        frame = worker.recv(0)
        worker.reply(1, 1, 0, b"", [b"received"])
        link.recv_many()
        pair.waits.remove(100 + number)
        pair.waits.wait(0)
        del frame, worker, link
    gc.collect()
    assert pair.heap.stats()["blocks_used"] == before
