"""corral's queues are those of `multiprocessing`, whatever the start method."""

from __future__ import annotations

import gc
import os
import pickle
import queue as standard
import select
import selectors
import signal
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import corral
from corral import context, queues
from corral.errors import ChannelClosed, DecodeError, EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

METHODS = ("fork", "forkserver", "spawn")


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of targets, importable by name in the children."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import queue_targets

    return queue_targets


@pytest.fixture(params=METHODS)
def ctx(request: pytest.FixtureRequest) -> context.BaseContext:
    return context.get_context(request.param)


@pytest.fixture(params=[queues.Queue, queues.JoinableQueue, queues.SimpleQueue])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


# --- between processes --------------------------------------------------------------------------------


def test_everything_that_can_be_pickled_goes_there_and_back(
    ctx: context.BaseContext, targets: ModuleType
) -> None:
    there, back = ctx.Queue(), ctx.SimpleQueue()
    process = ctx.Process(target=targets.echo, args=(there, back))
    process.start()
    values = [
        0,
        -1,
        2**80,
        1.5,
        "text",
        b"",
        b"x" * 2000,
        b"y" * 300_000,
        True,
        (1, (2,)),
        [1, {"a": {2}}],
        range(3),
    ]
    for value in values:
        there.put(value)
        assert back.get() == (type(value).__name__, value)
    there.put(lambda: "called")
    assert back.get()[1]() == "called"
    there.put(None)
    process.join()
    assert process.exitcode == 0


def test_items_of_several_producers_come_each_in_order_and_none_is_lost(
    ctx: context.BaseContext, targets: ModuleType
) -> None:
    queue = ctx.Queue(50)
    processes = [ctx.Process(target=targets.produce, args=(queue, name, 300)) for name in "ab"]
    for process in processes:
        process.start()
    items = [queue.get() for _ in range(600)]
    for name in "ab":
        assert [number for which, number in items if which == name] == list(range(300))
    for process in processes:
        process.join()
    assert queue.empty()


def test_a_process_can_be_joined_before_its_items_are_got(
    ctx: context.BaseContext, targets: ModuleType
) -> None:
    queue = ctx.Queue()
    process = ctx.Process(target=targets.fill_and_exit_hard, args=(queue, 40, 100_000))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert queue.qsize() == 40
    assert [queue.get() for _ in range(40)] == [(number, b"x" * 100_000) for number in range(40)]


