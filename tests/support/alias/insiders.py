"""Checks who gets the standard library's own modules although the names are corral's."""

import multiprocessing.managers
import multiprocessing.process
import pickle
import types
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
print("done")
