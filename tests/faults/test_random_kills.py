"""Workers are killed at random while a map runs: it ends, every item is accounted for, the pool goes on."""

from __future__ import annotations

import os
import random
import signal
import threading
from typing import Any

import pytest

import corral
from corral.pool import Pool


def spin(x: int) -> int:
    return sum(i * i for i in range(20_000)) * 0 + x


def kill_some(pool: Pool, deaths: int, stop: threading.Event, seed: int) -> threading.Thread:
    """Kill `deaths` workers of `pool`, a few tenths of a second apart."""
    dice = random.Random(seed)

    def run() -> None:
        for _ in range(deaths):
            if stop.wait(dice.uniform(0.05, 0.2)):
                return
            workers = pool._pool
            if workers:
                os.kill(dice.choice(workers).pid, signal.SIGKILL)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_lazy_map_accounts_for_every_item(seed: int) -> None:
    stop = threading.Event()
    with Pool(2) as pool:
        killer = kill_some(pool, 10, stop, seed)
        iterator = pool.imap(spin, range(2500))
        seen: list[Any] = []
        while len(seen) < 2500:
            try:
                seen.append(next(iterator))
            except corral.WorkerLost:
                seen.append(None)
        with pytest.raises(StopIteration):
            next(iterator)
        stop.set()
        killer.join()
        assert [x for x in seen if x is not None] == [i for i, x in enumerate(seen) if x is not None]
        assert sum(x is None for x in seen) < 2500 // 2
        assert pool.map(spin, range(10)) == list(range(10))


@pytest.mark.slow
def test_a_map_ends_with_the_loss_or_the_list() -> None:
    stop = threading.Event()
    with Pool(2) as pool:
        killer = kill_some(pool, 10, stop, 3)
        result = pool.map_async(spin, range(2500))
        result.wait(50)
        assert result.ready()
        if result.successful():
            assert result.get() == list(range(2500))
        else:
            with pytest.raises(corral.WorkerLost, match="SIGKILL"):
                result.get()
        stop.set()
        killer.join()
        assert pool.map(spin, range(10)) == list(range(10))


@pytest.mark.slow
def test_single_tasks_are_lost_one_per_death() -> None:
    stop = threading.Event()
    with Pool(2) as pool:
        killer = kill_some(pool, 8, stop, 4)
        results = [pool.apply_async(spin, (x,)) for x in range(1500)]
        lost = 0
        for x, result in enumerate(results):
            try:
                assert result.get(50) == x
            except corral.WorkerLost:
                lost += 1
        stop.set()
        killer.join()
        assert lost <= 8