def test_join_waits_until_all_items_are_done(ctx: context.BaseContext, targets: ModuleType) -> None:
    queue = ctx.JoinableQueue()
    processes = [ctx.Process(target=targets.work_off, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    queue.put_many(range(200))
    queue.join()
    assert queue.empty()
    queue.put_many([None, None])
    queue.join()
    for process in processes:
        process.join()
    with pytest.raises(ValueError, match="too many times"):
        queue.task_done()


def test_join_does_not_wait_for_the_dead_but_for_those_who_have_left(
    ctx: context.BaseContext, targets: ModuleType
) -> None:
    queue, told = ctx.JoinableQueue(), ctx.SimpleQueue()
    queue.put_many([1, 2])
    victim = ctx.Process(target=targets.take_one_and_wait, args=(queue, told))
    victim.start()
    told.get()
    leaver = ctx.Process(target=targets.take_one, args=(queue,))
    leaver.start()
    leaver.join()
    victim.kill()
    victim.join()
    waiter = threading.Thread(target=queue.join)
    waiter.start()
    waiter.join(0.3)
    assert waiter.is_alive(), "of the one that has left in good order, somebody else may be in charge"
    queue.task_done()
    waiter.join()


def test_iteration_ends_when_the_queue_is_shut_down_and_empty(
    ctx: context.BaseContext, targets: ModuleType
) -> None:
    queue, answer = ctx.Queue(), ctx.SimpleQueue()
    process = ctx.Process(target=targets.sum_up, args=(queue, answer))
    process.start()
    queue.put_many(range(100))
    queue.shutdown()
    assert answer.get() == sum(range(100))
    process.join()
    with pytest.raises(ChannelClosed):
        queue.put(1)
    with pytest.raises(ChannelClosed):
        queue.get()


def test_a_queue_is_pickled_only_for_a_child(ctx: context.BaseContext, targets: ModuleType) -> None:
    queue, answer = ctx.Queue(), ctx.SimpleQueue()
    with pytest.raises(RuntimeError, match="Queue objects should only be shared between processes"):
        pickle.dumps(queue)
    process = ctx.Process(target=targets.try_to_pickle, args=(queue, answer))
    process.start()
    assert "only be shared between processes through inheritance" in answer.get()
    process.join()


def test_arrays_arrive_as_the_receivers_own_memory(ctx: context.BaseContext, targets: ModuleType) -> None:
    numpy = pytest.importorskip("numpy")
    there, back = ctx.Queue(), ctx.Queue()
    process = ctx.Process(target=targets.double_arrays, args=(there, back))
    process.start()
    array = numpy.arange(100_000)
    there.put(array)
    doubled = back.get()
    assert (doubled == 2 * array).all()
    doubled += 1
    assert (array == numpy.arange(100_000)).all()
    there.put(None)
    process.join()


@pytest.mark.leaks("the standard library's resource tracker stays")
def test_a_queue_goes_to_a_process_of_the_standard_library_and_is_its_equal(targets: ModuleType) -> None:
    import multiprocessing

    there, back = corral.Queue(), corral.Queue()
    process = multiprocessing.get_context("spawn").Process(target=targets.echo, args=(there, back))
    process.start()
    there.put(7)
    there.put(None)
    assert back.get() == ("int", 7)
    process.join()


@pytest.mark.slow
def test_a_pool_gets_its_queue_by_the_initializer(ctx: context.BaseContext, targets: ModuleType) -> None:
    queue = ctx.Queue()
    with ctx.Pool(2, initializer=targets.produce, initargs=(queue, "worker", 3)) as pool:
        pool.map(abs, range(4))
        items = [queue.get() for _ in range(6)]
    assert sorted(items) == sorted([("worker", number) for number in range(3)] * 2)


# --- times and bounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [(False,), (False, None), (False, 5), (True, 0), (True, 0.01), (True, -1)]
)
def test_nothing_in_time_is_empty(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(standard.Empty):
        queues.Queue().get(*arguments)


@pytest.mark.parametrize("arguments", [(False,), (False, None), (False, 5), (True, 0), (True, 0.01)])
def test_no_room_in_time_is_full(arguments: tuple[Any, ...]) -> None:
    queue = queues.Queue(1)
    queue.put("one")
    assert queue.full()
    with pytest.raises(standard.Full):
        queue.put("two", *arguments)
    assert queue.qsize() == 1
    assert queue.get() == "one"
    queue.put("two", *arguments)


def test_the_short_forms_do_not_wait() -> None:
    queue = queues.Queue(maxsize=1)
    with pytest.raises(standard.Empty):
        queue.get_nowait()
    queue.put_nowait(1)
    with pytest.raises(standard.Full):
        queue.put_nowait(2)
    assert queue.get_nowait() == 1


def test_a_timeout_is_kept() -> None:
    began = time.monotonic()
    with pytest.raises(standard.Empty):
        queues.Queue().get(timeout=0.05)
    assert time.monotonic() - began >= 0.05


def test_room_lets_a_waiting_put_go_on() -> None:
    queue = queues.Queue(1)
    queue.put(1)
    waiter = threading.Thread(target=queue.put, args=(2,))
    waiter.start()
    assert queue.get() == 1
    assert queue.get() == 2
    waiter.join()


def test_a_bound_in_bytes_holds_back_until_there_is_room() -> None:
    queue = queues.Queue(capacity_bytes=10_000)
    while True:
        try:
            queue.put(b"x" * 1000, block=False)
        except standard.Full:
            break
    assert 8 <= queue.qsize() <= 10
    queue.get()
    queue.put(b"x" * 1000, block=False)
    alone = queues.Queue(capacity_bytes=10)
    alone.put(b"larger than the bound", block=False)
    assert alone.full()
    assert alone.get() == b"larger than the bound"


def test_the_size_is_exact() -> None:
    queue = queues.Queue()
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)
    for number in range(5000):
        queue.put(number)
    assert (queue.qsize(), queue.empty()) == (5000, False)
    assert [queue.get() for _ in range(5000)] == list(range(5000))
    assert queue.empty()


# --- many at once -------------------------------------------------------------------------------------


def test_many_go_at_once() -> None:
    queue = queues.Queue()
    items = [1, "two", b"3" * 5000, [4], b"5" * 100_000, None]
    queue.put_many(items)
    assert queue.get_many(2) == items[:2]
    assert queue.get_many() == items[2:]
    with pytest.raises(standard.Empty):
        queue.get_many(timeout=0)
    with pytest.raises(ValueError, match="positive"):
        queue.get_many(0)


def test_many_that_have_no_room_say_how_many_had() -> None:
    queue = queues.Queue(3)
    with pytest.raises(standard.Full) as caught:
        queue.put_many([b"x" * 10_000] * 5, timeout=0.01)
    assert caught.value.args == (3,)
    assert len(queue.get_many()) == 3
    assert queue._heap.stats()["blocks_used"] == 2, "the queue's own, and its segment"


def test_none_of_many_is_put_if_one_cannot_be_pickled(targets: ModuleType) -> None:
    queue = queues.Queue()
    with pytest.raises(EncodeError):
        queue.put_many([1, targets.Unpicklable(), 2])
    assert queue.empty()


def test_one_that_cannot_be_rebuilt_does_not_cost_the_others(targets: ModuleType) -> None:
    queue = queues.Queue()
    queue.put_many([1, targets.Unrebuildable(), 2])
    with pytest.raises(DecodeError, match="not here") as caught:
        queue.get_many()
    assert caught.value.items == [1, 2]  # type: ignore[attr-defined]


# --- failures -----------------------------------------------------------------------------------------


def test_what_cannot_be_pickled_is_refused_where_it_is_put(kind: Any, targets: ModuleType) -> None:
    queue = kind()
    with pytest.raises(EncodeError, match="not me"):
        queue.put(targets.Unpicklable())
    assert queue.empty()
    queue.put(1)
    assert queue.get() == 1


def test_who_overrides_the_feeders_hook_hears_of_it_there_and_gets_no_exception(targets: ModuleType) -> None:
    heard = []

    class Hooked(queues.Queue):
        @staticmethod
        def _on_queue_feeder_error(error: BaseException, obj: object) -> None:
            heard.append((type(error), type(obj)))

    queue = Hooked()
    queue.put(targets.Unpicklable())
    assert heard == [(AttributeError, targets.Unpicklable)]
    assert queue.empty()


def test_an_item_that_cannot_be_rebuilt_is_gone_and_the_next_one_comes(
    kind: Any, targets: ModuleType
) -> None:
    queue = kind()
    queue.put(targets.Unrebuildable())
    queue.put("next")
    with pytest.raises(ValueError, match="not here"):
        queue.get()
    assert queue.get() == "next"


def test_a_closed_queue_is_closed_here(kind: Any) -> None:
    queue = kind()
    queue.put(1)
    queue.close()
    queue.close()
    for call in (lambda: queue.put(2), queue.get):
        with pytest.raises(ValueError, match="is closed"):
            call()
    with pytest.raises(OSError, match="is closed"):
        queue.empty()
    assert queue._reader.closed
    assert queue._writer.closed


def test_threads_to_join_there_are_none() -> None:
    queue = queues.Queue()
    queue.put(1)
    queue.cancel_join_thread()
    with pytest.raises(AssertionError, match="not closed"):
        queue.join_thread()
    queue.close()
    queue.join_thread()


def test_a_signals_handler_runs_while_get_waits_and_its_exception_ends_it() -> None:
    def interrupt(*_: object) -> None:
        raise InterruptedError("by the handler")

    queue = queues.Queue()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(InterruptedError, match="by the handler"):
            queue.get()
    finally:
        signal.signal(signal.SIGALRM, before)
    queue.put(1)
    assert queue.get() == 1


def test_nothing_of_a_queue_stays(kind: Any) -> None:
    queue = kind()
    queue.put([b"x" * 100_000])
    gone = weakref.ref(queue)
    del queue
    assert gone() is None, "no cycle keeps it"


# --- waiting for several ------------------------------------------------------------------------------


def is_readable(queue: Any) -> bool:
    return bool(select.select([queue], [], [], 0)[0])


def test_its_descriptor_is_readable_exactly_while_there_are_items(kind: Any) -> None:
    queue = kind()
    queue.put(1)
    assert is_readable(queue)
    queue.put(2)
    queue.get()
    assert is_readable(queue)
    queue.get()
    assert not is_readable(queue)
    queue.put(3)
    assert is_readable(queue._reader)
    assert queue._reader.poll()
    queue.get()
    assert not queue._reader.poll(0.001)


def test_a_selector_hears_of_an_item_from_another_process(
    ctx: context.BaseContext, targets: ModuleType
) -> None:
    queue = ctx.Queue()
    process = ctx.Process(target=targets.produce, args=(queue, "a", 2))
    with selectors.DefaultSelector() as selector:
        selector.register(queue, selectors.EVENT_READ)
        process.start()
        for number in range(2):
            assert selector.select(30)
            assert queue.get() == ("a", number)
        assert selector.select(0) == []
    process.join()


def test_the_end_of_a_queue_can_be_waited_for() -> None:
    queue = queues.Queue()
    assert not is_readable(queue)
    queue.shutdown()
    assert is_readable(queue)


def test_connection_wait_takes_queues_and_their_readers() -> None:
    from corral import connection

    one, other = queues.Queue(), queues.SimpleQueue()
    assert connection.wait([one, other._reader], 0) == []
    other.put(1)
    assert [thing is one for thing in connection.wait([one, other._reader], 5)] == [False]
    one.put(1)
    assert connection.wait([one], 5) == [one]


def test_an_event_loop_hears_of_items() -> None:
    import asyncio

    queue = queues.Queue()

    async def hear() -> int:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(queue, heard.set)
        putter = threading.Thread(target=queue.put, args=(7,))
        putter.start()
        await heard.wait()
        loop.remove_reader(queue)
        putter.join()
        return queue.get(False)

    assert asyncio.run(hear()) == 7


def test_a_derived_class_may_wrap_the_ends() -> None:
    class Wrapped(queues.Queue):
        def __init__(self) -> None:
            super().__init__(ctx=corral.get_context())
            self._reader = (self._reader,)
            self._writer = (self._writer,)

    queue = Wrapped()
    queue.put(1)
    assert queue._reader[0].poll()
    assert queue.get() == 1
    with pytest.raises(AttributeError, match="no attribute 'rubbish'"):
        queue.rubbish  # noqa: B018 - looking is the test


def test_the_exceptions_are_found_beside_the_queues() -> None:
    assert (queues.Empty, queues.Full) == (standard.Empty, standard.Full)
    with pytest.raises(AttributeError, match="rubbish"):
        queues.rubbish  # noqa: B018 - looking is the test


# --- threads and forks --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fork_while_other_threads_put_and_get_works_in_the_child() -> None:
    queue, answers, stop = queues.Queue(100), queues.SimpleQueue(), threading.Event()

    def put() -> None:
        while not stop.is_set():
            queue.put("x" * 50)

    def get() -> None:
        while not stop.is_set():
            queue.get()

    threads = [threading.Thread(target=call) for call in (put, get, put, get)]
    for thread in threads:
        thread.start()
    for number in range(10):
        pid = os.fork()
        if pid == 0:
            queue.put("child")
            queue.get()
            answers.put(number)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert answers.get() == number
    stop.set()
    release(queue, threads)


def release(queue: Any, threads: list[threading.Thread]) -> None:
    """Let threads that wait for room or for an item see that it is over."""
    while any(thread.is_alive() for thread in threads):
        for call in (lambda: queue.put("y", False), lambda: queue.get(False)):
            try:
                call()
            except (standard.Full, standard.Empty):
                continue
        threads[0].join(0.001)


def test_a_finalizer_may_use_the_queue_that_triggered_it() -> None:
    queue = queues.Queue()

    class Cyclic:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            queue.put("from the finalizer")

    Cyclic()
    gc.collect()
    assert queue.get() == "from the finalizer"


@pytest.mark.parametrize("make", [corral.Queue, corral.JoinableQueue, corral.SimpleQueue])
def test_the_module_offers_them(make: Callable[[], Any]) -> None:
    queue = make()
    queue.put(1)
    assert queue.get() == 1
