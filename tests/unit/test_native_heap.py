from __future__ import annotations

import contextlib
import gc
import os
import random
import resource
import select
import signal
import struct
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from corral._native import Heap, die_with, identity, identity_of, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral._native import Block

SMALL = 48 << 20  # reserves little, so that many heaps fit
PART_MAGIC = b"part"


@pytest.fixture
def heap() -> Heap:
    return Heap.create(SMALL)


@contextlib.contextmanager
def forked(act: Callable[[], object]) -> Iterator[int]:
    """Run `act` in a child, exit code 0 unless it raises; in the end the child is killed and reaped."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        yield pid
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def in_child(act: Callable[[], object]) -> int:
    """Run `act` in a child to its end; its exit code."""
    with forked(act) as pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def used(heap: Heap) -> int:
    return heap.stats()["blocks_used"]


# --- blocks -------------------------------------------------------------------------------------------


def test_a_block_is_a_writable_buffer(heap: Heap) -> None:
    block = heap.alloc(5)
    memoryview(block)[:] = b"hello"
    assert bytes(block) == b"hello"
    assert (len(block), block.size, memoryview(block).readonly) == (5, 5, False)


def test_a_block_may_be_empty(heap: Heap) -> None:
    assert bytes(heap.alloc(0)) == b""


def test_a_block_is_freed_when_its_last_view_goes(heap: Heap) -> None:
    block = heap.alloc(100)
    view = memoryview(block)[10:20]
    del block
    gc.collect()
    assert used(heap) == 1
    view[:] = b"0123456789"
    del view
    gc.collect()
    assert used(heap) == 0


def test_a_block_keeps_the_heap_mapped() -> None:
    block = Heap.create(SMALL).alloc(3)
    gc.collect()
    memoryview(block)[:] = b"abc"
    assert bytes(block) == b"abc"


def test_a_block_with_an_exported_buffer_is_not_released(heap: Heap) -> None:
    block = heap.alloc(5)
    view = memoryview(block)
    with pytest.raises(BufferError, match="exported"):
        block.release()
    view.release()
    block.release()
    block.release()
    assert used(heap) == 0
    with pytest.raises(BufferError, match="released"):
        memoryview(block)


@pytest.mark.parametrize("size", [SMALL, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_a_size_beyond_the_heap_is_a_memory_error(heap: Heap, size: int) -> None:
    with pytest.raises(MemoryError, match=str(size)):
        heap.alloc(size)
    assert used(heap) == 0


@pytest.mark.parametrize("size", [-1, 1 << 64])
def test_what_is_no_size_is_refused(heap: Heap, size: int) -> None:
    with pytest.raises(OverflowError):
        heap.alloc(size)


def test_freed_memory_is_used_again(heap: Heap) -> None:
    references = []
    for _ in range(3):
        block = heap.alloc(1 << 20)
        references.append(block.ref)
        block.release()
    assert len(set(references)) == 1


def test_idle_pages_are_given_back(heap: Heap) -> None:
    block = heap.alloc(4 << 20)
    resident = heap.stats()["bytes_resident"]
    assert resident >= 4 << 20
    block.release()
    assert heap.trim(idle_s=3600) == 0
    assert heap.trim() == 4 << 20
    assert heap.stats()["bytes_resident"] == resident - (4 << 20)
    for nonsense in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="seconds"):
            heap.trim(nonsense)


def test_a_sparse_block_takes_no_memory_until_it_is_touched(heap: Heap) -> None:
    before = heap.stats()["bytes_resident"]
    block = heap.alloc(4 << 20, sparse=True)
    assert heap.stats()["bytes_resident"] - before < 1 << 20
    assert memoryview(block)[-1] == 0


# --- other processes ------------------------------------------------------------------------------------


def test_an_attached_heap_shares_the_block(heap: Heap) -> None:
    there = Heap.attach(heap.fileno())
    block = heap.alloc(5)
    memoryview(block)[:] = b"hello"
    assert bytes(there.adopt(block.ref, identity())) == b"hello"


@pytest.mark.parametrize("reference", [0, 2, 1 << 20, (1 << 64) - 1])
def test_a_reference_that_leads_nowhere_is_damage(heap: Heap, reference: int) -> None:
    block = heap.alloc(1)
    with pytest.raises(ValueError, match="damaged"):
        heap.adopt(reference, identity())
    with pytest.raises(ValueError, match="not as expected"):
        heap.adopt(block.ref, identity() + 1)


@pytest.mark.parametrize("path", ["/dev/null", __file__])
def test_another_file_is_no_heap(path: str) -> None:
    with Path(path).open() as other, pytest.raises(ValueError, match="not a corral heap"):
        Heap.attach(other.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        Heap.attach(other_closed_number())


def other_closed_number() -> int:
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number


def test_a_forked_child_does_not_free_the_blocks_of_its_parent(heap: Heap) -> None:
    kept: list[Block] = [heap.alloc(10), heap.alloc(10)]
    memoryview(kept[1])[:] = b"0123456789"

    def drop() -> None:
        kept.pop(0).release()
        kept.clear()
        gc.collect()
        assert used(heap) == 2
        own = heap.alloc(10)
        assert used(heap) == 3
        own.release()
        assert used(heap) == 2

    assert in_child(drop) == 0
    assert used(heap) == 2
    assert bytes(kept[1]) == b"0123456789"


def test_a_child_adopts_what_its_parent_sent_and_the_parent_does_not_free_it(heap: Heap) -> None:
    block = heap.alloc(3)
    memoryview(block)[:] = b"abc"
    parent = identity()
    kept = []

    def adopt() -> None:
        kept.append(heap.adopt(block.ref, parent))
        assert bytes(kept[0]) == b"abc"

    with forked(adopt) as pid:
        child = identity_of(pid)
        os.waitpid(pid, 0)
    block.release()
    assert used(heap) == 1, "the child died owning it"
    assert not is_alive(child)
    assert heap.recover(child) == 1
    assert used(heap) == 0


def test_the_blocks_of_the_living_are_not_recovered(heap: Heap) -> None:
    block = heap.alloc(3)
    with pytest.raises(ValueError, match="is alive"):
        heap.recover(identity())
    assert heap.recover(0) == 0
    assert used(heap) == 1
    block.release()


@pytest.mark.slow
def test_processes_killed_at_any_instruction_leave_a_heap_that_recovers_whole(heap: Heap) -> None:
    numbers = random.Random(20)
    own = heap.alloc(5000)
    memoryview(own)[:] = b"x" * 5000
    killed = recovered = 0
    until = time.monotonic() + 1.5
    while time.monotonic() < until or killed < 5:
        with contextlib.ExitStack() as children:
            pids = [children.enter_context(forked(lambda: churn(heap, numbers.random()))) for _ in range(2)]
            identities = [identity_of(pid) for pid in pids]
            # Not to wait for something, but to kill at some instruction or other.
            time.sleep(numbers.uniform(0.002, 0.03))
        for dead in identities:
            assert not is_alive(dead)
            recovered += heap.recover(dead)
            killed += 1
        stats = heap.stats()
        assert (stats["blocks_used"], stats["bytes_used"]) == (1, 5000)
    assert recovered > 0, "nobody was killed while it held something"
    check_every_free_block_once(heap)
    assert bytes(own) == b"x" * 5000


def churn(heap: Heap, seed: float) -> None:
    """Allocate, fill and free for ever."""
    numbers = random.Random(seed)
    held: list[Block] = []
    mark = os.getpid().to_bytes(8, "little")
    while True:
        if len(held) < 20 and numbers.random() < 0.6:
            with contextlib.suppress(MemoryError):
                block = heap.alloc(numbers.randrange(8, 200_000))
                memoryview(block)[:8] = mark
                held.append(block)
        elif held:
            block = held.pop(numbers.randrange(len(held)))
            assert memoryview(block)[:8] == mark
            block.release()
        if numbers.random() < 0.01:
            heap.trim()


def check_every_free_block_once(heap: Heap) -> None:
    free = heap.stats()["blocks_free"]
    blocks = []
    with contextlib.suppress(MemoryError):
        while True:
            blocks.append(heap.alloc(1))
    assert len({block.ref for block in blocks}) == len(blocks) >= free
    assert heap.stats()["blocks_free"] == 0


# --- parts ----------------------------------------------------------------------------------------------


def block_with_parts(heap: Heap, *parts: bytes) -> Block:
    """Write a block frame as its layout is agreed, by hand."""
    records, end = [], 8 + 16 * len(parts)
    for part in parts:
        offset = (end + 63) // 64 * 64
        records.append((offset, len(part)))
        end = offset + len(part)
    block = heap.alloc(end)
    view = memoryview(block)
    view[:8] = PART_MAGIC + len(parts).to_bytes(4, "little")
    for number, ((offset, length), part) in enumerate(zip(records, parts, strict=True)):
        struct.pack_into("<QQ", view, 8 + 16 * number, offset, length)
        view[offset : offset + length] = part
    return block


def test_parts_are_views_that_keep_the_block(heap: Heap) -> None:
    parts = block_with_parts(heap, b"payload", b"", b"x" * 1000).parts()
    gc.collect()
    assert used(heap) == 1
    assert [bytes(part) for part in parts] == [b"payload", b"", b"x" * 1000]
    parts[0][:1] = b"P"
    assert bytes(parts[0]) == b"Payload"
    parts.clear()
    gc.collect()
    assert used(heap) == 0


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, 0),  # no magic
        (4, 1 << 31),  # more parts than fit
        (8, 1 << 20),  # a part beyond the block
        (8, 8),  # over the head
        (8, 65),  # not aligned
        (16, (1 << 64) - 1),  # longer than the block
    ],
)
def test_damaged_parts_are_an_error(heap: Heap, offset: int, value: int) -> None:
    block = block_with_parts(heap, b"payload")
    struct.pack_into("<I" if offset < 8 else "<Q", memoryview(block), offset, value)
    with pytest.raises(ValueError, match="damaged"):
        block.parts()


def test_a_block_too_short_for_parts_has_none(heap: Heap) -> None:
    with pytest.raises(ValueError, match="damaged"):
        heap.alloc(4).parts()


# --- identity -------------------------------------------------------------------------------------------


def test_an_identity_is_pid_and_start_time() -> None:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    assert identity() == os.getpid() << 42 | int(fields[19])
    assert identity_of(os.getpid()) == identity()
    assert is_alive(identity())
    assert not is_alive(identity() + 1)
    assert not is_alive(0)


def test_a_forked_child_has_an_identity_of_its_own() -> None:
    parent = identity()

    def compare() -> None:
        assert identity() != parent
        assert identity() == identity_of(os.getpid())
        assert is_alive(parent)

    assert in_child(compare) == 0


def test_a_zombie_is_dead() -> None:
    with forked(lambda: None) as pid:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert identity_of(pid) == 0
    assert identity_of(pid) == 0


# --- dying with another -----------------------------------------------------------------------------------


def wait_for(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_dies_with_the_other_end_of_a_pipe_though_python_is_stuck(number: int) -> None:
    def stick() -> None:
        os.close(other)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        die_with(watched, number)
        os.close(watched)  # the thread has its own
        os.write(say_ready, b"r")
        sum(iter(int, 1))  # one call that never ends

    with pipe() as (watched, other), pipe() as (ready, say_ready), forked(stick) as pid:
        os.read(ready, 1)
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        os.close(other)
        assert wait_for(pid) == -number


def test_a_process_that_ignores_the_signal_is_killed_a_little_later() -> None:
    def ignore() -> None:
        os.close(other)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        die_with(watched, signal.SIGTERM)
        select.select([], [], [])

    with pipe() as (watched, other), forked(ignore) as pid:
        os.close(other)
        assert wait_for(pid) == -signal.SIGKILL


def test_a_process_dies_with_the_process_of_a_pidfd() -> None:
    def follow() -> None:
        die_with(pidfd)
        select.select([], [], [])

    with forked(lambda: select.select([], [], [])) as watched:
        pidfd = os.pidfd_open(watched)
        try:
            with forked(follow) as pid:
                os.kill(watched, signal.SIGKILL)
                assert wait_for(pid) == -signal.SIGKILL
        finally:
            os.close(pidfd)


def test_without_room_for_a_thread_there_is_an_error_and_no_death() -> None:
    def limited() -> None:
        watched, _other = os.pipe()
        # No address space for a stack.
        resource.setrlimit(resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
        try:
            for _ in range(100):
                die_with(watched)
        except OSError:
            return
        raise AssertionError

    assert in_child(limited) == 0
