"""What a signal's handler raises while the engine is at work is its caller's, and no task's outcome."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from corral.futures import ProcessPoolExecutor
from corral.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterator

_pending: list[int] = []


class Interruption(BaseException):
    """As KeyboardInterrupt, but nobody else's."""


class Trigger:
    """Sends this process a signal, once, when an answer that holds it is being loaded."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return rebuild, (self.value,)


def rebuild(value: int) -> Trigger:
    if _pending:  # never in a worker
        _pending.clear()
        signal.raise_signal(signal.SIGUSR1)
    return Trigger(value)


def make(value: int) -> Trigger:
    return Trigger(value)


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    def interrupt(_signum: int, _frame: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGUSR1, interrupt)
    _pending[:] = [1]
    yield
    signal.signal(signal.SIGUSR1, before)


def test_a_future_keeps_its_value() -> None:
    with ProcessPoolExecutor(1) as executor:
        futures = [executor.submit(make, x) for x in range(5)]
        with pytest.raises(Interruption):
            [future.result(30) for future in futures]
        assert [future.result(30).value for future in futures] == list(range(5))


@pytest.mark.parametrize("chunksize", [1, 10, None])
def test_a_map_keeps_its_values(chunksize: int | None) -> None:
    with Pool(1) as pool:
        result = pool.map_async(make, range(20), chunksize)
        with pytest.raises(Interruption):
            result.get(30)
        assert [made.value for made in result.get(30)] == list(range(20))


def test_a_lazy_map_goes_on() -> None:
    with Pool(1) as pool:
        iterator = pool.imap(make, range(20), chunksize=2)
        with pytest.raises(Interruption):
            iterator.next(30)
        assert [made.value for made in iterator] == list(range(20))
