"""Keep a worker's share of the machine: the threads of numerical libraries, and how deep pools may be nested.

Role in the flow: the worker's entry calls `keep_to`; `corral._backends.local` asks `depth` for each pool.
Runs in: the worker, before the initializer; `depth` also in the parent.
See: the environment variables are those that OpenMP (OpenMP API 5.2, 21.1.2), OpenBLAS, MKL, BLIS, vecLib and
numexpr document.
"""

from __future__ import annotations

import os
import sys

__all__ = ["MAX_DEPTH", "THREAD_VARIABLES", "depth", "keep_to"]

MAX_DEPTH = 8
"""How many pools may be inside each other: one more is rather a recursion that has no end."""
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_here: list[int] = []


def depth() -> int:
    """In how many pools' workers, one in the other, this process is; 0 in a program that is no worker."""
    return _here[0] if _here else 0


def keep_to(new_depth: int, threads: int) -> None:
    """Know the depth, and have numerical libraries use `threads` each; 0 leaves them as they are.

    What the program has set in the environment stays. Libraries that are already loaded (with fork) are told
    through threadpoolctl, if that is installed; without it they keep the number that they have.
    """
    _here[:] = [new_depth]
    if not threads:
        return
    for variable in THREAD_VARIABLES:
        if variable not in os.environ:
            os.environ[variable] = str(threads)
    if "numpy" in sys.modules or "torch" in sys.modules:
        _limit_loaded(threads)


def _limit_loaded(threads: int) -> None:
    if any(os.environ.get(variable) != str(threads) for variable in THREAD_VARIABLES):
        # The program has its own mind about it.
        return
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-not-found]
    except ImportError:
        return
    threadpool_limits(threads)
