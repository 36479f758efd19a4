"""`corral.ProcessPoolExecutor` does what `concurrent.futures` documents, with each start method."""

from __future__ import annotations

import asyncio
import concurrent.futures
import operator
import threading
import time
import weakref
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import tasks

import corral
from corral.futures import ProcessPoolExecutor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METHODS = ["forkserver", "fork", "spawn"]


@pytest.fixture(params=METHODS, scope="module")
def executor(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=request.param) as made:
        # All workers, now: they would else be taken for what the first test leaves behind.
        for future in [made.submit(time.sleep, 0.05) for _ in range(2)]:
            future.result()
        yield made


@pytest.fixture
def fresh() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2) as made:
        yield made


def test_submit_returns_a_real_future(executor: ProcessPoolExecutor) -> None:
    future = executor.submit(tasks.add, 1, y=2, z=3)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(30) == 6
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert future.exception() is None


def test_the_executor_is_an_executor(executor: ProcessPoolExecutor) -> None:
    assert isinstance(executor, concurrent.futures.Executor)


def test_an_exception_is_the_futures(executor: ProcessPoolExecutor) -> None:
    future = executor.submit(tasks.fail, 4)
    assert isinstance(future.exception(30), ValueError)
    with pytest.raises(ValueError, match="no 4") as caught:
        future.result()
    assert "in fail" in str(caught.value.__cause__)


def test_a_lambda_is_taken(executor: ProcessPoolExecutor) -> None:
    k = 10
    assert executor.submit(lambda x: x + k, 1).result(30) == 11


@pytest.mark.parametrize(
    "arguments", [{}, {"chunksize": 7}, {"buffersize": 5}, {"chunksize": 3, "buffersize": 10}]
)
def test_map_keeps_the_order(executor: ProcessPoolExecutor, arguments: dict[str, int]) -> None:
    assert list(executor.map(tasks.square, range(200), **arguments)) == [x * x for x in range(200)]


def test_map_over_several_iterables_stops_with_the_shortest(executor: ProcessPoolExecutor) -> None:
    assert list(executor.map(pow, range(10), [2] * 5)) == [0, 1, 4, 9, 16]


def test_map_of_nothing(executor: ProcessPoolExecutor) -> None:
    assert list(executor.map(tasks.square, [])) == []
    assert list(executor.map(tasks.square)) == []


def test_map_runs_without_being_iterated(executor: ProcessPoolExecutor, tmp_path: Path) -> None:
    iterator = executor.map(tasks.mark_and_wait, [str(tmp_path / "mark")], [str(tmp_path / "gate")])
    tasks.wait_for_file(str(tmp_path / "mark"))
    (tmp_path / "gate").touch()
    assert len(list(iterator)) == 1


def test_map_takes_its_input_at_once(executor: ProcessPoolExecutor) -> None:
    items = list(range(5000))
    results = executor.map(tasks.square, items)
    items.clear()
    assert list(results) == [x * x for x in range(5000)]


