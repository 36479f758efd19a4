"""What a forked process sends of `__main__` is its relatives' own."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
    import enum
    import corral as mp

    class Item: pass
    class Special(Item):
        def again(self): return Special
    class Wrong(Exception): pass
    class Colour(enum.Enum): RED = 1

    def give(queue):
        queue.put([Item(), Special(), Wrong(), Item, Colour.RED])

    def check(source, target):
        things = source.get()
        known = [type(things[0]) is Item, type(things[1]) is Special, things[4] is Colour.RED]
        target.put((known, things))

    def fail(_):
        raise globals()["Wrong"]

    def same(things):
        kinds = [type(thing) for thing in things[:3]]
        return kinds == [Item, Special, Wrong] and things[3] is Item and things[4] is Colour.RED

    context = mp.get_context("fork")
    first, second = context.Queue(), context.Queue()
    giver = context.Process(target=give, args=(first,))
    taker = context.Process(target=check, args=(first, second))
    giver.start(); taker.start()
    known, things = second.get()
    print(known, same(things))
    giver.join(); taker.join()
    with context.Pool(1) as pool:
        try:
            pool.apply(fail, (1,))
        except Wrong:
            print("caught")
"""


def test_instances_of_a_forked_process_are_of_the_very_classes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "[True, True, True] True\ncaught\n"), done.stderr


AT_EXIT = """
    import os, time
    import corral

    def work(number):
        time.sleep(0.05)
        os.write(1, bytes([48 + number, 32]))

    pool = corral.Pool(2)
    unfinished = pool.map_async(time.sleep, [60] * 9)
    executor = corral.ProcessPoolExecutor(2)
    for number in range(4):
        executor.submit(work, number)
"""


def test_an_executor_drains_at_exit_beside_a_pool_that_does_not() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(AT_EXIT)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, sorted(done.stdout.split()), done.stderr) == (0, list("0123"), "")


INTERRUPTED = """
    import os, signal, time
    import corral

    def work(number):
        if number == 0:
            os.kill(PARENT, signal.SIGINT)
        time.sleep(60)

    PARENT = os.getpid()
    with corral.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(work, number) for number in range(10)]
        for future in futures:
            future.result()
"""


def test_ctrl_c_in_an_executors_block_stops_what_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED)],
        check=False,
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert done.returncode == -2
    assert done.stderr.count("Traceback") == 1


def test_the_inputs_error_comes_after_the_results_before_it() -> None:
    import corral

    def numbers():  # type: ignore[no-untyped-def]  # noqa: ANN202
        yield from range(20)
        raise LookupError("no more")

    with corral.Pool(2) as pool:
        results = pool.imap_unordered(abs, numbers())
        assert sorted(next(results) for _ in range(20)) == list(range(20))
        with pytest.raises(LookupError, match="no more"):
            next(results)
