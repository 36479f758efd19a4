"""Values and deaths: whoever is killed wherever, the others go on, and every number is a whole one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

import corral

METHODS = ("fork", "forkserver", "spawn")
ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "target" / "fault" / "overlay"
KILLS = 200
CROWD = 3


def count_for_ever(total: Any, done: Any, wide: Any, mine: int) -> None:
    while True:
        with total.get_lock():
            total.value += 1
            done[mine] += 1
        total.add(0)
        # Two halves that belong together: a torn number would show.
        n = done[mine] & 0xFFFF
        wide[mine] = n << 32 | n


def start_one(total: Any, done: Any, wide: Any, mine: int) -> Any:
    process = corral.get_context("fork").Process(target=count_for_ever, args=(total, done, wide, mine))
    process.start()
    return process


@pytest.mark.slow
def test_counters_stay_consistent_when_processes_are_killed_at_any_instant() -> None:
    chance = random.Random(200)
    total = corral.Value("q", 0, lock=corral.RLock(on_owner_death="ignore"))
    # An item for each life, since a child's last step may be half done.
    done, wide = corral.RawArray("q", KILLS + CROWD), corral.Array("Q", KILLS + CROWD, lock=False)
    children = [start_one(total, done, wide, life) for life in range(CROWD)]
    for life in range(CROWD, KILLS + CROWD):
        chosen = chance.randrange(CROWD)
        time.sleep(chance.random() * 0.004)
        children[chosen].kill()
        children[chosen].join()
        children[chosen] = start_one(total, done, wide, life)
        with total.get_lock():
            ahead = total.value - sum(done)
        # Whoever was killed between the two additions had done one of them.
        assert 0 <= ahead <= life - CROWD + 1
    before = total.value
    while total.value == before:
        os.sched_yield()
    for child in children:
        child.kill()
        child.join()
    assert all(number >> 32 == number & 0xFFFF for number in wide)


def hold_for_ever(number: Any, ready: Any) -> None:
    number.acquire()
    number.value = 41
    ready.release()
    while True:
        time.sleep(60)


@pytest.mark.parametrize("method", METHODS)
def test_the_lock_of_a_dead_holder_is_granted_with_a_warning(method: str) -> None:
    context = corral.get_context(method)
    number, ready = context.Value("i", 0), context.Lock()
    ready.acquire()
    process = context.Process(target=hold_for_ever, args=(number, ready))
    process.start()
    ready.acquire()
    process.kill()
    process.join()
    with pytest.warns(RuntimeWarning, match=f"process {process.pid} died while it held this lock"):
        assert number.add(1) == 42
    assert number.value == 42


def hold_and_die(items: Any) -> None:
    items.acquire()
    os._exit(1)


def test_an_array_whose_holder_died_is_read_and_written() -> None:
    items = corral.Array("d", 3, lock=corral.RLock(on_owner_death="ignore"))
    process = corral.get_context("fork").Process(target=hold_and_die, args=(items,))
    process.start()
    process.join()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        items[1] = 2.5
    assert list(items) == [0.0, 2.5, 0.0]


def test_an_error_instead_of_the_lock_leaves_it_free() -> None:
    items = corral.Array("d", 3, lock=corral.RLock(on_owner_death="raise"))
    process = corral.get_context("fork").Process(target=hold_and_die, args=(items,))
    process.start()
    process.join()
    with pytest.raises(corral.OwnerDied):
        items[0] = 1.0
    with pytest.raises(corral.LockPoisoned):
        items[0]
    items.get_lock().clear_poison()
    assert items[0] == 0.0


@pytest.mark.slow
@pytest.mark.skipif(not OVERLAY.exists(), reason="made by `make fault-build`")
def test_kills_at_each_step() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{OVERLAY}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "tests.support.values"]
    ended = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "", f"nobody was killed: {ended.stdout}"
