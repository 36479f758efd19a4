"""`corral.Pool` does what `multiprocessing.Pool` is documented to do, with each start method."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import tasks

import corral
from corral.pool import MaybeEncodingError, Pool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METHODS = ["forkserver", "fork", "spawn"]


@pytest.fixture(params=METHODS, scope="module")
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with Pool(2, context=request.param) as made:
        yield made


@pytest.fixture
def fresh() -> Iterator[Pool]:
    with Pool(2) as made:
        yield made


def test_apply_returns_the_value(pool: Pool) -> None:
    assert pool.apply(tasks.add, (1,), {"y": 2, "z": 3}) == 6


def test_apply_async_get(pool: Pool) -> None:
    result = pool.apply_async(tasks.square, (7,))
    assert result.get(30) == 49
    assert result.ready()
    assert result.successful()


def test_work_is_done_elsewhere(pool: Pool) -> None:
    assert pool.apply(tasks.pid) != os.getpid()


@pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
def test_map_keeps_the_order(pool: Pool, chunksize: int | None) -> None:
    assert pool.map(tasks.square, range(300), chunksize) == [x * x for x in range(300)]


@pytest.mark.parametrize("items", [[], (), range(0), iter(()), {}])
def test_map_of_nothing_is_nothing(pool: Pool, items: Any) -> None:
    assert pool.map(tasks.square, items) == []


@pytest.mark.parametrize("items", [[1, 2], (1, 2), {1: 0, 2: 0}, "ab", b"ab", range(1, 3)])
def test_map_takes_any_iterable(pool: Pool, items: Any) -> None:
    expected = [1, 2] if not isinstance(items, (str, bytes)) else list(items)
    assert pool.map(tasks.identity, items) == expected


def test_map_takes_an_iterator(pool: Pool) -> None:
    assert pool.map(tasks.identity, iter([1, 2])) == [1, 2]


def test_starmap(pool: Pool) -> None:
    assert pool.starmap(tasks.add, [(1, 2), (3, 4)] * 20) == [3, 7] * 20


def test_map_of_lambda_and_closure(pool: Pool) -> None:
    offset = 5
    assert pool.map(lambda x: x + offset, range(10)) == list(range(5, 15))


def test_the_exception_arrives_with_the_workers_traceback(pool: Pool) -> None:
    with pytest.raises(ValueError, match="no 4") as caught:
        pool.apply(tasks.fail, (4,))
    assert "in fail" in str(caught.value.__cause__)


def test_map_raises_a_failure_of_an_item(pool: Pool) -> None:
    with pytest.raises(KeyError, match="three"):
        pool.map(tasks.fail_on_three, range(100))


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 4])
def test_imap_yields_everything(pool: Pool, ordered: bool, chunksize: int | None) -> None:
    imap = pool.imap if ordered else pool.imap_unordered
    results = list(imap(tasks.square, range(200), chunksize))
    assert (results if ordered else sorted(results)) == [x * x for x in range(200)]


def test_imap_with_large_chunks_keeps_every_worker_busy(pool: Pool, tmp_path: Path) -> None:
    # Each half waits for a mark of the other: with all items of both at one worker neither would come.
    marks = [str(tmp_path / "one"), str(tmp_path / "two")]
    items = [(marks[0], marks[1])] + [None] * 99 + [(marks[1], marks[0])] + [None] * 99

    def meet(item: tuple[str, str] | None) -> int:
        return 0 if item is None else tasks.mark_and_wait(*item)

    assert len(set(pool.imap(meet, items, 100))) == 3


def test_imap_goes_on_after_a_failure(pool: Pool) -> None:
    iterator = pool.imap(tasks.fail_on_three, range(6), 2)
    assert [next(iterator) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(iterator)
    assert list(iterator) == [4, 5]


def test_imap_over_an_endless_generator_pulls_a_bounded_number(pool: Pool) -> None:
    pulled = 0

    def endless() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    iterator = pool.imap(tasks.square, endless())
    assert [next(iterator) for _ in range(10)] == [x * x for x in range(1, 11)]
    assert pulled <= 10 + 64 + 1


def test_imap_may_depend_on_its_own_results(pool: Pool) -> None:
    from queue import SimpleQueue

    feedback: SimpleQueue[int] = SimpleQueue()
    feedback.put(2)
    iterator = pool.imap(tasks.square, iter(feedback.get, 256 * 256))
    seen = []
    for value in iterator:
        seen.append(value)
        feedback.put(value)
    assert seen == [4, 16, 256, 65536][: len(seen)]
    assert len(seen) >= 3


def test_an_exception_of_the_input_arrives_in_its_place(pool: Pool) -> None:
    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("input")

    iterator = pool.imap(tasks.square, broken())
    assert [next(iterator), next(iterator)] == [1, 4]
    with pytest.raises(LookupError):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_next_with_timeout(pool: Pool, tmp_path: Path) -> None:
    import multiprocessing

    gate = tmp_path / "gate"
    iterator = pool.imap(tasks.wait_for_file, [str(gate)])
    with pytest.raises(multiprocessing.TimeoutError):
        iterator.next(0.01)
    gate.touch()
    assert iterator.next(30) > 0


def test_get_with_timeout(pool: Pool, tmp_path: Path) -> None:
    import multiprocessing

    gate = tmp_path / "gate"
    result = pool.apply_async(tasks.wait_for_file, (str(gate),))
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0.01)
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    gate.touch()
    assert result.get(30) > 0


def test_callbacks_are_called(pool: Pool) -> None:
    from queue import SimpleQueue

    heard: SimpleQueue[Any] = SimpleQueue()
    pool.apply_async(tasks.square, (3,), callback=heard.put)
    assert heard.get(timeout=30) == 9
    pool.map_async(tasks.square, [1, 2], callback=heard.put)
    assert heard.get(timeout=30) == [1, 4]
    pool.apply_async(tasks.fail, (3,), error_callback=heard.put)
    assert isinstance(heard.get(timeout=30), ValueError)


def test_what_cannot_be_pickled_is_named(pool: Pool) -> None:
    with pytest.raises(corral.EncodeError, match="lock"):
        pool.apply(tasks.identity, (threading.Lock(),))


def test_a_function_that_cannot_be_pickled_is_the_results_error(pool: Pool) -> None:
    method = threading.Lock().acquire
    for result in (pool.apply_async(method), pool.map_async(method, [1]), pool.starmap_async(method, [(1,)])):
        with pytest.raises(corral.EncodeError, match="lock"):
            result.get(30)


def test_a_result_that_cannot_be_pickled_is_an_error(pool: Pool) -> None:
    with pytest.raises(corral.EncodeError, match="lock"):
        pool.apply(tasks.a_lock)
    with pytest.raises(corral.EncodeError, match="lock"):
        pool.map(tasks.a_lock, [1, 2])


def test_what_pickling_raised_can_be_caught_too(pool: Pool) -> None:
    with pytest.raises(LookupError, match="not me") as caught:
        pool.map(tasks.identity, [tasks.Refuses()])
    assert isinstance(caught.value, corral.EncodeError)
    with pytest.raises(MaybeEncodingError, match="not me") as returned:
        pool.apply(tasks.a_refusal)
    assert isinstance(returned.value, LookupError)
    assert "not me" in returned.value.exc
    assert "Refuses" in returned.value.value


def test_a_failure_as_long_as_a_book_arrives(pool: Pool) -> None:
    with pytest.raises(ValueError, match=r"^x+$") as caught:
        pool.map(tasks.fail_at_length, [1 << 21])
    assert len(str(caught.value)) == 1 << 21


def test_what_the_input_raises_costs_the_chunk_that_was_being_pulled(pool: Pool) -> None:
    def items() -> Iterator[int]:
        yield from range(7)
        raise LookupError("no more")

    results = pool.imap(tasks.square, items(), chunksize=2)
    assert [next(results) for _ in range(6)] == [x * x for x in range(6)]
    with pytest.raises(LookupError, match="no more"):
        next(results)


def test_a_result_that_does_not_load_is_an_error(pool: Pool) -> None:
    with pytest.raises(corral.DecodeError, match="boom at load"):
        pool.apply(tasks.bad_result)


def test_an_exception_with_an_awkward_constructor_arrives(pool: Pool) -> None:
    with pytest.raises(tasks.Awkward) as caught:
        pool.apply(tasks.raise_awkward)
    assert (caught.value.one, caught.value.two) == (1, 2)


def test_stop_iteration_of_a_function_is_a_failure_not_an_end(pool: Pool) -> None:
    def stop(x: int) -> int:
        if x == 1:
            raise StopIteration
        return x

    with pytest.raises(StopIteration):
        pool.map(stop, [0, 1, 2], 3)


@pytest.mark.parametrize("size", [1 << 10, 1 << 20, 1 << 25])
def test_large_arguments_and_results(pool: Pool, size: int) -> None:
    data = os.urandom(1 << 10) * (size >> 10)
    assert pool.apply(tasks.identity, (data,)) == data


def test_a_killed_worker_costs_its_task_alone(fresh: Pool) -> None:
    doomed = fresh.apply_async(tasks.kill_self)
    others = [fresh.apply_async(tasks.square, (x,)) for x in range(50)]
    with pytest.raises(corral.WorkerLost, match="kill_self") as caught:
        doomed.get(30)
    assert caught.value.exitcode == -9
    assert [other.get(30) for other in others] == [x * x for x in range(50)]
    assert fresh.map(tasks.square, range(10)) == [x * x for x in range(10)]


@pytest.mark.parametrize(("task", "argument", "code"), [(tasks.leave, 7, 7), (tasks.raise_exit, 5, 5)])
def test_a_worker_that_exits_is_lost(fresh: Pool, task: Any, argument: int, code: int) -> None:
    with pytest.raises(corral.WorkerLost) as caught:
        fresh.apply(task, (argument,))
    assert caught.value.exitcode == code
    assert fresh.apply(tasks.square, (2,)) == 4


def test_a_death_in_a_map_ends_the_map_with_an_error(fresh: Pool) -> None:
    with pytest.raises(corral.WorkerLost):
        fresh.map(tasks.kill_self_on_three, range(20), 1)
    assert fresh.map(tasks.square, range(4)) == [0, 1, 4, 9]


def test_a_death_in_imap_costs_one_item(fresh: Pool) -> None:
    iterator = fresh.imap(tasks.kill_self_on_three, range(8), 1)
    outcomes: list[Any] = []
    for _ in range(8):
        try:
            outcomes.append(next(iterator))
        except corral.WorkerLost as error:
            outcomes.append(error.items)
    assert outcomes == [0, 1, 2, range(3, 4), 4, 5, 6, 7]


@pytest.mark.parametrize("method", METHODS)
def test_the_initializer_runs_in_every_worker(method: str) -> None:
    with Pool(2, tasks.remember, ("who", "me"), context=method) as pool:
        assert pool.map(tasks.recall, ["who"] * 20, 1) == ["me"] * 20


def test_an_initializer_that_fails_breaks_the_pool_once() -> None:
    with Pool(2, tasks.refuse) as pool:
        with pytest.raises(corral.PoolBroken, match="cannot start") as caught:
            pool.map(tasks.square, range(10))
        assert isinstance(caught.value.__cause__, RuntimeError)


def test_maxtasksperchild_replaces_workers() -> None:
    with Pool(1, maxtasksperchild=2) as pool:
        pids = pool.map(tasks.pid, range(6), 1)
    assert len(set(pids)) == 3
    assert [pids.count(one) for one in dict.fromkeys(pids)] == [2, 2, 2]


def test_close_and_join_finish_the_work(fresh: Pool) -> None:
    results = fresh.map_async(tasks.square, range(1000))
    lazy = fresh.imap(tasks.square, range(1000))
    fresh.close()
    fresh.join()
    assert results.get(0) == [x * x for x in range(1000)]
    assert list(lazy) == [x * x for x in range(1000)]


def test_a_closed_pool_takes_no_work(fresh: Pool) -> None:
    fresh.close()
    for attempt in (fresh.apply, fresh.apply_async):
        with pytest.raises(ValueError, match="not running"):
            attempt(tasks.square, (1,))
    for attempt in (fresh.map, fresh.imap, fresh.imap_unordered, fresh.map_async):
        with pytest.raises(ValueError, match="not running"):
            attempt(tasks.square, [1])


def test_join_of_a_running_pool_is_refused(fresh: Pool) -> None:
    with pytest.raises(ValueError, match="still running"):
        fresh.join()


def test_terminate_fails_what_was_not_done(fresh: Pool, tmp_path: Path) -> None:
    stuck = [fresh.apply_async(tasks.wait_for_file, (str(tmp_path / "never"),)) for _ in range(5)]
    fresh.terminate()
    fresh.join()
    for result in stuck:
        with pytest.raises(corral.PoolClosed):
            result.get(0)


def test_a_waiter_in_another_thread_is_told_of_terminate(fresh: Pool, tmp_path: Path) -> None:
    stuck = fresh.apply_async(tasks.wait_for_file, (str(tmp_path / "never"),))
    seen: list[BaseException] = []

    def wait() -> None:
        try:
            stuck.get()
        except corral.PoolClosed as error:
            seen.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    fresh.terminate()
    thread.join(30)
    assert len(seen) == 1


def test_many_threads_share_a_pool(fresh: Pool) -> None:
    sums: list[int] = []

    def work(start: int) -> None:
        sums.append(sum(fresh.apply(tasks.square, (x,)) for x in range(start, start + 50)))

    threads = [threading.Thread(target=work, args=(i * 50,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert sum(sums) == sum(x * x for x in range(400))


@pytest.mark.parametrize(
    "arguments", [{"processes": 0}, {"processes": -1}, {"maxtasksperchild": 0}, {"maxtasksperchild": 0.5}]
)
def test_bad_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Pool(**arguments)


def test_a_pool_cannot_be_pickled(fresh: Pool) -> None:
    import pickle

    with pytest.raises(NotImplementedError):
        pickle.dumps(fresh)


def test_an_initializer_that_is_not_callable_is_refused() -> None:
    with pytest.raises(TypeError):
        Pool(1, initializer=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunksize", [0, -1])
def test_bad_chunksizes_are_refused(fresh: Pool, chunksize: int) -> None:
    with pytest.raises(ValueError, match=r"[Cc]hunksize"):
        fresh.imap(tasks.square, [1], chunksize)


def test_a_long_task_does_not_hold_up_those_behind_it(fresh: Pool, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    long = fresh.apply_async(tasks.wait_for_file, (str(gate),))
    short = [fresh.apply_async(tasks.square, (x,)) for x in range(20)]
    assert [result.get(30) for result in short] == [x * x for x in range(20)]
    gate.touch()
    assert long.get(30) > 0
