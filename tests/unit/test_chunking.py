"""The size of the next chunk: small probes, then the goal, then a fair share of what is left."""

from __future__ import annotations

import pytest

from corral._engine.chunking import GROWTH, MAX_CHUNK_NS, MIN_CHUNK_NS, SHARE, Chunker

MS = 1_000_000


def drain(items: int, workers: int, item_ns: int) -> list[int]:
    """Sizes of all chunks of a map whose items all take `item_ns`."""
    chunker, sizes, left = Chunker(workers), [], items
    while left:
        size = min(left, chunker.next_size(left))
        sizes.append(size)
        left -= size
        chunker.measured(size, size * item_ns)
    return sizes


def test_nothing_known_means_one_item() -> None:
    assert Chunker(2).next_size(1_000_000) == 1


def test_a_fixed_size_stays_fixed() -> None:
    chunker = Chunker(2, 7)
    chunker.measured(7, 10**12)
    assert chunker.next_size(3) == 7


def test_long_items_travel_alone() -> None:
    assert drain(10, 2, 1000 * MS) == [1] * 10


def test_a_million_tiny_items_need_few_chunks() -> None:
    assert len(drain(1_000_000, 2, 60)) < 200


def test_a_chunk_lasts_at_most_the_longest_goal() -> None:
    assert max(size * 25_000 for size in drain(1_000_000, 2, 25_000)) <= MAX_CHUNK_NS


def test_growth_is_bounded_by_what_was_measured() -> None:
    chunker = Chunker(2)
    chunker.measured(1, 10)
    assert chunker.next_size(10**9) <= GROWTH


@pytest.mark.parametrize("workers", [1, 2, 16])
def test_no_chunk_exceeds_a_fair_share(workers: int) -> None:
    left = 10_000
    for size in drain(left, workers, 1_000):
        assert size <= -(-left // (SHARE * workers))
        left -= size


def test_a_slower_item_shrinks_the_next_chunk() -> None:
    chunker = Chunker(1)
    chunker.measured(100, 100 * MIN_CHUNK_NS)
    before = chunker.next_size(10**6)
    chunker.measured(1, 1000 * MS)
    assert chunker.next_size(10**6) < max(2, before)


@pytest.mark.parametrize(("items", "elapsed"), [(0, 5), (-1, 5), (3, 0)])
def test_odd_measurements_do_no_harm(items: int, elapsed: int) -> None:
    chunker = Chunker(2)
    chunker.measured(items, elapsed)
    assert chunker.next_size(None) >= 1
