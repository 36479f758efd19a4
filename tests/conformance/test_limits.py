"""A worker keeps to its share: threads of numerical libraries, and pools in pools."""

from __future__ import annotations

import os

import pytest

import corral
from corral._worker.limits import MAX_DEPTH, THREAD_VARIABLES, depth

METHODS = ("fork", "forkserver", "spawn")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in THREAD_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def threads(variable: str = "OMP_NUM_THREADS") -> str | None:
    return os.environ.get(variable)


@pytest.mark.parametrize("method", METHODS)
def test_workers_share_the_processors_among_numerical_threads(method: str) -> None:
    expected = max(1, corral.cpu_count() // 2)
    with corral.get_context(method).Pool(2) as pool:  # type: ignore[attr-defined]
        assert pool.map(threads, THREAD_VARIABLES) == [str(expected)] * len(THREAD_VARIABLES)
    assert threads() is None


def test_the_share_can_be_chosen() -> None:
    with corral.Pool(1, blas_threads=7) as pool:
        assert pool.apply(threads) == "7"
    with corral.ProcessPoolExecutor(1, blas_threads=0) as executor:
        assert executor.submit(threads).result() is None
    with pytest.raises(ValueError, match="blas_threads must be a number of threads"):
        corral.Pool(1, blas_threads=-1)


def test_what_the_environment_says_goes_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with corral.Pool(2) as pool:
        assert pool.apply(threads) == "3"


def nest(levels: int) -> int:
    if not levels:
        return depth()
    with corral.Pool(1) as pool:
        inner: int = pool.apply(nest, (levels - 1,))
        return inner


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_pool_may_be_in_a_pools_worker(method: str) -> None:
    with corral.get_context(method).Pool(2) as pool:  # type: ignore[attr-defined]
        assert pool.map(nest, [0, 1, 2]) == [1, 2, 3]


@pytest.mark.slow
def test_pools_in_pools_without_end_are_an_error() -> None:
    with pytest.raises(corral.PoolError, match="would be in the worker of a pool, 8 times over"):
        nest(MAX_DEPTH + 1)
