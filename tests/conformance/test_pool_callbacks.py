"""When callbacks have run, and what keeps a pool alive, as users of the standard library expect it."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import tasks

import corral
from corral._engine import callbacks
from corral.futures import ProcessPoolExecutor
from corral.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path


class Slowly:
    """A callback that returns only once another thread lets it, so that who does not wait is caught."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let = threading.Event()
        self.values: list[Any] = []

    def __call__(self, value: Any) -> None:
        self.begun.set()
        assert self.let.wait(30)
        self.values.append(value)


def test_who_waited_for_a_result_finds_its_callback_run() -> None:
    slowly = Slowly()
    with Pool(1) as pool:
        result = pool.map_async(tasks.square, [2, 3], callback=slowly)
        assert slowly.begun.wait(30)
        assert not result.ready()
        slowly.let.set()
        result.wait(30)
        assert slowly.values == [[4, 9]]
        assert result.get() == [4, 9]


def test_an_error_callback_has_run_too() -> None:
    errors: list[BaseException] = []
    with Pool(1) as pool:
        for _ in range(50):
            pool.apply_async(tasks.fail, (1,), error_callback=errors.append).wait(30)
    assert [type(error) for error in errors] == [ValueError] * 50


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_raises_does_not_keep_its_result() -> None:
    def refuse(_: int) -> None:
        raise OSError("not now")

    with Pool(1) as pool:
        assert pool.apply_async(tasks.square, (3,), callback=refuse).get(30) == 9
    callbacks.flush()  # its report belongs to this test


def test_join_waits_for_callbacks() -> None:
    slowly = Slowly()
    with Pool(1) as pool:
        pool.apply_async(tasks.square, (3,), callback=slowly)
        pool.close()
        joiner = threading.Thread(target=pool.join)
        joiner.start()
        assert slowly.begun.wait(30)
        pool._engine.gone.park(30)
        assert joiner.is_alive()
        slowly.let.set()
        joiner.join(30)
        assert slowly.values == [9]


def test_the_end_of_a_with_block_waits_for_the_callbacks_of_futures() -> None:
    values: list[int] = []

    def take(future: Future[int]) -> None:
        threading.Event().wait(0.001)  # long enough to be overtaken, if the block did not wait
        values.append(future.result())

    with ProcessPoolExecutor(2) as executor:
        for x in range(40):
            executor.submit(tasks.square, x).add_done_callback(take)
    assert sorted(values) == [x * x for x in range(40)]


def test_a_callback_may_end_its_own_pool() -> None:
    pool = Pool(1)
    ended = threading.Event()

    def end(_: int) -> None:
        pool.close()
        pool.join()
        ended.set()

    pool.apply_async(tasks.square, (3,), callback=end)
    assert ended.wait(30)
    pool.join()


@pytest.mark.filterwarnings("ignore:unclosed running:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pool_lives_while_its_results_are_awaited() -> None:
    assert Pool(1).apply_async(tasks.square, (3,)).get(30) == 9
    assert Pool(1).map_async(tasks.square, range(3)).get(30) == [0, 1, 4]
    assert list(Pool(1).imap(tasks.square, range(3))) == [0, 1, 4]


def test_work_given_while_another_thread_closes_is_done_or_refused() -> None:
    for _ in range(8):
        pool = Pool(1)
        results: list[Any] = []
        begun = threading.Event()

        def give(pool: Pool = pool, results: list[Any] = results, begun: threading.Event = begun) -> None:
            with contextlib.suppress(corral.PoolClosed):
                while True:
                    results.append(pool.apply_async(tasks.square, (2,)))
                    results.append(pool.map_async(tasks.square, [2]))
                    begun.set()

        givers = [threading.Thread(target=give) for _ in range(3)]
        for giver in givers:
            giver.start()
        assert begun.wait(30)
        pool.close()
        for giver in givers:
            giver.join(30)
        pool.join()
        for result in results:
            with contextlib.suppress(corral.PoolClosed):
                assert result.get(20) in (4, [4])


def test_a_closed_pool_ends_although_the_input_of_a_dropped_map_does_not() -> None:
    more = threading.Event()

    def inputs() -> Iterator[int]:
        yield 1
        more.wait(30)

    pool = Pool(1)
    try:
        iterator = pool.imap(tasks.square, inputs())
        assert next(iterator) == 1
        pool.close()
        del iterator
        assert pool._engine.join(20)
    finally:
        more.set()
        pool.terminate()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_cancels_does_not_touch_its_parents_tasks(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with ProcessPoolExecutor(1) as executor:
        executor.submit(tasks.wait_for_file, str(go))
        futures = [executor.submit(tasks.square, x) for x in range(4)]
        child = os.fork()
        if not child:
            os._exit(sum(future.cancel() for future in futures))
        go.touch()
        assert os.waitpid(child, 0)[1] == 0
        assert [future.result(20) for future in futures] == [0, 1, 4, 9]
