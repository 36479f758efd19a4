"""What the processes of `test_process` run; importable by name, and light."""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import time

from corral import context
from corral.process import active_children, current_process, parent_process


class Speaker(context.Process):
    """A process whose activity is its own, and which carries an attribute along."""

    def __init__(self, path: str, word: str) -> None:
        super().__init__()
        self.path = path
        self.word = word

    def run(self) -> None:
        write(self.path, [self.word, self.name, type(self).__name__])


class Greeter:
    """An object whose method is a target."""

    def __init__(self, word: str) -> None:
        self.word = word

    def greet(self, path: str) -> None:
        write(path, self.word)

    def __call__(self, path: str) -> None:
        write(path, f"called {self.word}")


def write(path: str, value: object) -> None:
    with open(path, "w") as file:
        json.dump(value, file)


def nothing() -> None:
    pass


def tell_arguments(path: str, *args: object, **kwargs: object) -> None:
    me = current_process()
    write(
        path, [list(args), kwargs, me.name, me.pid, os.getpid(), me.authkey.hex(), me.daemon, me.is_alive()]
    )


def tell_parent(path: str) -> None:
    parent = parent_process()
    write(path, [parent.pid, parent.name, parent.is_alive()])


def tell_start_method(path: str) -> None:
    write(path, context.get_start_method())


def tell_multiprocessing(path: str) -> None:
    import multiprocessing

    me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
    write(path, [me.name, me.pid, parent and parent.pid])


def tell_main_thread(path: str) -> None:
    write(path, [threading.main_thread().native_id, os.getpid()])


def tell_stdin(path: str) -> None:
    write(path, [sys.stdin.read(), os.read(0, 1).decode(), sys.stdin.fileno()])


def block(path: str) -> None:
    """Say that the process runs, then wait for a signal."""
    with open(path, "w") as fifo:
        fifo.write("!")
    while True:
        # Not `signal.pause`: a signal just before its system call would be seen after it only.
        time.sleep(0.01)


def raise_value_error(word: str) -> None:
    raise ValueError(word)


def replace_stderr_and_fail(path: str) -> None:
    sys.stderr = open(path, "w")  # noqa: SIM115  (the end of the process closes it)
    raise ValueError("into the file")


def replace_stderr_and_exit(path: str, reason: object) -> None:
    sys.stderr = open(path, "w")  # noqa: SIM115  (the end of the process closes it)
    sys.exit(reason)


def break_stream(path: str, stream: str, action: str) -> None:
    if action == "close":
        getattr(sys, stream).close()
    else:
        setattr(sys, stream, None)
    write(path, "done")


def leave_a_thread(path: str) -> None:
    """Return while a thread that is not daemonic still has work to do."""
    go = threading.Event()

    def work() -> None:
        go.wait()
        write(path, "the thread's")

    threading.Thread(target=work).start()
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    go.set()


def register_at_exit(path: str) -> None:
    atexit.register(write, path, "at exit")


def recurse(folder: str, depth: int) -> None:
    me = current_process()
    write(f"{folder}/{me.name}", [me.daemon, os.getpid(), parent_process().pid])
    if depth:
        for _ in range(2):
            child = context.Process(target=recurse, args=(folder, depth - 1))
            child.start()
            child.join()
            assert child.exitcode == 0
        assert active_children() == []


def leave_children(path: str) -> None:
    """Return with a daemonic child that would run for ever and another that ends."""
    context.Process(target=time.sleep, args=(600,), daemon=True).start()
    context.Process(target=write, args=(path, "joined"), daemon=False).start()


def start_grandchild(path: str) -> None:
    """Start a child that runs for ever, tell its process id, and do so too."""
    child = context.Process(target=time.sleep, args=(600,))
    child.start()
    with open(path, "w") as fifo:
        fifo.write(str(child.pid))
    time.sleep(600)
