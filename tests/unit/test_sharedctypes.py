"""Values and arrays in one process; between processes in `tests/conformance`, deaths in `tests/faults`."""

from __future__ import annotations

import array
import copy as copying
import ctypes
import gc
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import corral
from corral import sharedctypes
from corral._launch import heap
from corral.sharedctypes import Array, RawArray, RawValue, Value, copy, synchronized


class Point(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int), ("y", ctypes.c_double)]


class Named(Point):
    _fields_ = [("name", ctypes.c_char * 8)]


class Either(ctypes.Union):
    _fields_ = [("whole", ctypes.c_uint64), ("halves", ctypes.c_uint32 * 2)]


class CountingLock:
    """Counts how often it was taken, and says whether it is held."""

    def __init__(self) -> None:
        self.taken = 0
        self.held = False

    def acquire(self, *_: object) -> bool:
        assert not self.held
        self.taken += 1
        self.held = True
        return True

    def release(self) -> None:
        assert self.held
        self.held = False

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


INTEGERS = "bBhHiIlLqQ"
EXAMPLES: list[tuple[Any, Any, Any]] = [
    *((code, 100, 7) for code in INTEGERS),
    *((code, -100, -7) for code in "bhilq"),
    ("f", 1.5, -0.25),
    ("d", 1e300, -1.5),
    ("c", b"x", b"y"),
    ("u", "x", "ä"),
    (ctypes.c_bool, True, False),
    (ctypes.c_longdouble, 1.5, 2.5),
    (ctypes.c_int.__ctype_be__, 258, 7),
    (ctypes.c_size_t, 2**63, 1),
]


@pytest.mark.parametrize(("kind", "first", "second"), EXAMPLES)
def test_a_value_of_every_type_is_what_it_is_set_to(kind: Any, first: Any, second: Any) -> None:
    for made in (Value(kind, first), RawValue(kind, first)):
        assert made.value == first
        assert type(made.value) is type(first)
        made.value = second
        assert made.value == second


@pytest.mark.parametrize(("kind", "first", "second"), EXAMPLES)
def test_an_array_of_every_type_holds_its_items(kind: Any, first: Any, second: Any) -> None:
    for made in (Array(kind, [first, second, first]), RawArray(kind, [first, second, first])):
        assert [made[0], made[1], made[-1]] == [first, second, first]
        made[-1] = second
        assert list(made) == [first, second, second]
        assert len(made) == 3


@pytest.mark.parametrize("code", [*INTEGERS, ctypes.c_bool, "f", "d"])
@pytest.mark.parametrize(
    "given", [0, 1, -1, 127, 128, 300, 2**31, 2**32 - 1, 2**63, 2**64 + 5, 10**30, 1.5, True]
)
def test_a_number_is_taken_or_refused_as_ctypes_does(code: Any, given: Any) -> None:
    ours = Value(code)
    theirs = ours.get_obj().__class__()
    for target in (ours, theirs):
        try:
            target.value = given
        except (TypeError, OverflowError) as error:
            outcome: Any = type(error)
        else:
            outcome = target.value
        if target is ours:
            found = outcome
    assert outcome == found


@pytest.mark.parametrize("code", ["i", "d", "c", "u", ctypes.c_bool])
def test_an_array_is_indexed_as_ctypes_does(code: Any) -> None:
    ours, theirs = Array(code, 4), RawArray(code, 4)
    for index in (
        0,
        3,
        -1,
        -4,
        4,
        -5,
        10**30,
        slice(1, 3),
        slice(None, None, 2),
        "0",
        1.0,
        None,
        True,
        np.int64(2),
    ):
        outcomes = []
        for target in (ours, theirs):
            try:
                outcomes.append(target[index])
            except (IndexError, TypeError) as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1], index


def test_slices_are_read_and_written() -> None:
    made = Array("i", range(6))
    assert made[1:4] == [1, 2, 3]
    made[2:4] = array.array("i", [20, 30])
    made[:2] = (0, 10)
    assert made[:] == [0, 10, 20, 30, 4, 5]
    with pytest.raises(ValueError, match="same size"):
        made[:2] = [1]


