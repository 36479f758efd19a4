"""Ctrl-C reaches every process of the group at once, also one that is only just starting."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

INTERRUPTED_STARTS = """
    import os, signal, sys, time
    import corral

    method = sys.argv[1]
    interrupts = 0

    def count(*_):
        global interrupts
        interrupts += 1

    signal.signal(signal.SIGINT, count)
    for turn in range(12):
        with corral.get_context(method).Pool(2) as pool:
            time.sleep(turn * 0.001)  # another moment of the start each time
            os.killpg(0, signal.SIGINT)
            assert pool.map(abs, range(-3, 0)) == [3, 2, 1]
        pool.join()
    print(interrupts)
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_workers_leave_ctrl_c_to_the_parent_from_their_first_moment(method: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED_STARTS), method],
        check=False,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "12\n", "")


INTERRUPTED_MAP = """
    import os, signal, sys, time
    import corral

    def work(number):
        if number == 6:
            os.kill(PARENT, signal.SIGINT)
            time.sleep(60)
        return number * number

    PARENT = os.getpid()
    pool = corral.get_context(sys.argv[1]).Pool(1)
    try:
        pool.map(work, range(100), chunksize=2)
    except KeyboardInterrupt as interrupt:
        print(sorted(interrupt.results.items()))
    pool.terminate()
    pool.join()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_what_a_map_had_done_is_on_the_interrupt(method: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED_MAP), method],
        check=False,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    expected = [(number, number * number) for number in range(6)]
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{expected}\n", "")