def test_map_raises_and_ends_at_the_first_failure(executor: ProcessPoolExecutor) -> None:
    iterator = executor.map(tasks.fail_on_three, range(10))
    assert [next(iterator) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_map_with_timeout(executor: ProcessPoolExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    iterator = executor.map(tasks.wait_for_file, [str(gate)], timeout=0.01)
    with pytest.raises(TimeoutError):
        next(iterator)
    gate.touch()


def test_map_with_buffersize_pulls_lazily(executor: ProcessPoolExecutor) -> None:
    pulled = 0

    def endless() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    iterator = executor.map(tasks.square, endless(), buffersize=4)
    assert [next(iterator) for _ in range(20)] == [x * x for x in range(1, 21)]
    assert pulled <= 20 + 4 + 1


@pytest.mark.parametrize(("name", "value"), [("chunksize", 0), ("buffersize", 0), ("buffersize", -1)])
def test_bad_sizes_are_refused(executor: ProcessPoolExecutor, name: str, value: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        executor.map(tasks.square, [1], **{name: value})


def test_as_completed_and_wait(executor: ProcessPoolExecutor) -> None:
    futures = {executor.submit(tasks.square, x): x for x in range(50)}
    for future in corral.as_completed(futures, timeout=30):
        assert future.result() == futures[future] ** 2
    done, not_done = corral.wait(futures, timeout=30)
    assert (len(done), len(not_done)) == (50, 0)


def test_wait_for_the_first(executor: ProcessPoolExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow = executor.submit(tasks.wait_for_file, str(gate))
    quick = executor.submit(tasks.square, 3)
    done, not_done = corral.wait([slow, quick], 30, return_when=corral.futures.FIRST_COMPLETED)
    assert quick in done
    assert slow in not_done
    gate.touch()
    assert slow.result(30) > 0


def test_asyncio_awaits_it(executor: ProcessPoolExecutor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(
            *(loop.run_in_executor(executor, tasks.square, x) for x in range(20)),
            asyncio.wrap_future(executor.submit(tasks.square, 20)),
        )

    assert asyncio.run(main()) == [x * x for x in range(21)]


def test_callbacks_run_once_in_order(executor: ProcessPoolExecutor) -> None:
    from queue import SimpleQueue

    heard: SimpleQueue[tuple[str, int]] = SimpleQueue()
    future = executor.submit(tasks.square, 3)
    future.add_done_callback(lambda f: heard.put(("first", f.result())))
    future.add_done_callback(lambda f: heard.put(("second", f.result())))
    assert [heard.get(timeout=30) for _ in range(2)] == [("first", 9), ("second", 9)]
    future.add_done_callback(lambda f: heard.put(("at once", f.result())))
    assert heard.get_nowait() == ("at once", 9)


def test_a_queued_task_can_be_cancelled_and_a_running_one_cannot(
    executor: ProcessPoolExecutor, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    marks = [str(tmp_path / f"mark{i}") for i in range(2)]
    running = [executor.submit(tasks.mark_and_wait, mark, str(gate)) for mark in marks]
    for mark in marks:
        tasks.wait_for_file(mark)
    queued = [executor.submit(tasks.square, x) for x in range(100)]
    assert all(future.running() for future in running)
    assert not any(future.cancel() for future in running)
    assert not any(future.running() for future in queued)
    assert all(future.cancel() for future in queued)
    assert all(future.cancelled() and future.done() for future in queued)
    with pytest.raises(concurrent.futures.CancelledError):
        queued[0].result(0)
    gate.touch()
    assert all(future.result(30) > 0 for future in running)
    done, _ = corral.wait([*running, *queued], 30)
    assert len(done) == 102


def test_tasks_that_need_each_other_run_at_once_after_many_short_ones(
    fresh: ProcessPoolExecutor, tmp_path: Path
) -> None:
    for future in [fresh.submit(pow, x, 1) for x in range(2000)]:
        future.result(30)
    gate = tmp_path / "gate"
    marks = [str(tmp_path / f"mark{i}") for i in range(2)]
    running = [fresh.submit(tasks.mark_and_wait, mark, str(gate)) for mark in marks]
    for mark in marks:
        tasks.wait_for_file(mark)
    gate.touch()
    assert all(future.result(30) > 0 for future in running)


def test_result_with_timeout(executor: ProcessPoolExecutor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    future = executor.submit(tasks.wait_for_file, str(gate))
    with pytest.raises(TimeoutError):
        future.result(0.01)
    with pytest.raises(TimeoutError):
        future.exception(0.01)
    gate.touch()
    assert future.result(30) > 0


def test_what_cannot_be_pickled_is_the_futures_exception(executor: ProcessPoolExecutor) -> None:
    future = executor.submit(tasks.identity, threading.Lock())
    assert future.done()
    with pytest.raises(corral.EncodeError, match="lock"):
        future.result()
    assert isinstance(executor.submit(threading.Lock().acquire).exception(), corral.EncodeError)


def test_system_exit_is_the_futures_exception(executor: ProcessPoolExecutor) -> None:
    assert isinstance(executor.submit(tasks.raise_exit, 3).exception(30), SystemExit)


def test_a_killed_worker_costs_its_task_alone(fresh: ProcessPoolExecutor) -> None:
    doomed = fresh.submit(tasks.kill_self)
    others = [fresh.submit(tasks.square, x) for x in range(50)]
    with pytest.raises(BrokenProcessPool) as caught:
        doomed.result(30)
    assert isinstance(caught.value, corral.WorkerLost)
    assert [other.result(30) for other in others] == [x * x for x in range(50)]


def test_an_initializer_that_fails_breaks_the_executor() -> None:
    with ProcessPoolExecutor(2, initializer=tasks.refuse) as executor:
        future = executor.submit(tasks.square, 2)
        with pytest.raises(BrokenProcessPool, match="cannot start"):
            future.result(30)
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.square, 2)


def test_what_an_initializer_raises_is_logged_in_the_worker(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with ProcessPoolExecutor(1, initializer=tasks.listen_and_refuse, initargs=(str(log),)) as executor:
        assert isinstance(executor.submit(tasks.square, 1).exception(30), BrokenProcessPool)
    assert "RuntimeError: cannot start" in log.read_text()


def test_workers_start_as_work_comes() -> None:
    with ProcessPoolExecutor(4) as executor:
        assert len(executor._processes) == 0
        executor.submit(tasks.square, 1).result(30)
        assert len(executor._processes) == 1


def test_map_keeps_nothing_of_what_it_has_handed_out(executor: ProcessPoolExecutor) -> None:
    for chunksize in (1, 4, None):
        for value in executor.map(tasks.weighty, range(8), chunksize=chunksize):
            seen = weakref.ref(value)
            del value
            assert seen() is None


def test_a_result_that_does_not_load_looks_like_a_broken_pool(executor: ProcessPoolExecutor) -> None:
    error = executor.submit(tasks.bad_result).exception(30)
    assert isinstance(error, corral.DecodeError)
    assert isinstance(error, BrokenProcessPool)
    assert executor.submit(tasks.square, 2).result(30) == 4


def test_workers_that_are_replaced_are_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.context._default_context._actual_context", corral.get_context("fork"))
    with ProcessPoolExecutor(1, max_tasks_per_child=1) as executor:
        assert executor._mp_context.get_start_method() == "spawn"


def test_max_tasks_per_child() -> None:
    with ProcessPoolExecutor(1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(tasks.pid).result(30) for _ in range(6)]
    assert len(set(pids)) == 3


def test_shutdown_waits_for_what_was_submitted() -> None:
    executor = ProcessPoolExecutor(2)
    futures = [executor.submit(tasks.square, x) for x in range(100)]
    executor.shutdown()
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(tasks.square, 1)
    executor.shutdown()


def test_shutdown_without_wait_lets_the_work_finish() -> None:
    executor = ProcessPoolExecutor(2)
    futures = [executor.submit(tasks.square, x) for x in range(100)]
    executor.shutdown(wait=False)
    assert [future.result(30) for future in futures] == [x * x for x in range(100)]


def test_shutdown_can_cancel_what_is_queued(tmp_path: Path) -> None:
    executor = ProcessPoolExecutor(1)
    gate, mark = tmp_path / "gate", tmp_path / "mark"
    running = executor.submit(tasks.mark_and_wait, str(mark), str(gate))
    tasks.wait_for_file(str(mark))
    queued = [executor.submit(tasks.square, x) for x in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    gate.touch()
    assert running.result(30) > 0


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
def test_the_workers_can_be_stopped(how: str, tmp_path: Path) -> None:
    executor = ProcessPoolExecutor(2)
    futures = [executor.submit(tasks.wait_for_file, str(tmp_path / "never")) for _ in range(5)]
    operator.methodcaller(how)(executor)
    assert all(isinstance(future.exception(30), BrokenProcessPool) for future in futures)
    with pytest.raises(BrokenProcessPool):
        executor.submit(tasks.square, 1)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"max_workers": 0}, ValueError),
        ({"max_workers": -1}, ValueError),
        ({"initializer": 1}, TypeError),
        ({"max_tasks_per_child": 0}, ValueError),
        ({"max_tasks_per_child": 2.5}, TypeError),
        ({"max_tasks_per_child": 1, "mp_context": "fork"}, ValueError),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ProcessPoolExecutor(**arguments)


def test_futures_are_waited_for_by_many_threads(fresh: ProcessPoolExecutor) -> None:
    futures = [fresh.submit(tasks.square, x) for x in range(400)]
    sums: list[int] = []
    threads = [
        threading.Thread(target=lambda part=part: sums.append(sum(f.result(30) for f in futures[part::4])))
        for part in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert sum(sums) == sum(x * x for x in range(400))


def test_a_forgotten_executor_ends_by_itself() -> None:
    future = ProcessPoolExecutor(1).submit(tasks.square, 4)
    assert future.result(30) == 16