def test_memory_is_zeroed_though_it_was_used_before() -> None:
    for _ in range(3):
        made = Array("i", 10)
        assert list(made) == [0] * 10
        made[:] = range(1, 11)
        single = Value("q")
        assert single.value == 0
        single.value = -1
        del made, single


def test_an_array_may_be_empty_but_not_of_negative_size() -> None:
    assert list(Array("i", 0)) == []
    assert list(Array("d", [])) == []
    with pytest.raises(ValueError, match="must be >= 0"):
        Array("i", -1)


def test_what_is_no_type_or_does_not_fit_it_is_a_type_error() -> None:
    for wrong in ("z", "", "int", int):
        with pytest.raises(TypeError):
            Value(wrong)
    with pytest.raises(TypeError):
        Value("i", "text")
    with pytest.raises(TypeError):
        Array("i", ["text"])
    with pytest.raises(TypeError):
        Array("i", 1.5)


def test_a_string_has_its_value_and_its_raw_bytes() -> None:
    made = Array("c", 8)
    made.value = b"hello"
    assert (made.value, made.raw, made[0], made[:2]) == (b"hello", b"hello\0\0\0", b"h", b"he")
    made.raw = b"12345678"
    assert made.value == b"12345678"
    with pytest.raises(ValueError, match="too long"):
        made.value = b"123456789"
    assert isinstance(made, sharedctypes.SynchronizedString)


def test_a_structure_has_its_fields_also_those_it_inherits() -> None:
    made = Value(Named, 3, 2, b"name")
    assert (made.x, made.y, made.name) == (3, 2.0, b"name")
    made.x *= 2
    assert made.get_obj().x == 6
    assert type(made).__name__ == "SynchronizedNamed"
    assert type(Value(Named)) is type(made)
    union = Value(Either)
    union.whole = 1 << 32
    assert list(union.halves) == [0, 1]
    points = Array(Point, [(1, 2.0), (3, 4.0)])
    assert points[1].y == 4.0


def test_every_access_is_under_the_lock() -> None:
    lock: Any = CountingLock()
    number, items, text = Value("i", lock=lock), Array("d", 3, lock=lock), Array("c", 3, lock=lock)
    fields = Value(Point, lock=lock)
    accesses = (
        lambda: number.value,
        lambda: setattr(number, "value", 1),
        lambda: number.add(1),
        lambda: items[0],
        lambda: items[:],
        lambda: items.__setitem__(0, 1.5),
        lambda: items.__setitem__(0, 1),
        lambda: next(iter(items)),
        lambda: text.value,
        lambda: setattr(text, "raw", b"abc"),
        lambda: fields.x,
        lambda: setattr(fields, "y", 1.0),
    )
    for access in accesses:
        before = lock.taken
        access()
        assert (lock.taken, lock.held) == (before + 1, False)


def test_the_lock_is_released_when_an_access_fails() -> None:
    lock: Any = CountingLock()
    number, items = Value("i", lock=lock), Array("i", 2, lock=lock)
    with pytest.raises(TypeError):
        number.value = "text"
    with pytest.raises(IndexError):
        items[2]
    with pytest.raises(TypeError):
        number.add("text")
    assert (lock.taken, lock.held) == (3, False)


def test_the_wrapper_gives_out_its_lock_and_its_object() -> None:
    lock = threading.RLock()
    made = Value("i", 5, lock=lock)
    assert made.get_lock() is lock
    assert isinstance(made.get_obj(), ctypes.c_int)
    with made:
        made.value += 1
    assert made.acquire()
    made.release()
    assert made.get_obj().value == 6
    assert repr(made) == "<Synchronized wrapper for c_int(6)>"


