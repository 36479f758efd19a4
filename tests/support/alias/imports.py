"""Imports `multiprocessing` and `concurrent.futures` in every way, and checks that corral is behind it."""

import concurrent.futures
import concurrent.futures.process
import importlib
import inspect
import multiprocessing
import multiprocessing as mp
import multiprocessing.context
import multiprocessing.pool
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from concurrent.futures.process import ProcessPoolExecutor as FromProcess
from multiprocessing import Pool, Process, TimeoutError, get_context, pool  # noqa: A004
from multiprocessing.pool import Pool as PoolClass

import corral
import corral.pool

assert PoolClass is pool.Pool is multiprocessing.pool.Pool is corral.pool.Pool
assert Process is mp.Process is multiprocessing.context.Process is corral.Process
assert Pool == mp.Pool
assert ProcessPoolExecutor is FromProcess is corral.ProcessPoolExecutor
assert concurrent.futures.process.ProcessPoolExecutor is corral.ProcessPoolExecutor
assert importlib.import_module("multiprocessing.pool") is pool is sys.modules["multiprocessing.pool"]
assert TimeoutError is corral.TimeoutError
assert issubclass(corral.WorkerLost, BrokenProcessPool)
assert get_context("spawn").Process is corral.get_context("spawn").Process
default = "forkserver" if sys.version_info >= (3, 14) else "fork"
assert mp.get_start_method(allow_none=True) is None
assert mp.get_start_method() == mp.get_all_start_methods()[0] == default

space: dict = {}
exec("from multiprocessing import *", space)
assert space["Process"] is corral.Process
assert "as_completed" not in space

# A program may look at what it has, and ask for what is not there.
assert multiprocessing.__name__ == multiprocessing.__spec__.name == "multiprocessing"
assert multiprocessing.__file__.endswith("multiprocessing/__init__.py")
assert inspect.getsource(multiprocessing).startswith("#")
assert "Pool" in dir(multiprocessing)
try:
    importlib.import_module("multiprocessing.nonsense")
except ModuleNotFoundError as error:
    assert error.name == "multiprocessing.nonsense"
try:
    multiprocessing.nonsense  # noqa: B018
except AttributeError as error:
    assert str(error) == "module 'multiprocessing' has no attribute 'nonsense'"
print("done")
