"""Checks who gets the standard library's own modules although the names are corral's."""

import multiprocessing.managers
import multiprocessing.process
import pickle
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from corral import _alias

theirs = _alias.real("multiprocessing.process")
assert theirs.BaseProcess is not multiprocessing.process.BaseProcess
assert theirs.BaseProcess.__module__ == "multiprocessing.process"
assert _alias.real("multiprocessing.context").BaseContext.current_process() is theirs.current_process()
assert _alias.real("multiprocessing").Process.__mro__[1] is theirs.BaseProcess
assert _alias.real("concurrent.futures.process").BrokenProcessPool is BrokenProcessPool

insider = types.ModuleType("loky.backend")
exec("from multiprocessing.process import BaseProcess", insider.__dict__)
assert insider.BaseProcess is theirs.BaseProcess

for error in (multiprocessing.TimeoutError("late"), BrokenProcessPool("gone")):
    assert repr(pickle.loads(pickle.dumps(error))) == repr(error)

# Several threads ask for what is not loaded yet: none gets half of it.
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(8)
names = [
    ("queues", "SimpleQueue"),
    ("managers", "SyncManager"),
    ("sharedctypes", "synchronized"),
    ("pool", "ThreadPool"),
    ("heap", "BufferWrapper"),
]


def ask() -> list[object]:
    barrier.wait()
    return [getattr(_alias.real(f"multiprocessing.{module}"), name) for module, name in names]


with ThreadPoolExecutor(8) as threads:
    answers = [future.result() for future in [threads.submit(ask) for _ in range(8)]]
assert all(answer == answers[0] for answer in answers)
print("done")
