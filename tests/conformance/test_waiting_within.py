"""Users' code that corral runs may itself wait for the pool."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import tasks

import corral

if TYPE_CHECKING:
    from collections.abc import Iterator

_pools: list[corral.Pool] = []


def ask(x: int) -> int:
    """Rebuild a value by means of the pool, in the parent."""
    return int(_pools[0].apply(tasks.square, (x,)))


class AsksThePool:
    """Loads by waiting for another task of the same pool."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __reduce__(self) -> Any:
        return ask, (self.x,)


def make(x: int) -> AsksThePool:
    return AsksThePool(x)


@pytest.fixture
def pool() -> Iterator[corral.Pool]:
    with corral.Pool(2) as made:
        _pools.append(made)
        yield made
        _pools.clear()


def test_a_result_may_wait_for_a_task_while_it_is_rebuilt(pool: corral.Pool) -> None:
    assert pool.apply(make, (3,)) == 9


def test_many_results_may_do_so_at_once(pool: corral.Pool) -> None:
    results = [pool.apply_async(make, (x,)) for x in range(100)]
    assert [result.get(50) for result in results] == [x * x for x in range(100)]
    assert pool.map(make, range(100)) == [x * x for x in range(100)]
    assert list(pool.imap(make, range(100), 3)) == [x * x for x in range(100)]


def test_so_may_those_that_nobody_waits_for_yet(pool: corral.Pool) -> None:
    done = threading.Semaphore(0)
    for x in range(100):
        pool.apply_async(make, (x,), callback=lambda _: done.release())
    for _ in range(100):
        assert done.acquire(timeout=50)


def test_threads_may_do_so_side_by_side(pool: corral.Pool) -> None:
    wrong: list[Any] = []

    def work() -> None:
        wrong.extend(x for x in range(50) if pool.apply(make, (x,)) != x * x)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_argument_may_wait_for_a_task_while_it_is_sent(pool: corral.Pool) -> None:
    assert pool.map(tasks.identity, [Asking(x) for x in range(100)]) == [x * x for x in range(100)]


class Asking:
    """Pickles by waiting for a task of the same pool."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __reduce__(self) -> Any:
        return int, (ask(self.x),)
