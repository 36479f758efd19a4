"""Whatever goes in comes out: data, shared structure, closures, calls, failures."""

from __future__ import annotations

import pickle
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from corral import _codec as codec
from corral._codec import _frames

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
keys = st.integers() | st.text() | st.binary() | st.tuples(st.integers(), st.text())
large = st.integers(0, 255).map(lambda byte: bytes([byte]) * 20_000)
data = st.recursive(
    scalars | large | st.sets(st.integers(), max_size=5) | st.builds(bytearray, st.binary()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)
examples = settings(max_examples=60, deadline=None)


def copied(buffers: Any) -> list[memoryview]:
    return [memoryview(bytes(buffer)) for buffer in buffers]


def types_of(obj: Any) -> Any:
    """The types of an object and of what is in it: 1, True and 1.0 are equal."""
    if isinstance(obj, dict):
        return [(types_of(key), types_of(value)) for key, value in obj.items()]
    return (type(obj), [types_of(item) for item in obj] if isinstance(obj, (list, tuple)) else None)


def ways(obj: object) -> list[Any]:
    task = codec.encode(obj)
    reply = codec.encode_reply(obj)
    return [
        codec.decode(task.payload, copied(task.buffers)),
        codec.decode(memoryview(reply.payload), copied(reply.buffers)),
        codec.unbundle(codec.bundle(obj)),
    ]


@examples
@given(data)
def test_data(obj: object) -> None:
    for back in ways(obj):
        assert back == obj
        assert types_of(back) == types_of(obj)


@examples
@given(st.lists(data, max_size=3).map(tuple), st.dictionaries(st.text(), data, max_size=2))
def test_calls(args: tuple[object, ...], kwargs: dict[str, object]) -> None:
    for back in ways((args, kwargs)):
        assert back == (args, kwargs)


@examples
@given(data)
def test_plain_means_what_pickle_alone_can_do(obj: object) -> None:
    if _frames.is_plain(obj):
        assert b"__main__" not in pickle.dumps(obj) or "__main__" in repr(obj)
        assert codec.encode(obj).needs == ()


@examples
@given(data)
def test_shared_structure_stays_shared(obj: object) -> None:
    box = [obj]
    for one, two in ways((box, box)):
        assert one is two


@examples
@given(st.lists(data, min_size=1, max_size=3))
def test_closures_carry_what_they_hold(values: list[object]) -> None:
    def make() -> Any:
        held = values[0]
        return lambda extra=values: (held, extra)

    group = codec.define(make())
    call: Any = codec.install(group.number, group.blob)
    assert call() == (values[0], values)
    for back in ways(make()):
        assert back() == (values[0], values)


@examples
@given(st.lists(st.integers(), min_size=1))
def test_a_changed_cell_is_never_stale(changes: list[int]) -> None:
    value = 0

    def read() -> int:
        return value

    def read_list(held: list[int] = []) -> list[int]:  # noqa: B006 - a default that changes
        return held

    for value in changes:
        group = codec.define(read)
        assert codec.install(group.number, group.blob)() == value  # type: ignore[operator]
        read_list().append(value)
        group = codec.define(read_list)
        assert codec.install(group.number, group.blob)()[-1] == value  # type: ignore[operator]


@examples
@given(
    st.sampled_from([ValueError, KeyError, OSError, Exception, KeyboardInterrupt]),
    st.lists(data, max_size=3),
    st.dictionaries(st.from_regex(r"[a-z]{3,8}", fullmatch=True), data, max_size=3),
    st.lists(st.text(), max_size=3),
)
def test_failures(kind: Any, args: list[object], attributes: dict[str, object], notes: list[str]) -> None:
    exc = kind(*args)
    vars(exc).update(attributes)
    for note in notes:
        exc.add_note(note)
    back = codec.decode_failure(codec.encode_failure(exc, "running"))
    assert type(back) is type(exc)
    assert back.args == exc.args
    assert vars(back) == vars(exc)


@examples
@given(st.binary())
def test_garbage_never_breaks_a_failure(garbage: bytes) -> None:
    assert isinstance(codec.decode_failure(garbage), BaseException)
