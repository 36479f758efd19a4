"""Named segments and deaths: nothing is left of a tree, and nothing is taken from the living."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest

import corral
from corral._launch import segments
from corral.shared_memory import SharedMemory

pytestmark = pytest.mark.slow

PATIENCE_S = 20.0
KILLS = 20

# Makes segments for ever, in a child as well; says so when the first are there.
CREATE_FOR_EVER = """
    import sys, time
    import corral
    from corral.shared_memory import SharedMemory

    def create(prefix, number):
        while True:
            number += 1
            made = SharedMemory(f"{prefix}-{number}", create=True, size=64)
            if number % 2:
                made.unlink()
            if number % 1000 == 2:
                print("made", flush=True)

    if __name__ == "__main__":
        process = corral.Process(target=create, args=(sys.argv[1] + "-child", 0))
        process.start()
        create(sys.argv[1], 0)
"""


def names_of(prefix: str) -> list[str]:
    return [name for name in os.listdir("/dev/shm") if name.startswith(prefix)]


def wait_until_gone(prefix: str) -> list[str]:
    deadline = time.monotonic() + PATIENCE_S
    while names_of(prefix) and time.monotonic() < deadline:
        time.sleep(0.01)
    return names_of(prefix)


def test_nothing_is_left_of_a_tree_that_is_killed_at_any_instant() -> None:
    chance = random.Random(82300)
    for kill in range(KILLS):
        prefix = f"corral-test-kill-{os.getpid()}-{kill}"
        program = [sys.executable, "-c", textwrap.dedent(CREATE_FOR_EVER), prefix]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            if kill % 2:
                process.stdout.readline()
            time.sleep(chance.random() * 0.1)
            process.kill()
        assert wait_until_gone(prefix) == []


def create_then_wait(name: str, ready: int) -> None:
    SharedMemory(name, create=True, size=8)
    os.write(ready, b"!")
    signal.pause()


def test_what_a_killed_child_has_created_stays_with_the_tree() -> None:
    name = f"corral-test-killed-child-{os.getpid()}"
    read, write = os.pipe()
    process = corral.get_context("fork").Process(target=create_then_wait, args=(name, write))
    process.start()
    os.read(read, 1)
    os.close(read)
    os.close(write)
    process.kill()
    process.join()
    SharedMemory(name).unlink()


@pytest.mark.leaks("the new keeper, in the place of the one that was there")
def test_a_killed_keeper_is_replaced_and_told_everything() -> None:
    first = SharedMemory(create=True, size=8)
    assert segments._keeper is not None
    segments._keeper.kill()
    segments._keeper.wait()
    second = SharedMemory(create=True, size=8)
    assert segments._keeper.poll() is None
    first.unlink()
    second.unlink()


KEEPER_KILLED = """
    import sys
    from corral._launch import segments
    from corral.shared_memory import SharedMemory
    SharedMemory(sys.argv[1], create=True, size=8)
    segments._keeper.kill()
    segments._keeper.wait()
"""


def test_the_root_unlinks_what_it_has_made_if_its_keeper_was_killed() -> None:
    name = f"corral-test-no-keeper-{os.getpid()}"
    command = [sys.executable, "-c", textwrap.dedent(KEEPER_KILLED), name]
    assert subprocess.run(command, check=True, capture_output=True).stderr == b""
    assert names_of(name) == []
