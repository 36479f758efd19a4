"""Running work can be limited, stopped, tried again and asked about, with each start method."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import control_tasks as work
from tests.conformance import tasks

import corral

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METHODS = ["forkserver", "fork", "spawn"]


@pytest.fixture(params=METHODS, scope="module")
def pool(request: pytest.FixtureRequest) -> Iterator[corral.Pool]:
    with corral.Pool(2, context=request.param) as made:
        yield made


@pytest.fixture(params=METHODS)
def fresh(request: pytest.FixtureRequest) -> Iterator[corral.Pool]:
    """A pool whose workers may die."""
    with corral.Pool(2, context=request.param) as made:
        yield made


@pytest.fixture
def executor() -> Iterator[corral.ProcessPoolExecutor]:
    with corral.ProcessPoolExecutor(2) as made:
        yield made


@pytest.fixture(scope="module")
def one() -> Iterator[corral.Pool]:
    """A pool in which whatever is queued stands behind what runs."""
    with corral.Pool(1) as made:
        yield made


def wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.001)


# Time limits.


def test_a_task_in_time_is_as_ever(pool: corral.Pool) -> None:
    assert pool.apply(tasks.add, (1,), {"y": 2}, timeout=30) == 3
    assert pool.map(tasks.square, range(100), timeout=30) == [x * x for x in range(100)]
    assert list(pool.imap(tasks.square, range(100), timeout=30)) == [x * x for x in range(100)]
    assert pool.starmap(tasks.add, [(1, 2), (3, 4)], timeout=30) == [3, 7]


def test_a_late_task_gets_task_timeout_and_its_worker_lives(pool: corral.Pool) -> None:
    pids = {child.pid for child in pool._pool}
    with pytest.raises(corral.TaskTimeout, match=r"hang ran for longer than 0\.1 s in worker \d+$") as caught:
        pool.apply(work.hang, timeout=0.1)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert (error.timeout_s, error.attempt) == (0.1, 1)
    assert error.pid in pids
    assert "in hang" in str(error.__cause__)  # where it was
    assert {child.pid for child in pool._pool} == pids


def test_a_call_of_c_that_waits_is_cut_short(pool: corral.Pool, tmp_path: Path) -> None:
    with pytest.raises(corral.TaskTimeout, match="sleep_in_c"):
        pool.apply(work.sleep_in_c, (str(tmp_path / "mark"),), timeout=0.1)


def test_a_task_that_does_not_stop_is_killed(fresh: corral.Pool) -> None:
    with pytest.raises(
        corral.TaskTimeout, match=r"be_deaf ran .* was killed since the task did not stop"
    ) as caught:
        fresh.apply(work.be_deaf, timeout=0.1, grace=0.1)
    assert caught.value.pid not in {child.pid for child in fresh._pool}
    assert fresh.apply(tasks.square, (3,)) == 9


def test_a_task_may_clean_up_and_answer_within_the_grace(pool: corral.Pool, tmp_path: Path) -> None:
    path = tmp_path / "said"
    assert pool.apply(work.clean_up, (str(path),), timeout=0.1, grace=30) == "cleaned up"
    assert path.read_text() == "TaskTimeout"


def test_the_limit_is_each_items_own(pool: corral.Pool) -> None:
    results: list[Any] = []
    iterator = pool.imap(work.hang_on_three, range(8), timeout=0.1, chunksize=8)
    while len(results) < 8:
        try:
            results.append(next(iterator))
        except corral.TaskTimeout as error:
            results.append(error)
    late = results.pop(3)
    assert isinstance(late, corral.TaskTimeout)
    assert "hang_on_three (item 3)" in str(late)
    assert results == [0, 1, 2, 4, 5, 6, 7]


def test_an_item_that_does_not_stop_costs_no_item_that_had_not_begun(fresh: corral.Pool) -> None:
    with pytest.raises(corral.MapErrors) as caught:
        fresh.map(work.be_deaf_on_three, range(8), 8, timeout=0.1, grace=0.1, errors="collect")
    index, _, error = caught.value.failures[-1]
    assert index == 3
    assert isinstance(error, corral.TaskTimeout)
    assert {4, 5, 6, 7} <= set(caught.value.results)


def test_to_wait_for_a_worker_does_not_count(one: corral.Pool, tmp_path: Path) -> None:
    path = tmp_path / "go"
    first = one.apply_async(tasks.wait_for_file, (str(path),))
    second = one.apply_async(tasks.square, (5,), timeout=0.1)
    with pytest.raises(corral.TimeoutError):
        second.get(0.3)
    path.touch()
    assert second.get(30) == 25
    first.get(30)


def test_a_pool_can_have_terms_of_its_own(pool: corral.Pool) -> None:
    limited = pool.options(timeout=0.1)
    with pytest.raises(corral.TaskTimeout):
        limited.apply(work.hang)
    assert limited.apply(tasks.square, (2,)) == 4
    assert limited.options(retries=3).apply(work.fail_until, (3,)) == 3
    with pytest.raises(TypeError):
        pool.options(timout=3)  # type: ignore[call-arg]


def test_an_executor_can_have_terms_of_its_own(executor: corral.ProcessPoolExecutor) -> None:
    limited = executor.options(timeout=0.1, retries=1, backoff=0.0)
    future = limited.submit(work.hang)
    with pytest.raises(corral.TaskTimeout, match=r"attempt 2"):
        future.result(30)
    # The function's own argument of that name is the function's.
    assert limited.submit(dict, timeout=7).result(30) == {"timeout": 7}
    assert list(limited.map(tasks.square, range(5), timeout=30)) == [0, 1, 4, 9, 16]


def test_many_threads_with_limits_of_their_own(pool: corral.Pool) -> None:
    errors: list[BaseException] = []

    def call() -> None:
        for x in range(50):
            try:
                assert pool.apply(tasks.square, (x,), timeout=30) == x * x
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


# Cancelling.


def test_cancel_stops_what_runs(pool: corral.Pool, tmp_path: Path) -> None:
    mark, after = tmp_path / "mark", tmp_path / "after"
    pids = {child.pid for child in pool._pool}
    result = pool.apply_async(work.hang, (str(mark),))
    wait_for(mark)
    assert not result.cancel()
    assert result.cancel(running=True)
    with pytest.raises(concurrent.futures.CancelledError):
        result.get(30)
    assert not result.cancel(running=True)
    # Both workers are free: two tasks that need each other.
    waiting = pool.apply_async(tasks.wait_for_file, (str(after),))
    pool.apply_async(_touch, (str(after),)).get(30)
    waiting.get(30)
    assert {child.pid for child in pool._pool} == pids


def _touch(path: str) -> None:
    open(path, "x").close()


def test_the_task_hears_of_it(pool: corral.Pool, tmp_path: Path) -> None:
    path = tmp_path / "said"
    result = pool.apply_async(work.clean_up, (str(path),))
    while not corral.cancel(result):
        pass
    # Had it not begun, it was withdrawn.
    pool.map(tasks.identity, range(50), 1)
    assert not path.exists() or path.read_text() == "TaskCancelled"


@pytest.mark.slow
@pytest.mark.parametrize("function", [work.be_deaf, work.swallow])
def test_who_does_not_stop_is_killed(fresh: corral.Pool, tmp_path: Path, function: Any) -> None:
    mark = tmp_path / "mark"
    pids = {child.pid for child in fresh._pool}
    result = fresh.options(timeout=1000, grace=0.1).apply_async(function, (str(mark),))
    wait_for(mark)
    assert result.cancel(running=True)
    while {child.pid for child in fresh._pool} == pids:
        fresh.apply(tasks.square, (1,))
    assert fresh.map(tasks.square, range(20), 1) == [x * x for x in range(20)]


def test_a_cancelled_future_is_cancelled(executor: corral.ProcessPoolExecutor, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    future = executor.submit(work.hang, str(mark))
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    wait_for(mark)
    assert not future.cancel()
    assert corral.cancel(future)
    assert future.cancelled()
    assert future.done()
    assert not future.running()
    assert called.wait(30)
    assert concurrent.futures.wait([future], 30).done == {future}
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()


def test_a_future_that_is_done_cannot_be_cancelled(executor: corral.ProcessPoolExecutor) -> None:
    future = executor.submit(tasks.square, 3)
    assert future.result(30) == 9
    assert not corral.cancel(future)
    assert future.result() == 9


def test_corral_cancel_takes_a_future_of_the_standard_library() -> None:
    future: concurrent.futures.Future[int] = concurrent.futures.Future()
    assert corral.cancel(future)
    assert future.cancelled()


def test_cancelled_input_blocks_nobody(one: corral.Pool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    running = one.apply_async(work.hang, (str(mark),))
    queued = [one.apply_async(tasks.square, (x,)) for x in range(10)]
    wait_for(mark)
    assert all(result.cancel() for result in queued[::2])
    assert corral.cancel(running)
    assert [result.get(30) for result in queued[1::2]] == [1, 9, 25, 49, 81]


def test_a_map_can_be_cancelled(pool: corral.Pool, tmp_path: Path) -> None:
    called: list[BaseException] = []
    marks = [tmp_path / "0", tmp_path / "1"]
    result = pool.map_async(
        work.hang,
        [str(marks[0]), str(marks[1]), *[str(tmp_path / "no")] * 50],
        1,
        error_callback=called.append,
    )
    for mark in marks:
        wait_for(mark)
    assert corral.cancel(result)
    with pytest.raises(concurrent.futures.CancelledError):
        result.get(30)
    assert [type(error) for error in called] == [concurrent.futures.CancelledError]
    assert not result.cancel()
    assert pool.map(tasks.square, range(20), 1) == [x * x for x in range(20)]


def test_a_cancel_that_comes_too_late_hits_nobody(one: corral.Pool) -> None:
    for x in range(200):
        result = one.apply_async(tasks.square, (x,))
        after = one.apply_async(tasks.square, (x + 1,))
        corral.cancel(result)
        assert after.get(30) == (x + 1) ** 2


# Trying again.


def test_a_task_that_fails_is_tried_again(pool: corral.Pool) -> None:
    assert pool.apply(work.fail_until, (3,), retries=2, backoff=0.01) == 3
    with pytest.raises(ConnectionError, match="attempt 2"):
        pool.apply(work.fail_until, (3,), retries=1, backoff=0.01)


def test_only_after_the_errors_one_names(pool: corral.Pool) -> None:
    with pytest.raises(ConnectionError, match="attempt 1"):
        pool.apply(work.fail_until, (3,), retries=5, retry_on=(ValueError, KeyError))
    assert pool.apply(work.fail_until, (2,), retries=5, retry_on=OSError, backoff=0.0) == 2


def test_a_lost_worker_counts_as_a_try(fresh: corral.Pool) -> None:
    assert fresh.apply(work.die_until, (3,), retries=2, retry_on=(), backoff=0.0) == 3
    with pytest.raises(corral.WorkerLost) as caught:
        fresh.apply(work.die_until, (2,))
    assert not isinstance(caught.value, corral.PoisonTask)


def test_a_task_that_kills_one_worker_after_the_other_is_poison(fresh: corral.Pool) -> None:
    with pytest.raises(corral.PoisonTask, match="3 workers have died with this task") as caught:
        fresh.apply(work.die_until, (1000,), retries=1000, backoff=0.0)
    assert caught.value.attempt == 3
    assert fresh.apply(tasks.square, (3,)) == 9


def test_items_are_tried_again_one_by_one(pool: corral.Pool) -> None:
    expected = list(range(40))
    assert pool.map(work.fives_fail_once, expected, retries=1, backoff=0.0) == expected
    assert pool.map(work.fives_fail_once, expected, 40, retries=1, backoff=0.0) == expected
    assert list(pool.imap(work.fives_fail_once, expected, retries=1, backoff=0.0)) == expected
    assert sorted(pool.stream(work.fives_fail_once, iter(expected), retries=1, backoff=0.0)) == expected
    assert pool.starmap(work.fives_fail_once, zip(expected, strict=True), retries=1, backoff=0.0) == expected


def test_a_poisonous_item_spoils_no_other(fresh: corral.Pool) -> None:
    with pytest.raises(corral.MapErrors) as caught:
        fresh.map(work.die_on_three, range(20), 20, retries=5, backoff=0.0, errors="collect")
    assert [(index, type(error)) for index, _, error in caught.value.failures] == [(3, corral.PoisonTask)]
    assert caught.value.results == {x: x for x in range(20) if x != 3}


def test_a_closing_pool_still_tries_again() -> None:
    with corral.Pool(1) as pool:
        result = pool.apply_async(work.fail_until, (3,), retries=2, backoff=0.01)
        pool.close()
        pool.join()
        assert result.get(0) == 3


def test_what_waits_for_its_next_try_can_be_cancelled(one: corral.Pool) -> None:
    result = one.apply_async(work.fail_until, (2,), retries=1, backoff=50)
    while not result.cancel():  # until it has failed once
        pass
    with pytest.raises(concurrent.futures.CancelledError):
        result.get(0)


def test_a_pool_that_is_terminated_fails_what_waits_for_its_next_try() -> None:
    with corral.Pool(1) as pool:
        result = pool.apply_async(work.fail_until, (2,), retries=1, backoff=50)
        pool.apply(tasks.square, (1,))
        pool.apply(tasks.square, (1,))
    with pytest.raises(corral.PoolClosed):
        result.get(30)


# What a task knows of itself.


def test_a_task_knows_its_id_its_attempt_and_its_deadline(pool: corral.Pool) -> None:
    first, attempt, remaining = pool.apply(work.about_me)
    assert (attempt, remaining) == (1, None)
    second, _, remaining = pool.apply(work.about_me, timeout=100)
    assert first != second
    assert remaining is not None
    assert 0 < remaining <= 100
    assert len({each[0] for each in pool.map(work.about_me, range(10), 1)}) == 10


def test_nobody_else_is_a_task() -> None:
    assert corral.current_task() is None


# All errors of a map.


def test_all_failures_are_collected_and_all_results_kept(pool: corral.Pool) -> None:
    with pytest.raises(corral.MapErrors, match=r"^4 of 20 items failed") as caught:
        pool.map(work.fives_fail, range(20), errors="collect")
    group = caught.value
    assert isinstance(group, ExceptionGroup)
    assert [(index, text, str(error)) for index, text, error in group.failures] == [
        (x, str(x), str(x)) for x in (0, 5, 10, 15)
    ]
    assert group.results == {x: x for x in range(20) if x % 5}
    assert group.exceptions[1].__notes__[-1] == "(item 5: 5)"
    assert len(group.subgroup(lambda error: error.args == (5,)).failures) == 1  # type: ignore[union-attr]


def test_a_map_without_failures_is_its_list(pool: corral.Pool) -> None:
    assert pool.map(tasks.square, range(9), errors="collect") == [x * x for x in range(9)]


def test_the_first_error_is_the_default(pool: corral.Pool) -> None:
    with pytest.raises(ValueError, match=r"^(0|5|10|15)$"):
        pool.map(work.fives_fail, range(20))


def test_items_that_cannot_be_sent_are_collected_too(pool: corral.Pool) -> None:
    with pytest.raises(corral.MapErrors) as caught:
        pool.map(tasks.identity, [1, threading.Lock(), 3], 3, errors="collect")
    ((index, text, error),) = caught.value.failures
    assert index == 1
    assert "lock" in text
    assert isinstance(error, corral.EncodeError)
    assert caught.value.results == {0: 1, 2: 3}


# One death costs one item.


@pytest.mark.parametrize("how", ["map", "imap"])
def test_a_death_in_a_chunk_costs_the_item_that_ran(fresh: corral.Pool, how: str) -> None:
    if how == "map":
        with pytest.raises(corral.MapErrors) as caught:
            fresh.map(work.slowly_die_on_three, range(12), 12, errors="collect")
        lost = [index for index, _, _ in caught.value.failures]
        error = caught.value.exceptions[0]
        kept = list(caught.value.results.values())
    else:
        iterator, lost, kept = fresh.imap(work.slowly_die_on_three, range(12), 12), [], []
        while len(lost) + len(kept) < 12:
            try:
                kept.append(next(iterator))
            except corral.WorkerLost as one:
                lost.append(len(kept))
                error = one
    assert lost == [3]
    assert kept == [x for x in range(12) if x != 3]
    assert isinstance(error, corral.WorkerLost)
    assert error.items == range(3, 4)
    assert "(item 3)" in str(error)


def test_what_had_not_begun_runs_once(fresh: corral.Pool, tmp_path: Path) -> None:
    with pytest.raises(corral.MapErrors) as caught:
        fresh.map(_leave_a_mark, [(str(tmp_path), x) for x in range(100)], 100, errors="collect")
    runs = [int(line) for file in tmp_path.iterdir() for line in file.read_text().split()]
    lost = {index for index, _, _ in caught.value.failures}
    assert len(runs) == len(set(runs))
    assert set(runs) | lost == set(range(100))
    assert 3 in lost
    assert set(caught.value.results) == set(range(100)) - lost


def _leave_a_mark(item: tuple[str, int]) -> None:
    folder, x = item
    with open(f"{folder}/{os.getpid()}", "a") as file:
        file.write(f"{x}\n")
    work.die_on_three(x)