@pytest.mark.parametrize("make", [lambda lock: Value("i", lock=lock), lambda lock: Array("i", 2, lock=lock)])
def test_the_lock_may_be_made_given_or_left_out(make: Any) -> None:
    for lock in (True, None):
        assert hasattr(make(lock).get_lock(), "acquire")
        assert make(lock).get_lock() is not make(lock).get_lock()
    for lacking in ("get_lock", "get_obj", "acquire"):
        assert not hasattr(make(False), lacking)
    with pytest.raises(AttributeError, match="'notalock' has no method 'acquire'"):
        make("notalock")


def test_a_wrapper_is_not_wrapped_again_but_any_ctypes_object_is() -> None:
    made = Value("i")
    with pytest.raises(AssertionError, match="object already synchronized"):
        synchronized(made)
    wrapped: Any = synchronized(ctypes.c_double(1.5))
    wrapped.value += 1
    assert wrapped.value == 2.5


def test_a_copy_is_another_object_in_shared_memory() -> None:
    point = Point(2, 5.0)
    made = copy(point)
    point.x = 0
    assert (made.x, made.y) == (2, 5.0)
    assert copy(RawArray("i", [1, 2]))[:] == [1, 2]


def test_adding_is_one_step_and_gives_the_new_value() -> None:
    number = Value("i", 5)
    assert (number.add(3), number.add(-10), number.value) == (8, -2, -2)
    assert Value("d", 1.5).add(1) == 2.5
    assert Value("B", 255).add(1) == 0
    assert Value("Q", 2**64 - 2).add(1) == 2**64 - 1

    def count() -> None:
        for _ in range(1000):
            number.add(1)

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert number.value == 1998


def test_numpy_sees_the_memory_itself() -> None:
    for made in (Array("d", range(3)), RawArray("d", range(3))):
        view = np.asarray(made)
        assert (view.dtype, view.shape) == (np.float64, (3,))
        view[0] = 9
        made[1] = 8
        assert (made[0], view[1]) == (9, 8)
    number = Value("i", 5)
    scalar = np.asarray(number)
    assert (scalar.shape, scalar.dtype) == ((), np.int32)
    scalar[()] = 6
    assert number.value == 6
    table = np.asarray(Array(ctypes.c_int * 3, 2))
    assert table.shape == (2, 3)


def test_a_view_keeps_the_memory() -> None:
    before = heap().stats()["bytes_used"]
    made = Array("q", 1 << 16)
    view = np.asarray(made)
    del made
    gc.collect()
    assert heap().stats()["bytes_used"] >= before + (8 << 16)
    view[:] = 1
    assert view.sum() == 1 << 16
    del view
    gc.collect()
    assert heap().stats()["bytes_used"] < before + (8 << 16)


def test_outside_of_a_launch_a_value_is_not_pickled() -> None:
    for made in (Value("i"), Array("i", 3), Value(Point)):
        with pytest.raises(RuntimeError, match="should only be shared between processes through inheritance"):
            pickle.dumps(made)


def test_outside_of_a_launch_raw_objects_are_copied_as_ctypes_does() -> None:
    number, items = RawValue("i", 7), RawArray("i", [1, 2])
    for made in (pickle.loads(pickle.dumps(number)), copying.copy(number), copying.deepcopy(number)):
        made.value += 1
        assert (made.value, number.value) == (8, 7)
    assert list(copying.deepcopy(items)) == [1, 2]
    assert pickle.loads(pickle.dumps(ctypes.c_int(3))).value == 3


def test_memory_that_leads_nowhere_is_an_error() -> None:
    from corral import _native

    for ref in (0, 1 << 62, 2**64 - 1):
        with pytest.raises(ValueError, match=r"reference|block|no such"):
            _native.Stretch.attach(heap(), ref)


def test_the_names_are_found_where_the_standard_library_has_them() -> None:
    for owner in (corral, corral.get_context("fork"), corral.sharedctypes):
        for name in ("Value", "Array", "RawValue", "RawArray"):
            assert callable(getattr(owner, name))
    assert corral.Value("i", 3, lock=False).value == 3
    assert list(corral.get_context("spawn").RawArray("i", 2)) == [0, 0]
