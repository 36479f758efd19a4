"""Whoever is killed, and whatever runs out: processes are accounted for, and nothing stays behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

METHODS = ("fork", "forkserver", "spawn")

PREAMBLE = """
import os, select, signal, sys, time
import corral
from corral import _launch
from corral._launch import forkserver, launch

def relatives(pid):
    "All living descendants of a process."
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                state, parent = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                parents.setdefault(int(parent), []).append(int(name))
    found, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found

def zygote_pid():
    return forkserver._zygote.child.pid
"""


def start(code: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def run(code: str, *arguments: str, **options: object) -> tuple[int, list[str], str]:
    """Run a program to its end; return its exit code, the lines it printed, and its standard error."""
    with start(code, *arguments, **options) as program:
        out, err = program.communicate()
    return program.returncode, out.splitlines(), err


def assert_gone(pidfds: list[int]) -> None:
    """Wait until all processes are gone: the watchdog is what says that it takes too long."""
    for fd in pidfds:
        assert select.select([fd], [], [], 30)[0]
        os.close(fd)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
@pytest.mark.parametrize("starter", ["main thread", "other thread"])
def test_when_the_parent_dies_its_whole_tree_does(method: str, starter: str, number: int) -> None:
    program = start(
        """
        import threading

        def nest(method, starter, depth):
            if depth:
                process = corral.get_context(method).Process(target=nest, args=(method, starter, depth - 1))
                if starter == "main thread":
                    process.start()
                else:
                    thread = threading.Thread(target=process.start)
                    thread.start()
                    thread.join()
            else:
                os.write(1, b"!")
            time.sleep(600)

        nest(*sys.argv[1:], 2)
        """,
        method,
        starter,
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.read(1) == "!"
        # Everything it has started by now, spare children too.
        family = [os.pidfd_open(pid) for pid in descendants(program.pid)]
        assert len(family) >= 2
        program.send_signal(number)
        assert_gone(family)


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    todo = [pid]
    while todo:
        at = todo.pop()
        for task in Path(f"/proc/{at}/task").glob("*/children"):
            below = [int(word) for word in task.read_text().split()]
            found += below
            todo += below
    return found


@pytest.mark.parametrize("ending", ["pass", "sys.exit(3)", "1/0", "os.kill(os.getpid(), 9)", "os._exit(0)"])
def test_no_process_is_left_at_the_exit(ending: str) -> None:
    code, lines, _ = run(
        f"""
        for method in ("fork", "forkserver", "spawn"):
            process = corral.get_context(method).Process(target=time.sleep, args=(600,), daemon=True)
            process.start()
        time.sleep(0.1)
        print(*relatives(os.getpid()), flush=True)
        {ending}
        """
    )
    assert code == {"pass": 0, "sys.exit(3)": 3, "1/0": 1, "os._exit(0)": 0}.get(ending, -9)
    pids = lines[0].split()
    assert len(pids) >= 4
    if ending in {"pass", "sys.exit(3)", "1/0"}:
        # An orderly end waits for all of them.
        assert not [pid for pid in pids if is_running(pid)]
    else:
        for pid in pids:
            while is_running(pid):
                os.sched_yield()


def is_running(pid: str) -> bool:
    try:
        return "corral" in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False


def test_children_that_are_not_daemonic_are_waited_for() -> None:
    code, lines, _ = run(
        """
        for method in ("fork", "forkserver", "spawn"):
            corral.get_context(method).Process(target=lambda: (time.sleep(0.2), print("done"))).start()
        print("end")
        """
    )
    assert (code, sorted(lines)) == (0, ["done", "done", "done", "end"])


def test_the_death_of_the_zygote_is_survived() -> None:
    code, lines, err = run(
        """
        read, write = os.pipe()
        child = launch("forkserver", "os:read", b"")
        child.wait()
        slow = corral.Process(target=lambda: (time.sleep(0.3), sys.exit(7)))
        slow.start()
        killed = corral.Process(target=time.sleep, args=(600,))
        killed.start()
        os.kill(zygote_pid(), signal.SIGINT)
        first = zygote_pid()
        os.kill(first, signal.SIGKILL)
        os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
        exitcodes = set()
        while zygote_pid() == first:  # the spare children it left behind may serve first
            again = corral.Process(target=sys.exit, args=(5,))
            again.start()
            again.join()
            exitcodes.add(again.exitcode)
        print(exitcodes)
        killed.kill()
        killed.join()
        slow.join()
        print(slow.exitcode in (7, 255), killed.exitcode in (-9, 255))
        """
    )
    assert (code, lines) == (0, ["{5}", "True True"]), err


def test_a_zygote_that_stands_still_holds_up_no_end_of_a_child() -> None:
    code, lines, err = run(
        """
        _launch.warm_up()
        processes = [corral.Process(target=target, args=args) for target, args in (
            (sys.exit, (3,)), (time.sleep, (600,)))]
        for process in processes:
            process.start()
        os.kill(zygote_pid(), signal.SIGSTOP)
        processes[1].kill()
        for process in processes:
            process.join()
            print(process.exitcode)
        os.kill(zygote_pid(), signal.SIGCONT)
        """
    )
    assert (code, lines) == (0, ["3", "-9"]), err


def test_a_zygote_that_dies_at_once_is_an_error() -> None:
    code, lines, _ = run(
        """
        corral.set_executable("/bin/false")
        for method in ("forkserver", "spawn"):
            try:
                corral.get_context(method).Process().start()
            except OSError as error:
                print(type(error).__name__, "zygote" in str(error))
            corral.set_executable("/no/such/python")
        try:
            corral.get_context("spawn").Process().start()
        except FileNotFoundError:
            print("not found")
        """
    )
    assert code == 0
    assert lines[0] == "ChildProcessError True"
    assert lines[-1] == "not found"


def test_spare_children_may_be_killed() -> None:
    code, lines, err = run(
        """
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for _ in range(5):
            _launch.warm_up()
            for spare in relatives(zygote_pid()):
                os.kill(spare, signal.SIGKILL)
            process = corral.Process(target=sys.exit, args=(4,))
            process.start()
            process.join()
            print(process.exitcode in (4, -9))
        """
    )
    assert (code, lines) == (0, ["True"] * 5), err


def test_a_program_that_forks_by_itself_shares_nothing() -> None:
    code, lines, err = run(
        """
        mine = corral.Process(target=time.sleep, args=(600,), daemon=True)
        mine.start()
        pid = os.fork()
        if pid == 0:
            assert corral.active_children() == []
            process = corral.Process(target=sys.exit, args=(6,))
            process.start()
            process.join()
            sys.exit(process.exitcode)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), mine.is_alive())
        process = corral.Process(target=sys.exit, args=(8,))
        process.start()
        process.join()
        print(process.exitcode)
        """
    )
    assert (code, lines) == (0, ["6 True", "8"]), err


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_reaps_everything_is_told_the_truth_if_the_kernel_knows(method: str) -> None:
    code, lines, err = run(
        """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for target, args in ((sys.exit, (9,)), (signal.raise_signal, (signal.SIGUSR1,))):
            process = corral.get_context(sys.argv[1]).Process(target=target, args=args)
            process.start()
            process.join()
            print(process.exitcode)
        """,
        method,
    )
    assert code == 0, err
    assert lines in (["9", "-10"], ["255", "255"])


@pytest.mark.parametrize("method", METHODS)
def test_without_descriptors_the_start_fails_clearly_and_can_be_repeated(method: str) -> None:
    code, lines, err = run(
        """
        import resource
        ctx = corral.get_context(sys.argv[1])
        def start():
            process = ctx.Process(target=sys.exit, args=(3,))
            process.start()
            process.join()
            code = process.exitcode
            process.close()
            return code
        start()
        before = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        taken = []
        while True:
            try:
                taken.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                break
        outcomes = set()
        while taken:
            try:
                outcomes.add(start())
            except OSError as error:
                outcomes.add(error.strerror)
            # A few at a time: the edge is what matters.
            for fd in taken[-3:]:
                os.close(fd)
            del taken[-3:]
        print(outcomes)
        print(start(), len(os.listdir("/proc/self/fd")) - before)
        """,
        method,
    )
    assert code == 0, err
    assert "3" in lines[0]
    assert "oo many open files" in lines[0] or "no file descriptor left" in lines[0]
    assert lines[1] == "3 0"


def test_an_interrupt_from_the_terminal_reaches_the_children_not_the_zygote() -> None:
    program = start(
        """
        def wait():
            try:
                os.write(1, b"!")
                while True:
                    # Not one long sleep: a signal just before the system call would be seen after it only.
                    time.sleep(0.01)
            except KeyboardInterrupt:
                os.write(1, b"?")

        contexts = map(corral.get_context, ("fork", "forkserver", "spawn"))
        children = [context.Process(target=wait) for context in contexts]
        for child in children:
            child.start()
        signal.signal(signal.SIGINT, lambda *_: None)
        os.write(1, b"!")
        for child in children:
            child.join()
        after = corral.Process(target=os.write, args=(1, b"."))
        after.start()
        after.join()
        print([child.exitcode for child in children])
        """,
        start_new_session=True,
    )
    with program:
        assert program.stdout is not None
        assert program.stdout.read(4) == "!!!!"
        os.killpg(program.pid, signal.SIGINT)
        out, err = program.communicate()
    assert out == "???.[0, 0, 0]\n", err


def test_a_child_outlives_the_thread_that_started_it() -> None:
    code, lines, err = run(
        """
        import threading
        started = []
        def begin():
            for method in ("fork", "forkserver", "spawn"):
                process = corral.get_context(method).Process(target=lambda: (time.sleep(0.3), sys.exit(2)))
                process.start()
                started.append(process)
        thread = threading.Thread(target=begin)
        thread.start()
        thread.join()
        for process in started:
            process.join()
        print([process.exitcode for process in started])
        """
    )
    assert (code, lines) == (0, ["[2, 2, 2]"]), err


def test_preloaded_modules_are_there_and_broken_ones_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "preloaded_well.py").write_text("import os; loaded_by = os.getpid()")
    (tmp_path / "preloaded_badly.py").write_text("1 / 0")
    code, lines, err = run(
        """
        sys.path.append(sys.argv[1])
        corral.set_forkserver_preload(["__main__", "preloaded_badly", "no_such_module", "preloaded_well"])
        def tell():
            import preloaded_well
            print(preloaded_well.loaded_by == os.getppid(), os.getppid() != parent, flush=True)
        parent = os.getpid()
        process = corral.Process(target=tell)
        process.start()
        process.join()
        try:
            corral.set_forkserver_preload([1])
        except TypeError as error:
            print(error)
        """,
        str(tmp_path),
    )
    assert (code, lines) == (0, ["True True", "module_names must be a list of strings"])
    assert err.count("ZeroDivisionError") == 1


def test_what_a_preloaded_module_makes_is_not_taken_for_the_parents(tmp_path: Path) -> None:
    (tmp_path / "preloaded_with_a_heap.py").write_text("from corral._launch import heap; own = heap()")
    code, lines, err = run(
        """
        sys.path.append(sys.argv[1])
        corral.set_forkserver_preload(["preloaded_with_a_heap"])
        def look(x):
            return "preloaded_with_a_heap" in sys.modules
        with corral.Pool(2) as pool:
            print(pool.map(look, range(2)))
        """,
        str(tmp_path),
    )
    assert (code, lines) == (0, ["[True, True]"]), err


@pytest.mark.parametrize("how", ["file", "option", "input", "guarded"])
def test_no_guard_is_needed_and_main_is_not_run_again(how: str, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import corral

        print("main", flush=True)

        class Thing:
            size = 3

        def work(thing):
            print("work", __name__, thing.size, isinstance(thing, Thing), flush=True)

        def go():
            for method in ("fork", "forkserver", "spawn"):
                process = corral.get_context(method).Process(target=work, args=(Thing(),))
                process.start()
                process.join()
                assert process.exitcode == 0
        """
    )
    program += "\nif __name__ == '__main__':\n    go()\n" if how == "guarded" else "\ngo()\n"
    path = tmp_path / "program.py"
    path.write_text(program)
    words = {"option": ["-c", program], "input": ["-"]}.get(how, [str(path)])
    done = subprocess.run(
        [sys.executable, *words], input=program, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout.splitlines() == ["main", *["work __main__ 3 True"] * 3], done.stderr
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("method", METHODS)
def test_an_inherited_descriptor_beyond_the_limit_stops_no_launch_and_goes_no_further(method: str) -> None:
    # As after `ulimit -n 64` in a shell that holds a descriptor open: posix_spawn won't close it.
    code, out, err = run(
        """
        import resource

        stray = 200
        os.dup2(0, stray)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with corral.Pool(2, context=sys.argv[1]) as pool:
            print(pool.map(abs, [-1, 2]), pool.apply(os.path.exists, (f"/proc/self/fd/{stray}",)))
        """,
        method,
    )
    # A forked child has what the parent has.
    assert (code, out, err) == (0, [f"[1, 2] {method == 'fork'}"], "")
