"""`corral.dummy` and `corral.pool.ThreadPool`: the same names, of threads."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

import pytest

import corral
from corral import dummy
from corral.dummy import connection
from corral.pool import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    with ThreadPool(3) as made:
        yield made
    made.join()


def test_a_pool_of_threads_has_the_methods_of_a_pool(pool: ThreadPool) -> None:
    caught = []
    assert pool.apply(divmod, (7, 2)) == (3, 1)
    assert pool.map(abs, range(-50, 0)) == list(range(50, 0, -1))
    assert pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
    assert list(pool.imap(abs, iter(range(-9, 0)), 4)) == list(range(9, 0, -1))
    assert sorted(pool.imap_unordered(abs, [-2, -1])) == [1, 2]
    done = threading.Event()
    pool.map_async(abs, [-1], callback=lambda value: (caught.append(value), done.set()))
    assert done.wait(30)
    assert caught == [[1]]
    with pytest.raises(ZeroDivisionError):
        pool.apply(divmod, (1, 0))
    with pytest.raises(corral.TimeoutError):
        pool.apply_async(threading.Event().wait, (1,)).get(0)


def test_its_workers_are_threads_of_this_process(pool: ThreadPool) -> None:
    ready = threading.Barrier(3)

    def where(_: int) -> tuple[int, int]:
        ready.wait(30)
        return os.getpid(), threading.get_ident()

    found = pool.map(where, range(3), chunksize=1)
    assert {pid for pid, _ in found} == {os.getpid()}
    assert len({ident for _, ident in found}) == 3


def test_it_takes_arguments_as_a_pool_does() -> None:
    started = queue.SimpleQueue[int]()
    with ThreadPool(processes=2, initializer=started.put, initargs=(1,)) as made:
        assert made.map(abs, [-1]) == [1]
        made.close()
        made.join()
        with pytest.raises(ValueError, match="Pool not running"):
            made.apply(abs, (1,))
    assert started.qsize() == 2
    with pytest.raises(ValueError, match="at least 1"):
        ThreadPool(0)


def test_dummy_makes_a_pool_of_threads() -> None:
    with dummy.Pool(1) as made:
        assert type(made) is ThreadPool
        assert made.apply(os.getpid) == os.getpid()
    made.join()


def test_dummy_processes_are_threads() -> None:
    answers = dummy.Queue()
    process = dummy.Process(target=lambda: answers.put(dummy.current_process()), name="Some")
    assert process.exitcode is None
    process.start()
    process.join()
    assert process.exitcode == 0
    assert answers.get() is process
    assert process.name == "Some"
    assert dummy.active_children() == []
    lock, value = dummy.Lock(), dummy.Value("i", 3)
    with lock:
        value.value += 1
    assert value.value == 4
    assert list(dummy.Array("i", [1, 2])) == [1, 2]


def test_dummy_connections_carry_objects_themselves() -> None:
    one, other = dummy.Pipe()
    thing = object()
    one.send(thing)
    assert other.poll(1)
    assert other.recv() is thing
    listener = connection.Listener()
    answers = dummy.Queue()
    thread = threading.Thread(target=lambda: answers.put(listener.accept().recv()))
    thread.start()
    connection.Client(listener.address).send(thing)
    assert answers.get() is thing
    thread.join()
