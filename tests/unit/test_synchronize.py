"""`corral.synchronize`: where its objects lie, and what leads to them."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import pytest

import corral as mp
from corral import _native, synchronize
from corral._launch import heap

KINDS = ("Lock", "RLock", "Semaphore", "BoundedSemaphore", "Event", "Condition")


def blocks() -> int:
    gc.collect()
    return heap().stats()["blocks_used"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_dropped_is_given_back(kind: str) -> None:
    keep = getattr(mp, kind)()
    before = blocks()
    many = [getattr(mp, kind)() for _ in range(200)]
    assert blocks() > before
    del many
    assert blocks() <= before
    del keep


def test_a_barriers_room_grows_with_its_parties_and_is_given_back() -> None:
    before = blocks()
    barrier = mp.Barrier(10_000)
    assert (barrier.parties, blocks()) == (10_000, before + 1)
    del barrier
    assert blocks() == before


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "Event"])
def test_two_objects_for_one_place_are_one(kind: str) -> None:
    one: Any = getattr(mp, kind)()
    other: Any = type(one).__new__(type(one))
    other._open(one._heap, one._ref)
    if kind == "Event":
        one.set()
        assert other.is_set()
        return
    one.acquire()
    assert other.locked()
    other.release()
    assert not one.locked()


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [("Lock", ()), ("RLock", ()), ("Semaphore", ()), ("Event", ()), ("Condition", (None,)), ("Barrier", ())],
)
def test_references_that_lead_nowhere_or_to_something_else_are_refused(
    kind: str, arguments: tuple[None, ...]
) -> None:
    other: Any = mp.Event() if kind == "Lock" else mp.Lock()
    for ref in (0, 1 << 40, (1 << 64) - 1, other._ref):
        found = getattr(_native, kind)()
        with pytest.raises(ValueError, match=r"no such object|damaged"):
            found._open(heap(), ref, *arguments)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "Event", "Condition", "Barrier"])
def test_nothing_is_initialised_twice_or_used_before(kind: str) -> None:
    native: Any = getattr(_native, kind)()
    with pytest.raises(ValueError, match="not initialised"):
        native._ref  # noqa: B018
    made: Any = mp.Barrier(1) if kind == "Barrier" else getattr(mp, kind)()
    arguments = (mp.Lock(),) if kind == "Condition" else ()
    with pytest.raises(ValueError, match="initialised already"):
        made._open(made._heap, None, *arguments)


def test_locks_and_semaphores_are_semlocks() -> None:
    locks = (mp.Lock(), mp.RLock(), mp.Semaphore(), mp.BoundedSemaphore())
    assert all(isinstance(lock, synchronize.SemLock) for lock in locks)
    assert [lock._semlock.kind for lock in locks] == [1, 0, 1, 1]


def test_a_condition_shows_its_lock_and_its_waiters() -> None:
    condition = mp.Condition()
    assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"
    assert condition._sleeping_count.get_value() - condition._woken_count.get_value() == 0


def test_a_program_ends_although_a_thread_waits() -> None:
    program = """
import threading, corral
for wait in (corral.Semaphore(0).acquire, corral.Event().wait, corral.Barrier(2).wait):
    threading.Thread(target=wait, daemon=True).start()
print("over")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "over\n", "")
