"""Streams pull as results are taken, hold little, and tell what their input raises in its place."""

from __future__ import annotations

import itertools
import resource
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import tasks

import corral

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def pool() -> Iterator[corral.Pool]:
    with corral.Pool(2) as made:
        yield made


WAYS: list[Callable[..., Any]] = [
    lambda pool, items, **how: pool.imap(tasks.identity, items, **how),
    lambda pool, items, **how: pool.imap_unordered(tasks.identity, items, **how),
    lambda pool, items, **how: pool.stream(tasks.identity, items, **how),
    lambda pool, items, **how: pool.stream(tasks.identity, items, ordered=True, **how),
]


@pytest.mark.parametrize("way", WAYS)
def test_an_endless_input_is_pulled_no_further_than_asked(pool: corral.Pool, way: Any) -> None:
    pulled = 0

    def source() -> Iterator[int]:
        nonlocal pulled
        while True:
            pulled += 1
            yield pulled

    taken = list(itertools.islice(way(pool, source(), buffersize=20), 500))
    assert len(set(taken)) == 500
    assert pulled <= 500 + 20 + 1


@pytest.mark.parametrize("way", WAYS)
def test_what_the_input_raises_comes_in_its_place(pool: corral.Pool, way: Any) -> None:
    def source() -> Iterator[int]:
        yield from range(10)
        raise OSError("the input broke")

    iterator, taken = way(pool, source()), []
    with pytest.raises(OSError, match="the input broke"):
        taken.extend(iterator)
    # In place if ordered; else whenever it comes, and the rest after it.
    taken += iterator
    assert sorted(taken) == list(range(10))


@pytest.mark.slow
def test_the_parents_memory_stays_flat(pool: corral.Pool) -> None:
    items = (bytes(1000) for _ in itertools.count())
    stream = pool.stream(len, items)
    for _ in itertools.islice(stream, 20_000):
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in itertools.islice(stream, 100_000):
        pass
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 20_000  # the items were 100 MB
