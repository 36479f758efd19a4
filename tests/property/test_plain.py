"""What `pickle_plain` writes is what pickle reads; what it leaves alone is None."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral._native import pickle_plain
from corral.queues import Queue

atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=400),
    st.binary(max_size=400),
)
plain = st.recursive(atoms, lambda inner: st.lists(inner, max_size=6).map(tuple), max_leaves=20)


@given(plain)
def test_it_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    data = pickle_plain(value)
    if data is not None:
        again = pickle.loads(data)
        assert again == value
        assert repr(again) == repr(value)


@given(plain)
def test_a_queue_gives_back_what_it_was_given(value: Any) -> None:
    queue = Queue()
    queue.put(value)
    again = queue.get()
    assert again == value
    assert repr(again) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        0,
        255,
        256,
        65535,
        65536,
        -1,
        2**31 - 1,
        2**31,
        -(2**31) - 1,
        2**63 - 1,
        -(2**63),
        1e300,
        "é" * 200,
        "a" * 256,
    ],
)
def test_the_edges_of_the_widths(value: Any) -> None:
    data = pickle_plain((value,))
    assert data is not None
    assert pickle.loads(data) == (value,)


class Number(int):
    pass


@pytest.mark.parametrize(
    "value",
    [
        [],
        {},
        set(),
        object(),
        Number(3),
        2**63,
        "\ud800",
        b"x" * 2000,
        bytearray(b"x"),
        1j,
        (((((1,),),),),),
        ([],),
    ],
)
def test_anything_else_is_left_to_pickle(value: Any) -> None:
    assert pickle_plain(value) is None
