"""`corral.Process` is `multiprocessing.Process`, whatever the start method."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from corral import context
from corral.process import BaseProcess, active_children, current_process, parent_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

METHODS = ("fork", "forkserver", "spawn")


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of targets, importable by name in the children."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import process_targets

    return process_targets


@pytest.fixture(params=METHODS)
def ctx(request: pytest.FixtureRequest) -> context.BaseContext:
    return context.get_context(request.param)


class Answer:
    """The path of a file that a child writes, and what it has written."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "answer")

    def __call__(self) -> object:
        return json.loads(Path(self.path).read_text())


@pytest.fixture
def answer(tmp_path: Path) -> Answer:
    return Answer(tmp_path)


@pytest.fixture
def running(ctx: context.BaseContext, targets: ModuleType, tmp_path: Path) -> Iterator[BaseProcess]:
    """A process that runs until it is ended."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = ctx.Process(target=targets.block, args=(str(fifo),), daemon=True)
    process.start()
    assert fifo.read_text() == "!"
    yield process
    if not process._closed:
        process.kill()
        process.join()
        process.close()


def run(process: BaseProcess) -> int | None:
    process.start()
    process.join()
    return process.exitcode


def test_the_main_process_knows_itself() -> None:
    me = current_process()
    assert me.name == "MainProcess"
    assert me.is_alive()
    assert not me.daemon
    assert me.ident == me.pid == os.getpid()
    assert me.exitcode is None
    assert isinstance(me.authkey, bytes)
    assert len(me.authkey) > 0
    assert parent_process() is None
    assert repr(me) == "<_MainProcess name='MainProcess' parent=None started>"
    me.close()
    assert me.is_alive()


def test_arguments_name_and_key_arrive(ctx: context.BaseContext, targets: ModuleType, answer: Answer) -> None:
    kwargs = {"hello": 23, "bye": 2.54}
    process = ctx.Process(
        target=targets.tell_arguments, args=[answer.path, 1, "two"], kwargs=kwargs, name="Some"
    )
    assert process.authkey == current_process().authkey
    assert run(process) == 0
    key = current_process().authkey.hex()
    pid = process.pid
    assert answer() == [[1, "two"], kwargs, "Some", pid, pid, key, False, True]


def test_the_parent_is_known(ctx: context.BaseContext, targets: ModuleType, answer: Answer) -> None:
    assert run(ctx.Process(target=targets.tell_parent, args=(answer.path,))) == 0
    assert answer() == [os.getpid(), "MainProcess", True]


def test_the_standard_librarys_module_is_told_where_it_is_loaded(targets: ModuleType, answer: Answer) -> None:
    import multiprocessing

    multiprocessing.current_process()
    ctx = context.get_context("fork")
    process = ctx.Process(target=targets.tell_multiprocessing, args=(answer.path,), name="Told")
    assert run(process) == 0
    assert answer() == ["Told", process.pid, os.getpid()]


def test_a_subclass_runs_its_run(ctx: context.BaseContext, targets: ModuleType, answer: Answer) -> None:
    class_of_context = type("Speaker", (targets.Speaker, ctx.Process), {"__module__": "process_targets"})
    if ctx.get_start_method() != "fork":
        # By name, in the child, this is the class of the module.
        class_of_context = targets.Speaker
    process = class_of_context(answer.path, "word")
    assert run(process) == 0
    assert answer() == ["word", process.name, "Speaker"]


def test_methods_callables_lambdas_and_closures_are_targets(
    ctx: context.BaseContext, targets: ModuleType, answer: Answer, tmp_path: Path
) -> None:
    path = answer.path
    for target, args, expected in (
        (targets.Greeter("bound").greet, (path,), "bound"),
        (targets.Greeter("me"), (path,), "called me"),
        (lambda place: Path(place).write_text('"lambda"'), (path,), "lambda"),
        (lambda: Path(path).write_text('"closure"'), (), "closure"),
    ):
        assert run(ctx.Process(target=target, args=args)) == 0
        assert answer() == expected


def test_before_the_start(ctx: context.BaseContext) -> None:
    process = ctx.Process()
    assert not process.is_alive()
    assert process.exitcode is None
    assert process.pid is None
    assert process.ident is None
    assert process not in active_children()
    with pytest.raises(ValueError, match="process not started"):
        _ = process.sentinel
    with pytest.raises(AssertionError, match="can only join a started process"):
        process.join()
    with pytest.raises(AttributeError):
        process.terminate()
    assert repr(process).endswith(f"parent={os.getpid()} initial>")


def test_misuse_is_refused(ctx: context.BaseContext, targets: ModuleType) -> None:
    with pytest.raises(AssertionError, match="group argument must be None"):
        ctx.Process(1)
    process = ctx.Process(target=targets.nothing)
    with pytest.raises(AssertionError, match="name must be a string"):
        process.name = 3
    assert run(process) == 0
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    with pytest.raises(AssertionError, match="process has already started"):
        process.daemon = True


def test_names_count_and_can_be_set(ctx: context.BaseContext) -> None:
    first, second = ctx.Process(), ctx.Process()
    kind, _, number = first.name.partition("-")
    assert kind == type(first).__name__
    assert second.name == f"{kind}-{int(number) + 1}"
    second.name = "Second"
    assert second.name == "Second"
    assert ctx.Process(name="Own").name == "Own"


def test_daemon_is_inherited_or_given(ctx: context.BaseContext) -> None:
    assert ctx.Process().daemon is False
    assert ctx.Process(daemon=True).daemon is True
    assert ctx.Process(daemon=False).daemon is False
    assert repr(ctx.Process(daemon=True)).endswith(" initial daemon>")


def test_a_running_process(running: BaseProcess) -> None:
    assert running.is_alive()
    assert running in active_children()
    assert running.exitcode is None
    assert running.pid == running.ident
    assert isinstance(running.sentinel, int)
    for timeout in (0, -1, 0.01):
        assert running.join(timeout) is None
        assert running.is_alive()
    assert f"pid={running.pid} parent={os.getpid()} started daemon>" in repr(running)
    with pytest.raises(ValueError, match="Cannot close a process while it is still running"):
        running.close()


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (BaseProcess.terminate, -signal.SIGTERM),
        (BaseProcess.kill, -signal.SIGKILL),
        (BaseProcess.interrupt, 1),
    ],
)
def test_a_running_process_is_ended(
    capfd: pytest.CaptureFixture[str], running: BaseProcess, end: Callable[[BaseProcess], None], expected: int
) -> None:
    end(running)
    running.join()
    assert not running.is_alive()
    assert running not in active_children()
    assert running.exitcode == expected
    name = {1: "1", -9: "-SIGKILL", -15: "-SIGTERM"}[expected]
    assert f"stopped exitcode={name} daemon>" in repr(running)
    end(running)
    running.join()


def test_a_closed_process_is_of_no_use(ctx: context.BaseContext, targets: ModuleType) -> None:
    process = ctx.Process(target=targets.nothing)
    assert run(process) == 0
    process.close()
    process.close()
    for use in (process.is_alive, process.join, process.terminate, process.kill, process.start):
        with pytest.raises(ValueError, match="process object is closed"):
            use()
    for name in ("exitcode", "pid", "sentinel"):
        with pytest.raises(ValueError, match="process object is closed"):
            getattr(process, name)
    assert "closed" in repr(process)
    gone = weakref.ref(process)
    del process, use
    gc.collect()
    assert gone() is None


def test_the_target_is_let_go_of(ctx: context.BaseContext, targets: ModuleType, answer: Answer) -> None:
    target = targets.Greeter("x")
    gone = weakref.ref(target)
    process = ctx.Process(target=target, args=(answer.path,))
    del target
    assert run(process) == 0
    assert gone() is None


@pytest.mark.parametrize(
    ("args", "expected"), [((True,), 1), ((False,), 0), ((8,), 8), ((None,), 0), ((), 0), ((-1,), 255)]
)
def test_sys_exit_sets_the_exit_code(
    ctx: context.BaseContext, args: tuple[object, ...], expected: int
) -> None:
    assert run(ctx.Process(target=sys.exit, args=args)) == expected


@pytest.mark.parametrize("reason", [[1, 2, 3], "ignore this"])
def test_sys_exit_prints_what_is_no_number(
    ctx: context.BaseContext, targets: ModuleType, reason: object, tmp_path: Path
) -> None:
    path = tmp_path / "stderr"
    assert run(ctx.Process(target=targets.replace_stderr_and_exit, args=(str(path), reason))) == 1
    assert path.read_text() == f"{reason}\n"


def test_a_failure_prints_its_traceback(
    ctx: context.BaseContext, targets: ModuleType, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    process = ctx.Process(target=targets.raise_value_error, args=("Rabbit",), name="Hole-1")
    assert run(process) == 1
    err = capfd.readouterr().err
    assert err.startswith("Process Hole-1:\nTraceback (most recent call last):\n")
    assert "process_targets.py" in err
    assert "raise ValueError(word)" in err
    assert err.endswith("ValueError: Rabbit\n")
    path = tmp_path / "stderr"
    assert run(ctx.Process(target=targets.replace_stderr_and_fail, args=(str(path),))) == 1
    assert path.read_text().endswith("ValueError: into the file\n")


def test_sudden_ends(ctx: context.BaseContext) -> None:
    assert run(ctx.Process(target=os._exit, args=(42,))) == 42
    assert run(ctx.Process(target=signal.raise_signal, args=(signal.SIGUSR2,))) == -signal.SIGUSR2


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("action", ["close", "remove"])
def test_broken_streams_of_the_child_do_no_harm(
    ctx: context.BaseContext, targets: ModuleType, answer: Answer, stream: str, action: str
) -> None:
    assert run(ctx.Process(target=targets.break_stream, args=(answer.path, stream, action))) == 0
    assert answer() == "done"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_broken_streams_of_the_parent_do_no_harm(
    ctx: context.BaseContext,
    targets: ModuleType,
    stream: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    with (tmp_path / "closed").open("w") as closed:
        pass
    for broken in (closed, None):
        with monkeypatch.context() as patch:
            patch.setattr(sys, stream, broken)
            assert run(ctx.Process(target=targets.nothing)) == 0


def test_the_main_thread_has_its_own_id(
    ctx: context.BaseContext, targets: ModuleType, answer: Answer
) -> None:
    process = ctx.Process(target=targets.tell_main_thread, args=(answer.path,))
    assert run(process) == 0
    assert answer() == [process.pid, process.pid]


def test_standard_input_is_empty(ctx: context.BaseContext, targets: ModuleType, answer: Answer) -> None:
    assert run(ctx.Process(target=targets.tell_stdin, args=(answer.path,))) == 0
    assert answer() == ["", "", 0]


def test_threads_and_exit_functions_are_waited_for(
    ctx: context.BaseContext, targets: ModuleType, answer: Answer
) -> None:
    assert run(ctx.Process(target=targets.leave_a_thread, args=(answer.path,))) == 0
    assert answer() == "the thread's"
    assert run(ctx.Process(target=targets.register_at_exit, args=(answer.path,))) == 0
    assert answer() == "at exit"


def test_the_start_method_is_inherited(ctx: context.BaseContext, targets: ModuleType, answer: Answer) -> None:
    assert run(ctx.Process(target=targets.tell_start_method, args=(answer.path,))) == 0
    assert answer() == ctx.get_start_method()


@pytest.mark.slow
@pytest.mark.parametrize("daemon", [False, True])
def test_children_have_children(
    ctx: context.BaseContext, targets: ModuleType, tmp_path: Path, daemon: bool
) -> None:
    root = ctx.Process(target=targets.recurse, args=(str(tmp_path), 2), name="R", daemon=daemon)
    assert run(root) == 0
    told = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert len(told) == 7
    assert {is_daemon for is_daemon, _, _ in told.values()} == {daemon}
    assert sorted(parent for _, _, parent in told.values()).count(os.getpid()) == 1


def test_at_its_end_a_child_ends_or_joins_its_own(
    ctx: context.BaseContext, targets: ModuleType, answer: Answer
) -> None:
    assert run(ctx.Process(target=targets.leave_children, args=(answer.path,))) == 0
    assert answer() == "joined"


def test_a_child_of_another_is_only_looked_at(
    ctx: context.BaseContext, targets: ModuleType, running: BaseProcess
) -> None:
    def look() -> None:
        assert "unknown" in repr(running)
        for use in (running.join, running.is_alive):
            try:
                use()
            except AssertionError:
                continue
            raise SystemExit(3)
        assert active_children() == []

    if ctx.get_start_method() == "fork":
        assert run(ctx.Process(target=look)) == 0


def test_the_death_of_the_parent_is_the_childs(
    ctx: context.BaseContext, targets: ModuleType, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo2"
    os.mkfifo(fifo)
    child = ctx.Process(target=targets.start_grandchild, args=(str(fifo),))
    child.start()
    grandchild = os.pidfd_open(int(fifo.read_text()))
    try:
        child.kill()
        child.join()
        import select

        assert select.select([grandchild], [], [], 10)[0]
    finally:
        os.close(grandchild)


@pytest.mark.slow
def test_many_at_once(ctx: context.BaseContext, targets: ModuleType) -> None:
    count = 8 if ctx.get_start_method() == "spawn" else 60
    sleepers = [ctx.Process(target=time.sleep, args=(0.01,)) for _ in range(count)]
    for process in sleepers:
        process.start()
    for process in sleepers:
        process.join()
    assert {process.exitcode for process in sleepers} == {0}
    forever = [ctx.Process(target=time.sleep, args=(600,)) for _ in range(count)]
    for process in forever:
        process.start()
    for process in forever:
        process.terminate()
    for process in forever:
        process.join()
    assert {process.exitcode for process in forever} == {-signal.SIGTERM}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_threads_start_processes_at_once(ctx: context.BaseContext, targets: ModuleType) -> None:
    codes: list[int | None] = []

    def start_some() -> None:
        count = 3 if ctx.get_start_method() == "spawn" else 12
        codes.extend(run(ctx.Process(target=sys.exit, args=(5,))) for _ in range(count))

    threads = [threading.Thread(target=start_some) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) == {5}
    assert len(codes) in {18, 72}


def test_nothing_is_left_of_many_starts(ctx: context.BaseContext, targets: ModuleType) -> None:
    def fds() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    assert run(ctx.Process(target=targets.nothing)) == 0
    before = fds()
    for _ in range(5 if ctx.get_start_method() == "spawn" else 40):
        assert run(ctx.Process(target=targets.nothing)) == 0
    assert fds() == before
