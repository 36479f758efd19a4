"""Sets and deletes attributes of `multiprocessing`, as tests of other programs do."""

import multiprocessing
import multiprocessing.pool
from unittest import mock

import corral.pool

ours = corral.pool.Pool
with mock.patch("multiprocessing.pool.Pool", 5):
    assert multiprocessing.pool.Pool == corral.pool.Pool == 5
assert multiprocessing.pool.Pool is corral.pool.Pool is ours

multiprocessing.extra = 1
assert multiprocessing.extra == corral.extra == 1
del multiprocessing.extra
assert not hasattr(multiprocessing, "extra")
assert not hasattr(corral, "extra")
print("done")
