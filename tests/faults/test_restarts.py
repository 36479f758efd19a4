"""Workers that are replaced all the time, and killed besides."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from tests.conformance import tasks

import corral


@pytest.mark.slow
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_pool_whose_workers_are_killed_while_they_start_goes_on(method: str) -> None:
    with corral.Pool(2, maxtasksperchild=1, context=method) as pool:
        stop = threading.Event()

        def kill() -> None:
            while not stop.wait(0.15):
                for child in pool._pool[:1]:
                    os.kill(child.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            answers = [pool.apply_async(tasks.square, (x,)) for x in range(8)]
            for x, answer in enumerate(answers):
                try:
                    assert answer.get(50) == x * x
                except corral.WorkerLost:
                    continue
        finally:
            stop.set()
            killer.join()
        assert pool.map(tasks.square, range(10)) == [x * x for x in range(10)]


def test_an_initializer_that_always_fails_breaks_the_pool_once_with_its_exception() -> None:
    with corral.Pool(2, initializer=tasks.refuse) as pool:
        for _ in range(3):
            with pytest.raises(corral.PoolBroken, match="RuntimeError: cannot start") as caught:
                pool.apply(tasks.square, (1,))
            assert isinstance(caught.value.__cause__, RuntimeError)
        assert len(pool._pool) <= 2
