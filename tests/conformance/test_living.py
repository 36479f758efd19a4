"""In one program objects and processes of corral and of `multiprocessing` meet."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import corral

if TYPE_CHECKING:
    from types import ModuleType

METHODS = ("fork", "forkserver", "spawn")
pytestmark = pytest.mark.slow


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of targets, importable by name in the children."""
    folder = str(Path(__file__).parent)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", folder)
    import world_targets

    return world_targets


def run(process: Any) -> None:
    process.start()
    process.join()
    assert process.exitcode == 0
    process.close()


# --- theirs in our processes ------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.leaks  # the standard library's resource tracker stays
def test_their_objects_go_with_our_process(method: str, targets: ModuleType) -> None:
    ours, theirs = corral.get_context(method), multiprocessing.get_context("spawn")
    there, back = theirs.Queue(), theirs.SimpleQueue()
    there.put(1)
    run(ours.Process(target=targets.exchange, args=(there, back)))
    assert back.get() == 2
    there.close()
    there.join_thread()
    one, other = theirs.Pipe()
    one.send("hello")
    process = ours.Process(target=targets.answer_on, args=(other,))
    process.start()
    assert one.recv() == ["hello", process.pid]
    process.join()
    lock, value = theirs.Lock(), theirs.Value("i", 0)
    children = [ours.Process(target=targets.add_under, args=(lock, value, 50)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert value.value == 100
    with theirs.Manager() as manager:
        mapping = manager.dict()
        run(ours.Process(target=targets.get_into, args=(mapping, "name"), name="Named"))
        assert mapping["name"] == "Named"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.leaks
def test_their_shared_memory_outlives_our_process(method: str, targets: ModuleType) -> None:
    segment = SharedMemory(create=True, size=10)
    ours = corral.get_context(method)
    try:
        for args in ((targets.write_segment, segment.name), (targets.write_given_segment, segment)):
            segment.buf[0] = 0
            run(ours.Process(target=args[0], args=args[1:]))
            assert segment.buf[0] == 7
        SharedMemory(segment.name).close()
    finally:
        segment.close()
        segment.unlink()


# --- ours in their processes ------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.leaks
def test_our_objects_go_with_their_process(method: str, targets: ModuleType) -> None:
    ours, theirs = corral.get_context("forkserver"), multiprocessing.get_context(method)
    one, other = ours.Pipe()
    one.send("hello")
    process = theirs.Process(target=targets.answer_on, args=(other,))
    process.start()
    assert one.recv() == ["hello", process.pid]
    process.join()
    lock, total = ours.Lock(), theirs.Value("i", 0, lock=False)
    children = [theirs.Process(target=targets.add_under, args=(lock, total, 50)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert total.value == 100
    with ours.Manager() as manager:
        mapping = manager.dict()
        run(theirs.Process(target=targets.get_into, args=(mapping, "name"), name="Named"))
        assert mapping["name"] == "Named"
    run(theirs.Process(target=targets.compare_locks, args=(ours.Lock(), ours.Lock(), ours.RLock())))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.leaks
def test_their_process_may_use_all_of_corral(method: str, targets: ModuleType, tmp_path: Path) -> None:
    path = str(tmp_path / "answer")
    run(multiprocessing.get_context(method).Process(target=targets.use_corral, args=(path,), name="Theirs"))
    told = json.loads(Path(path).read_text())
    assert told["current"] == ["Theirs", False]
    assert told["parent"] == os.getpid()
    assert told["pool"] == [0, 1, 4]
    assert told["key"] == multiprocessing.current_process().authkey.hex()
    assert Path(path + ".child").read_text() == '"joined"'


def kit(ctx: Any) -> dict[str, Any]:
    """One of each kind of object that is given to a process."""
    return {
        "queues": [ctx.Queue(), ctx.SimpleQueue(), ctx.JoinableQueue()],
        "values": [ctx.Value("i", 1), ctx.RawValue("i", 1)],
        "arrays": [ctx.Array("d", [1.0, 2.0]), ctx.RawArray("i", 2)],
        "locks": [getattr(ctx, name)() for name in ("Lock", "RLock", "Semaphore", "Condition")],
        "event": ctx.Event(),
        "barrier": ctx.Barrier(2),
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("direction", ["ours to theirs", "theirs to ours"])
@pytest.mark.leaks
def test_one_of_each_kind_goes_both_ways(method: str, direction: str, targets: ModuleType) -> None:
    worlds = corral.get_context(method), multiprocessing.get_context(method)
    giver, starter = worlds if direction == "ours to theirs" else reversed(worlds)
    # Values of both worlds, of one type, before anything is sent: a pickler has one reducer for it.
    kits = [kit(world) for world in (giver, starter, giver)]
    things = kits[0]
    child: Any = starter.Process(target=targets.use_all, kwargs=things)  # type: ignore[attr-defined]
    child.start()
    things["barrier"].wait(30)
    assert things["event"].wait(30)
    for queue in things["queues"]:
        assert queue.get() == child.pid
    child.join()
    assert child.exitcode == 0
    assert [value.value for value in things["values"]] == [2, 2]
    assert [list(array) for array in things["arrays"]] == [[9.0, 2.0], [9, 0]]


# --- who is who -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_everybody_tells_the_same_of_a_process(method: str, targets: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "answer"
    ctx = corral.get_context(method)
    process = ctx.Process(target=targets.tell_who, args=(str(path),), name="Some", daemon=True)
    run_pid = start_and_join(process)
    told = json.loads(path.read_text())
    key = corral.current_process().authkey.hex()
    assert told["ours"] == told["theirs"] == ["Some", run_pid, True, key]
    assert told["parent"] == ["MainProcess", os.getpid(), True]
    assert told["record"][1] == "Some"
    assert told["loaded"] is (method == "fork")


def start_and_join(process: Any) -> int:
    process.start()
    process.join()
    assert process.exitcode == 0
    return int(process.pid)


@pytest.mark.parametrize("method", METHODS)
def test_everybody_tells_the_same_of_a_worker(method: str, targets: ModuleType, tmp_path: Path) -> None:
    ctx = corral.get_context(method)
    key = corral.current_process().authkey.hex()
    with ctx.Pool(1) as pool, ctx.ProcessPoolExecutor(1) as executor:
        pool.apply(targets.tell_who, (str(tmp_path / "pool"),))
        executor.submit(targets.tell_who, str(tmp_path / "executor")).result()
    numbers = []
    for name, prefix, daemon in (("pool", "PoolWorker-", True), ("executor", "Process-", False)):
        told = json.loads((tmp_path / name).read_text())
        numbers.append(told["identity"][-1])
        assert told["ours"][2] is daemon
        assert prefix in told["ours"][0]
        assert told["ours"] == told["theirs"]
        assert told["ours"][3] == key
        assert told["parent"] == ["MainProcess", os.getpid(), True]
        assert told["record"][1] == told["ours"][0]
    assert numbers[1] == numbers[0] + 1


@pytest.mark.parametrize("first", ["corral.process", "multiprocessing"])
def test_the_key_is_one_whichever_module_was_first(first: str) -> None:
    code = (
        f"import {first}, corral\n"
        "key = bytes(corral.current_process().authkey)\n"
        "import multiprocessing as theirs\n"
        "assert theirs.current_process().authkey == key\n"
        "theirs.current_process().authkey = b'new'\n"
        "assert corral.current_process().authkey == b'new'\n"
        "corral.current_process().authkey = b'newer'\n"
        "assert theirs.current_process().authkey == b'newer'\n"
        "assert theirs.Process().authkey == corral.Process().authkey == b'newer'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_key_does_not_leave_by_a_pickle() -> None:
    import pickle

    with pytest.raises(TypeError, match="disallowed for security reasons"):
        pickle.dumps(corral.current_process().authkey)


def test_the_logger_of_a_child_is_set_as_the_parents(targets: ModuleType) -> None:
    code = (
        "import corral, sys, logging\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import world_targets\n"
        "corral.log_to_stderr(logging.INFO)\n"
        "for method in ('fork', 'forkserver', 'spawn'):\n"
        "    p = corral.get_context(method).Process(target=world_targets.say, name=method)\n"
        "    p.start(); p.join(); assert p.exitcode == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    for method in METHODS:
        assert f"[INFO/{method}] child process calling self.run()\n" in done.stderr
        assert done.stderr.count(f"[WARNING/{method}] said\n") == 1
    assert "[INFO/MainProcess] process shutting down" in done.stderr


@pytest.mark.parametrize("method", METHODS)
def test_a_child_ends_in_order(method: str, targets: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "said"
    run(corral.get_context(method).Process(target=targets.end_in_order, args=(str(path),)))
    assert path.read_text().split() == ["first", "second", "child", "last"]


# --- forks of the program's own ---------------------------------------------------------------------


def forked(call: Any) -> int:
    """Fork as a program does, call in the child, and return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = call()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("method", METHODS)
def test_a_fork_leaves_a_live_pool_to_the_parent(method: str, targets: ModuleType) -> None:
    ctx = corral.get_context(method)
    with ctx.Pool(2) as pool, ctx.ProcessPoolExecutor(1) as executor:
        assert pool.map(abs, [-1, 2]) == [1, 2]
        pending = pool.map_async(abs, range(100))
        future = executor.submit(abs, -5)

        def child() -> int:
            for use in (lambda: pool.map(abs, [1]), lambda: executor.submit(abs, 1)):
                with pytest.raises(RuntimeError):
                    use()
            with ctx.Pool(1) as own:
                return 7 if own.map(abs, [-3]) == [3] else 1

        assert forked(child) == 7
        assert pending.get(30) == list(range(100))
        assert future.result(30) == 5
        assert pool.map(abs, [-1, 2]) == [1, 2]


def test_a_fork_shares_what_is_to_be_shared() -> None:
    ctx = corral.get_context("forkserver")
    one, other = ctx.Pipe()
    lock, queue, value = ctx.Lock(), ctx.Queue(), ctx.Value("i", 1)
    queue.put("before")

    def child() -> int:
        with lock:
            other.send(other.recv() + 1)
            value.value += 1
        queue.put(queue.get() + " and after")
        return 0

    one.send(1)
    assert forked(child) == 0
    assert one.recv() == 2
    assert queue.get(timeout=30) == "before and after"
    assert value.value == 2
    queue.put("still")
    assert queue.get() == "still"
    with lock:
        one.send(5)
    assert other.recv() == 5


def test_a_forked_process_has_its_own_line_to_a_manager() -> None:
    with corral.Manager() as manager:
        values = manager.list([1])
        assert len(values) == 1

        def child() -> int:
            for number in range(50):
                values.append(number)
            return len(values) > 50

        assert forked(child) == 1
        values.append("parent")
        assert len(values) == 52


def test_a_fork_while_threads_hold_our_locks_does_not_hang() -> None:
    ctx = corral.get_context("forkserver")
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            corral.current_process()
            with ctx.Pool(1) as pool:
                pool.apply(abs, (-1,))

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):

            def child() -> int:
                process = ctx.Process(target=abs, args=(1,))
                process.start()
                process.join()
                return int(process.exitcode or 0)

            assert forked(child) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("method", METHODS)
def test_a_task_that_forks_and_returns_twice_is_answered_once(method: str, targets: ModuleType) -> None:
    with corral.get_context(method).Pool(1) as pool:
        assert pool.map(targets.fork_and_return, range(5), chunksize=1) == list(range(5))
        assert pool.apply(abs, (-1,)) == 1
        pool.close()
        pool.join()


@pytest.mark.parametrize("method", METHODS)
def test_a_process_that_forks_and_returns_twice_ends(method: str, targets: ModuleType) -> None:
    run(corral.get_context(method).Process(target=targets.fork_and_return, args=(1,)))


@pytest.mark.parametrize("method", METHODS)
def test_everything_may_be_used_in_a_thread(method: str, targets: ModuleType) -> None:
    failures: list[BaseException] = []

    def use() -> None:
        try:
            ctx = corral.get_context(method)
            with ctx.Manager() as manager:
                mapping = manager.dict()
                run(ctx.Process(target=targets.get_into, args=(mapping, "x"), name="Thread's"))
                assert mapping["x"] == "Thread's"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
