"""Whatever is sent through a connection comes out as it was, of the same type."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corral.connection import Connection, Pipe

if TYPE_CHECKING:
    from collections.abc import Iterator

ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**63) - 2, 2**63 + 2),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(max_size=300),
)
QUICKLY = settings(max_examples=50, deadline=None)
VALUES = st.recursive(
    ATOMS, lambda parts: st.tuples(parts, parts) | st.lists(parts, max_size=3), max_leaves=6
)


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Connection, Connection]]:
    first, second = Pipe()
    with first, second:
        yield first, second


@QUICKLY
@given(value=VALUES)
@example(value="\ud800")
@example(value=-0.0)
def test_values_come_back_as_they_were(pair: tuple[Connection, Connection], value: Any) -> None:
    pair[0].send(value)
    received = pair[1].recv()
    assert type(received) is type(value)
    assert repr(received) == repr(value)


@QUICKLY
@given(value=VALUES)
def test_a_pickle_sent_as_bytes_is_an_object_and_the_other_way_round(
    pair: tuple[Connection, Connection], value: Any
) -> None:
    pair[0].send_bytes(pickle.dumps(value, 5))
    assert repr(pair[1].recv()) == repr(value)
    pair[0].send(value)
    assert repr(pickle.loads(pair[1].recv_bytes())) == repr(value)


@QUICKLY
@given(messages=st.lists(st.binary(max_size=9000), max_size=8))
def test_bytes_come_back_in_order(pair: tuple[Connection, Connection], messages: list[bytes]) -> None:
    for message in messages:
        pair[1].send_bytes(message)
    assert [pair[0].recv_bytes() for _ in messages] == messages
    assert not pair[0].poll()
