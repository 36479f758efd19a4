"""Daemon threads that wait while the interpreter ends do not disturb its end."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import corral, threading, time

lock = corral.Lock()
lock.acquire()
end, other = corral.Pipe()
empty, full, used = corral.Queue(), corral.Queue(1), corral.Queue()
full.put(1)

def use():
    while True:
        used.put(1)
        used.get()

waits = [lock.acquire, end.recv, corral.Event().wait, empty.get, lambda: full.put(2), use]
for wait in waits * 3:
    threading.Thread(target=wait, daemon=True).start()

class Slow:
    def __del__(self, now=time.monotonic):
        # Longer than any of them sleeps without looking again.
        end = now() + 0.25
        while now() < end:
            pass

slow = Slow()
"""


@pytest.mark.slow
def test_the_interpreter_ends_while_threads_wait() -> None:
    running = [
        subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(6)
    ]
    for process in running:
        output, _ = process.communicate(timeout=50)
        assert (process.returncode, output) == (0, b"")
