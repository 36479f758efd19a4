"""Finalizers run in order, once, in the process that made them; hooks of a fork run after it."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from corral import util

if TYPE_CHECKING:
    from collections.abc import Iterator


class Thing:
    """An object that can be weakly referenced."""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = util.get_logger()
    level, handlers = found.level, found.handlers[:]
    yield found
    found.setLevel(level)
    found.handlers[:] = handlers
    util._log_to_stderr = False
    util._logger = None


def python(code: str) -> str:
    """Return what a fresh interpreter prints for a program."""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


def test_a_finalizer_is_called_once(said: list[str]) -> None:
    finalize = util.Finalize(
        None, lambda *args, **kwargs: said.append(repr((args, kwargs))), (1,), {"a": 2}, 5
    )
    assert finalize.still_active()
    assert repr(finalize).startswith("<Finalize object, callback=<lambda>, args=(1,), kwargs={'a': 2}, exitp")
    finalize()
    assert finalize() is None
    assert said == ["((1,), {'a': 2})"]
    assert not finalize.still_active()
    assert repr(finalize) == "<Finalize object, dead>"


def test_a_finalizer_is_called_when_its_object_is_collected(said: list[str]) -> None:
    thing, other = Thing(), Thing()
    finalize = util.Finalize(thing, said.append, ("collected",))
    cancelled = util.Finalize(other, said.append, ("cancelled",))
    cancelled.cancel()
    cancelled.cancel()
    del thing, other
    gc.collect()
    assert said == ["collected"]
    assert not finalize.still_active()
    assert not cancelled.still_active()


def test_misuse_of_a_finalizer_is_refused() -> None:
    with pytest.raises(ValueError, match="Without object, exitpriority cannot be None"):
        util.Finalize(None, print)
    with pytest.raises(TypeError, match=r"Exitpriority \('1'\) must be None or int, not <class 'str'>"):
        util.Finalize(None, print, exitpriority="1")  # type: ignore[arg-type]


def test_finalizers_run_by_priority_then_backwards(said: list[str]) -> None:
    things = [Thing()]
    for name, priority in (("a", 0), ("b", 10), ("c", 10), ("d", -1), ("e", None)):
        util.Finalize(things[0], said.append, (name,), exitpriority=priority)
    util._run_finalizers(0)
    assert said == ["c", "b", "a"]
    util._run_finalizers()
    assert said == ["c", "b", "a", "d"]


def test_a_finalizer_that_fails_stops_no_other(said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    util.Finalize(None, said.append, ("after",), exitpriority=1)
    util.Finalize(None, lambda: 1 // 0, exitpriority=2)
    util._run_finalizers(1)
    assert said == ["after"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_at_exit_finalizers_come_before_the_children_and_after() -> None:
    out = python(
        "import corral, time\n"
        "from corral.util import Finalize, is_exiting\n"
        "def child(): print('child', flush=True)\n"
        "say = lambda *words: print(*words, is_exiting(), flush=True)\n"
        "p = corral.get_context('fork').Process(target=child)\n"
        "Finalize(None, lambda: p.start(), exitpriority=10)\n"
        "Finalize(None, say, ('last',), exitpriority=-10)\n"
        "Finalize(None, say, ('first',), exitpriority=20)\n"
        "print(is_exiting(), flush=True)\n"
    )
    assert out.split("\n")[:-1] == ["False", "first True", "child", "last True"]


def test_a_forked_process_finalizes_nothing_of_its_parent(said: list[str]) -> None:
    thing = Thing()
    finalize = util.Finalize(thing, said.append, ("parent",), exitpriority=0)
    pid = os.fork()
    if pid == 0:
        finalize()
        util._run_finalizers()
        os._exit(len(said))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finalize()
    assert said == ["parent"]


def test_after_a_fork_what_lives_is_called_in_order(said: list[str]) -> None:
    first, second, gone = Thing(), Thing(), Thing()
    util.register_after_fork(first, lambda _: said.append("1"))
    util.register_after_fork(second, lambda _: [said.append("2"), 1 // 0])
    util.register_after_fork(gone, lambda _: said.append("gone"))
    util.register_after_fork(first, lambda _: said.append("3"))
    del gone
    pid = os.fork()
    if pid == 0:
        os._exit(said == ["1", "2", "3"])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert said == []


def test_fork_aware_locks_and_attributes_are_fresh_in_a_child() -> None:
    lock, local = util.ForkAwareThreadLock(), util.ForkAwareLocal()
    local.attribute = 1
    with lock:
        pid = os.fork()
        if pid == 0:
            os._exit(lock.acquire(False) and not hasattr(local, "attribute"))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert lock.acquire(False)
    lock.release()
    assert local.attribute == 1
    assert local.__reduce__() == (util.ForkAwareLocal, ())


def test_a_fork_while_another_thread_registers_does_not_hang() -> None:
    stop = threading.Event()

    def register() -> None:
        while not stop.is_set():
            util.Finalize(Thing(), int)

    thread = threading.Thread(target=register)
    thread.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                util.Finalize(None, int, exitpriority=1)
                util._run_finalizers()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        thread.join()


def test_the_folder_for_temporary_files_goes_with_the_process() -> None:
    folder = python(
        "from corral.util import get_temp_dir; import os; d = get_temp_dir()\n"
        "assert d == get_temp_dir() and os.path.isdir(d); print(d)"
    )
    assert not os.path.exists(folder.strip())


def test_the_logger_is_the_standard_librarys(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    import multiprocessing

    assert logger.name == multiprocessing.get_logger().name
    assert not logger.propagate
    assert util.log_to_stderr("INFO") is logger
    util.info("what %s", "happens")
    util.debug("not this")
    util.sub_warning("and this")
    assert capsys.readouterr().err == "[INFO/MainProcess] what happens\n[Level 25/MainProcess] and this\n"
    assert util.log_settings() == (logging.INFO, True)


def test_a_message_names_the_file_that_logs_it(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    logger.addHandler(caplog.handler)
    util.warn("look")
    logger.removeHandler(caplog.handler)
    assert [record.filename for record in caplog.records] == ["test_util.py"]


def test_nobody_logs_until_somebody_asks(capsys: pytest.CaptureFixture[str]) -> None:
    assert util._logger is None
    util.warn("nothing")
    assert capsys.readouterr().err == ""
    assert util.log_settings() is None


def test_abstract_addresses_are_known() -> None:
    assert util.is_abstract_socket_namespace("\0abc")
    assert util.is_abstract_socket_namespace(b"\0abc")
    assert not util.is_abstract_socket_namespace("/tmp/abc")
    assert not util.is_abstract_socket_namespace("")
    with pytest.raises(TypeError, match="unrecognized"):
        util.is_abstract_socket_namespace(("localhost", 1))  # type: ignore[arg-type]


def test_a_program_gets_the_descriptors_it_is_given() -> None:
    read, write = os.pipe()
    other = os.dup(write)
    pid = util.spawnv_passfds(
        sys.executable,
        [
            sys.executable,
            "-c",
            f"import os; os.write({write}, b'x'); os.path.exists('/proc/self/fd/{other}') or os._exit(3)",
        ],
        [write, write],
    )
    os.close(write)
    os.close(other)
    try:
        assert os.read(read, 10) == b"x"
    finally:
        os.close(read)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
