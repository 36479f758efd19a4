"""What `multiprocessing.sharedctypes` promises, between processes, for each start method."""

from __future__ import annotations

import array
import ctypes
import gc
import multiprocessing
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import corral
from corral.sharedctypes import Array, RawArray, RawValue, Value

METHODS = ("fork", "forkserver", "spawn")


class Foo(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double), ("z", ctypes.c_longlong)]


CODES_VALUES = [
    ("i", 4343, 24234),
    ("d", 3.625, -4.25),
    ("h", -232, 234),
    ("q", 2**33, 2**34),
    ("c", b"x", b"y"),
    ("u", "x", "y"),
    (ctypes.c_bool, False, True),
]


def run_child(method: str, target: Any, *arguments: Any) -> None:
    process = corral.get_context(method).Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def set_all(values: list[Any]) -> None:
    for value, (_, first, second) in zip(values, CODES_VALUES, strict=True):
        assert value.value == first
        value.value = second


def double(number: Any, structure: Any, items: Any, text: Any) -> None:
    number.value *= 2
    structure.x *= 2
    structure.y *= 2
    for index in range(len(items)):
        items[index] *= 2
    text.value *= 2


def count(number: Any, items: Any, times: int) -> None:
    for _ in range(times):
        with number.get_lock():
            number.value += 1
        items[1] = items[1]
        number.add(1)


def pass_on(number: Any) -> None:
    run_child("forkserver", increment, number)
    number.value += 1


def increment(number: Any) -> None:
    number.value += 1


def fill(items: Any, gate: Any) -> None:
    gate.acquire()
    view = np.asarray(items)
    assert not view.any()
    view[:] = 7
    assert (np.asarray(items) == 7).all()


def append_range(seq: Any) -> None:
    for i in range(1, len(seq)):
        seq[i] += seq[i - 1]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_child_sets_values(method: str, raw: bool) -> None:
    context = corral.get_context(method)
    make = context.RawValue if raw else context.Value
    values = [make(code, first) for code, first, _ in CODES_VALUES]
    run_child(method, set_all, values)
    assert [value.value for value in values] == [second for _, _, second in CODES_VALUES]


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_child_changes_an_array(method: str, raw: bool) -> None:
    context = corral.get_context(method)
    seq = [680, 626, 934, 821, 150, 233, 548, 982, 714, 831]
    arr = context.RawArray("i", seq) if raw else context.Array("i", seq)
    assert list(arr[2:7]) == seq[2:7]
    arr[4:8] = seq[4:8] = array.array("i", [1, 2, 3, 4])
    append_range(seq)
    run_child(method, append_range, arr)
    assert list(arr[:]) == seq


@pytest.mark.parametrize("lock", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_structures_and_strings_are_shared(method: str, lock: bool) -> None:
    number, structure = Value(ctypes.c_longlong, 2**33, lock=lock), Value(Foo, 3, 2, lock=lock)
    items, text = Array("d", range(10), lock=lock), Array("c", 20, lock=lock)
    text.value = b"hello"
    run_child(method, double, number, structure, items, text)
    assert (number.value, structure.x, structure.y, text.value) == (2**34, 6, 4.0, b"hellohello")
    assert list(items) == [2.0 * i for i in range(10)]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_lost_when_processes_count_together(method: str) -> None:
    context = corral.get_context(method)
    number, items = context.Value("q", 0), context.Array("q", 3)
    children = [context.Process(target=count, args=(number, items, 5000)) for _ in range(2)]
    for child in children:
        child.start()
    count(number, items, 5000)
    for child in children:
        child.join()
    assert number.value == 3 * 2 * 5000


@pytest.mark.parametrize("method", METHODS)
def test_a_child_may_pass_on_what_it_was_given(method: str) -> None:
    number = Value("i", 5)
    run_child(method, pass_on, number)
    assert number.value == 7


@pytest.mark.parametrize("size", [10, 10_000])
@pytest.mark.parametrize("method", METHODS)
def test_what_the_creator_drops_is_not_used_again_while_a_child_uses_it(method: str, size: int) -> None:
    context = corral.get_context(method)
    gate = context.Lock()
    gate.acquire()
    process = context.Process(target=fill, args=(context.Array("i", size), gate))
    process.start()
    gc.collect()
    later = [RawArray("i", size) for _ in range(20)]
    for made in later:
        made[:] = [1] * size
    gate.release()
    process.join()
    assert process.exitcode == 0
    assert all(made[:] == [1] * size for made in later)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_standard_librarys_processes_take_our_values(method: str) -> None:
    context = multiprocessing.get_context(method)
    number, items, raw = Value("i", 3), Array("d", 3), RawValue("i", 7)
    structure, text = Value(Foo, 3, 2), Array("c", 20)
    text.value = b"a"
    process = context.Process(target=double, args=(number, structure, items, text))
    process.start()
    process.join()
    assert (process.exitcode, number.value, structure.x, text.value) == (0, 6, 6, b"aa")
    process = context.Process(target=increment, args=(raw,))
    process.start()
    process.join()
    assert (process.exitcode, raw.value) == (0, 8)
    if method == "spawn":
        from multiprocessing import resource_tracker

        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def test_a_forked_process_of_the_programs_own_shares_values() -> None:
    number = Value("i", 3)
    pid = os.fork()
    if pid == 0:
        number.value += 1
        os._exit(0)
    os.waitpid(pid, 0)
    assert number.value == 4


def test_a_pool_gets_values_by_its_initializer() -> None:
    number = Value("i", 0)
    with corral.Pool(2, initializer=remember, initargs=(number,)) as pool:
        pool.map(add_to_remembered, range(100))
    assert number.value == sum(range(100))


@pytest.mark.parametrize("lock", [False, True])
def test_a_pools_task_cannot_carry_a_value(lock: bool) -> None:
    with corral.Pool(1) as pool, pytest.raises(corral.EncodeError, match="through inheritance"):
        pool.apply(increment, (Value("i", 0, lock=lock),))


remembered: Any = None


def remember(number: Any) -> None:
    global remembered  # noqa: PLW0603
    remembered = number


def add_to_remembered(n: int) -> None:
    remembered.add(n)


@pytest.mark.slow
def test_structures_of_a_script_are_shared() -> None:
    program = """
        import ctypes
        import corral as mp

        class Point(ctypes.Structure):
            _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]

        def move(point, points):
            point.x += 1
            points[1].y = 5.0

        point, points = mp.Value(Point, 1, 2.0), mp.Array(Point, [(1, 2.0), (3, 4.0)])
        process = mp.Process(target=move, args=(point, points))
        process.start()
        process.join()
        print(point.x, points[1].y)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ("2 5.0\n", "")


@pytest.mark.slow
def test_the_reference_pages_program_does_what_it_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "sharedctypes.md"
    (program,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
