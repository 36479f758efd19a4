"""How many workers a pool has, and how large they may grow."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import tasks

import corral

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ["forkserver", "fork", "spawn"]
MIB = 1 << 20
hoard: list[bytes] = []


def eventually(condition: Any) -> None:
    while not condition():
        time.sleep(0.002)


def grow(mib: int) -> int:
    """Keep memory that nobody gives back."""
    hoard.append(os.urandom(1) * (mib * MIB))
    return os.getpid()


def grow_and_wait(mib: int) -> None:
    grow(mib)
    time.sleep(1000)


# Numbers of workers.


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_grows_and_shrinks(method: str, tmp_path: Path) -> None:
    with corral.Pool(1, context=method) as pool:
        pool.resize(3)
        go = tmp_path / "go"
        marks = [tmp_path / str(x) for x in range(3)]
        together = [pool.apply_async(tasks.mark_and_wait, (str(mark), str(go))) for mark in marks]
        queued = [pool.apply_async(tasks.square, (x,)) for x in range(30)]
        eventually(lambda: all(mark.exists() for mark in marks))
        pool.resize(1)
        go.touch()
        assert len({each.get(30) for each in together}) == 3
        assert [each.get(30) for each in queued] == [x * x for x in range(30)]
        eventually(lambda: len(pool._pool) == 1)
        pool.resize(2)
        assert pool.map(tasks.square, range(50)) == [x * x for x in range(50)]
        assert len(pool._pool) == 2
        assert "pool_size=2" in repr(pool)


def test_a_resize_while_a_map_runs_loses_nothing() -> None:
    with corral.Pool(2) as pool:
        result = pool.map_async(tasks.square, range(20000), 10)
        for size in (4, 1, 3, 2):
            pool.resize(size)
        assert result.get(50) == [x * x for x in range(20000)]


def test_a_closed_pool_has_no_size() -> None:
    with corral.Pool(1) as pool:
        with pytest.raises(ValueError, match="at least 1"):
            pool.resize(0)
        pool.close()
        with pytest.raises(ValueError, match="not running"):
            pool.resize(2)


def test_workers_come_with_work_and_leave_without(tmp_path: Path) -> None:
    with corral.Pool((0, 2), idle_timeout=0.05) as pool:
        assert pool._pool == []
        go = tmp_path / "go"
        together = [pool.apply_async(tasks.wait_for_file, (str(go),)) for _ in range(3)]
        assert len(pool._pool) == 2
        go.touch()
        for each in together:
            each.get(30)
        eventually(lambda: not pool._pool)
        assert pool.map(tasks.square, range(50)) == [x * x for x in range(50)]


def test_so_many_stay_as_there_shall_be_at_least() -> None:
    with corral.ProcessPoolExecutor((1, 2), idle_timeout=0.05) as executor:
        assert len(executor._processes) == 1
        assert list(executor.map(tasks.square, range(50))) == [x * x for x in range(50)]
        eventually(lambda: len(executor._processes) == 1)
        assert executor.submit(tasks.square, 3).result(30) == 9
        executor.resize(1)
        assert executor.submit(tasks.square, 4).result(30) == 16


# Memory.


def test_a_worker_above_its_limit_is_replaced_between_two_tasks() -> None:
    with corral.Pool(1, memory_limit=150 * MIB) as pool:
        pids = [pool.apply(grow, (10,)) for _ in range(40)]
        assert len(set(pids)) > 2
        assert pool.map(tasks.square, range(50), 1) == [x * x for x in range(50)]


def test_a_task_that_exceeds_it_is_killed_with_an_error_that_says_so() -> None:
    with corral.Pool(1, memory_limit=150 * MIB) as pool:
        with pytest.raises(
            corral.WorkerLost, match=r"above the memory limit of 150 MiB, and was killed for it"
        ):
            pool.apply(grow_and_wait, (300,))
        assert pool.apply(tasks.square, (3,)) == 9


def test_a_limit_below_what_a_worker_needs_breaks_the_pool_once() -> None:
    with corral.Pool(1, memory_limit=4096) as pool, pytest.raises(corral.PoolBroken, match="memory_limit"):
        pool.apply(tasks.square, (3,))
