"""Messages: complete in themselves, large buffers apart, errors as pickle has them."""

from __future__ import annotations

import pickle

import pytest

from corral._channel.messages import Encoder, decode
from corral._codec._pickler import MIN_BUFFER_BYTES
from corral._native import Heap, pack
from corral.errors import EncodeError


@pytest.mark.parametrize(
    "value", [None, 7, "text", b"bytes", (1, [2.5]), [b"x" * 2000], {"a": {1, 2}}, range(3)]
)
def test_what_is_small_comes_back_from_the_payload_alone(value: object) -> None:
    payload, buffers = Encoder().encode(value)
    assert not buffers
    assert decode(payload) == value


def test_large_bytes_travel_beside_the_payload() -> None:
    large = bytes(MIN_BUFFER_BYTES * 2)
    payload, buffers = Encoder().encode((large, 1))
    assert len(payload) < MIN_BUFFER_BYTES
    heap = Heap.create(1 << 20)
    assert decode(pack(heap, payload, buffers)) == (large, 1)


def test_long_bytes_are_neither_copied_into_a_pickle_nor_anything_but_a_pickle() -> None:
    large = bytes(range(256)) * 100
    payload, buffers = Encoder().encode(large)
    assert buffers[0] is large
    assert pickle.loads(payload, buffers=buffers) == large
    received = decode(pack(Heap.create(1 << 20), payload, buffers))
    assert received == large
    assert type(received) is bytes


def test_a_lambda_carries_what_it_needs() -> None:
    encoder = Encoder()
    for _ in range(2):  # each message anew: nobody knows who has received the first
        payload, _ = encoder.encode(lambda x: x + 1)
        assert decode(payload)(1) == 2


def test_what_cannot_be_pickled_is_refused_by_name() -> None:
    with pytest.raises(EncodeError, match="generator"):
        Encoder().encode([(n for n in ())])


class Stubborn:
    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("no number",)


def test_what_rebuilding_raises_is_seen_as_it_is() -> None:
    payload, _ = Encoder().encode(Stubborn())
    with pytest.raises(ValueError, match="no number") as caught:
        decode(payload)
    assert not isinstance(caught.value, pickle.UnpicklingError)
