"""Objects in shared memory live as long as a child that was given them."""

from __future__ import annotations

import gc
import os
import pickle
import weakref
from typing import Any

import pytest

import corral
from corral import _launch
from corral._launch import sharing
from corral._native import Block, Heap, identity

METHODS = ("fork", "forkserver", "spawn")
given: dict[str, Any] = {}


class Cell:
    """Three bytes in a block; its copies in children are cells too."""

    def __init__(self) -> None:
        self.heap = _launch.heap()
        self.block = self.heap.alloc(3)
        memoryview(self.block)[:] = b"one"
        self.ref = self.block.ref
        sharing.keep_on_fork(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return seen, sharing.depart(self.heap, self.ref, self)


def seen(*where: Any) -> Cell:
    cell = Cell.__new__(Cell)
    cell.heap, cell.ref = sharing.arrive(where)  # type: ignore[arg-type]
    return cell


class Descriptor:
    """A descriptor that goes along with a launch."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        popen = corral.context.get_spawning_popen()
        assert popen is not None
        return arrived, (popen.DupFd(self.fd),)


def arrived(dup: Any) -> Descriptor:
    return Descriptor(dup.detach())


def wait_for_leave(cell: Cell, other: Cell, ready: Descriptor, leave: Descriptor) -> None:
    assert cell.heap is other.heap
    assert cell.ref != other.ref
    os.write(ready.fd, b"!")
    os.read(leave.fd, 1)


@pytest.mark.parametrize("method", METHODS)
def test_a_child_keeps_what_it_was_given_alive(method: str) -> None:
    cell, other = Cell(), Cell()
    watch = weakref.ref(cell)
    ready, tell = os.pipe()
    leave, let = os.pipe()
    args = (cell, other, Descriptor(tell), Descriptor(leave))
    process = corral.get_context(method).Process(target=wait_for_leave, args=args)  # type: ignore[attr-defined]
    process.start()
    os.close(tell)
    del cell, other, args
    assert os.read(ready, 1) == b"!"
    gc.collect()
    assert watch() is not None
    os.write(let, b"!")
    process.join()
    assert process.exitcode == 0
    gc.collect()
    assert watch() is None
    for fd in (ready, leave, let):
        os.close(fd)


def give_on(cell: Cell, method: str, owner: int) -> None:
    process = corral.get_context(method).Process(target=adopt, args=(cell, cell, owner))  # type: ignore[attr-defined]
    process.start()
    process.join()
    os._exit(process.exitcode)


def adopt(first: Cell, second: Cell, owner: int) -> None:
    assert first.heap is second.heap
    assert bytes(memoryview(first.heap.adopt(first.ref, owner))) == b"one"


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_grandchild_is_given_the_heap_it_does_not_know(method: str) -> None:
    process = corral.get_context("forkserver").Process(target=give_on, args=(Cell(), method, identity()))  # type: ignore[attr-defined]
    process.start()
    process.join()
    assert process.exitcode == 0


def test_outside_of_a_launch_nothing_departs() -> None:
    with pytest.raises(RuntimeError, match="Cell objects should only be shared between processes through"):
        pickle.dumps(Cell())


def compare_heaps(inode: int) -> None:
    assert os.fstat(_launch.heap().fileno()).st_ino != inode
    assert os.fstat(_launch.parents_heap().fileno()).st_ino == inode


@pytest.mark.parametrize("method", METHODS)
def test_what_a_child_makes_lies_in_a_heap_of_its_own(method: str) -> None:
    inode = os.fstat(_launch.heap().fileno()).st_ino
    process = corral.get_context(method).Process(target=compare_heaps, args=(inode,))  # type: ignore[attr-defined]
    process.start()
    process.join()
    assert process.exitcode == 0


class Common:
    """A heap of several owners."""

    def __init__(self) -> None:
        self.heap = Heap.create()
        sharing.register(self.heap)

    def __reduce__(self) -> tuple[Any, ...]:
        return common, sharing.depart(self.heap, 0, self)


def common(*where: Any) -> Common:
    found = Common.__new__(Common)
    found.heap, _ = sharing.arrive(where)  # type: ignore[arg-type]
    return found


def die_owning(shared: Common) -> None:
    block: Block = shared.heap.alloc(4096)
    assert block.ref
    os._exit(3)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_dead_child_owned_goes_back(method: str) -> None:
    shared = Common()
    process = corral.get_context(method).Process(target=die_owning, args=(shared,))  # type: ignore[attr-defined]
    process.start()
    process.join()
    assert process.exitcode == 3
    stats = shared.heap.stats()
    assert (stats["blocks_used"], stats["blocks_free"]) == (0, 1)


def keep(cell: Cell) -> None:
    given["cell"] = cell


def kept_ref(_: int) -> int:
    ref: int = given["cell"].ref
    return ref


@pytest.mark.parametrize("method", METHODS)
def test_an_initializer_may_be_given_shared_objects(method: str) -> None:
    cell = Cell()
    with corral.get_context(method).Pool(2, initializer=keep, initargs=(cell,)) as pool:
        assert set(pool.map(kept_ref, range(10))) == {cell.ref}


def test_a_fork_of_the_programs_own_keeps_what_exists() -> None:
    cell = Cell()
    watch = weakref.ref(cell)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    del cell
    gc.collect()
    assert watch() is not None
    sharing._given_away.clear()
    assert watch() is None
