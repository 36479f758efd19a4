"""Payloads: plain data, large data, what cannot be pickled, and what others have registered."""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
import socket
import subprocess
import sys
import threading
import weakref
from collections import OrderedDict, defaultdict, deque
from types import SimpleNamespace
from typing import Any

import pytest

from corral import _codec as codec
from corral._codec import _frames, _groups, _names, _pickler, _registry
from corral.errors import DecodeError, EncodeError

LARGE = 1 << 20


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Buffer:
    """What an array library does: its data out of band if it may."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: int) -> Any:
        return Buffer, (pickle.PickleBuffer(self.data),)


class Stubborn:
    """Refuses as a whole, though its parts would not."""

    def __init__(self) -> None:
        self.part = 1

    def __reduce__(self) -> Any:
        raise TypeError("not me")


class Handle:
    """Travels by a reducer that somebody registered, not by its own pickle."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        raise TypeError("only by handle")


class FailsToLoad:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


def importable(x: int) -> int:
    return x + 1


def there_and_back(obj: object) -> Any:
    encoded = codec.encode(obj)
    assert encoded.needs == ()
    return codec.decode(encoded.payload, [memoryview(buffer) for buffer in encoded.buffers])


@pytest.mark.parametrize(
    "obj",
    [
        5,
        None,
        "text",
        b"bytes",
        1.5,
        1j,
        True,
        (1, "a", None),
        [1, [2, [3, [4]]]],
        ((5,), {"k": [1, 2]}),
        {1: {2: 3}},
        {1, 2},
        bytearray(b"abc"),
        list(range(1000)),
        OrderedDict(a=1),
        defaultdict(list, a=[1]),
        deque([1, 2]),
        importable,
        len,
        int,
        "__main__",
        range(5),
        ...,
        "\ud800",
        "\0",
        "é€😀" * 100,
        *(
            sign * (1 << bits) + off
            for sign in (1, -1)
            for bits in (7, 8, 15, 16, 31, 32, 63, 64, 2100)
            for off in (0, -1)
        ),
        float("inf"),
        -0.0,
        5e-324,
    ],
    ids=lambda obj: ascii(obj)[:40],
)
def test_plain_data_and_what_has_a_name(obj: object) -> None:
    for back in (
        there_and_back(obj),
        codec.decode(codec.encode_reply(obj).payload),
        codec.unbundle(codec.bundle(obj)),
    ):
        assert back == obj
        assert type(back) is type(obj)
        assert ascii(back) == ascii(obj)
    assert there_and_back(((obj,), {"k": obj})) == ((obj,), {"k": obj})


def test_plain_is_small_and_built_in() -> None:
    assert _frames.is_plain(((5, "a", None), {"k": 1}))
    assert _frames.is_plain([(1, 2), [3], {}])
    for obj in (
        [[[1]]],
        {1: 2, 3: object()},
        (object(),),
        ((importable,), {}),
        list(range(100)),
        b"x" * LARGE,
    ):
        assert not _frames.is_plain((obj,))
    assert not _frames.is_plain(((1,), {"k": object()}))
    assert not _frames.is_plain(((1,), {object(): 1}))
    assert not _frames.is_plain({1, 2})
    assert not _frames.is_plain(b"x" * LARGE)


@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_large_bytes_travel_out_of_band(kind: Any) -> None:
    data = kind(b"x" * LARGE)
    for obj in (data, (data,), ((data, 1), {})):
        encoded = codec.encode(obj)
        assert len(encoded.payload) < 1000
        assert [memoryview(buffer).nbytes for buffer in encoded.buffers] == [LARGE]
        back = there_and_back(obj)
        assert back == obj
    assert type(there_and_back((data,))[0]) is kind


def test_a_list_of_large_bytes_travels_out_of_band() -> None:
    data = [b"x" * LARGE, bytearray(LARGE), b"small"]
    assert len(codec.encode(data).buffers) == len(codec.encode_reply(data).buffers) == 2
    back = there_and_back(data)
    assert back == data
    assert [type(item) for item in back] == [bytes, bytearray, bytes]


def test_large_bytes_in_lists_stay_where_they_are() -> None:
    data = [b"x" * LARGE]
    assert there_and_back((data, data))[0] == data
    first, second = there_and_back((data, data))
    assert first is second


def test_buffers_are_views_of_what_arrived() -> None:
    store = bytearray(LARGE)
    encoded = codec.encode(Buffer(store))
    arrived = bytearray(memoryview(encoded.buffers[0]))
    back: Any = codec.decode(encoded.payload, [arrived])
    arrived[5] = 7
    assert memoryview(back.data)[5] == 7


def test_small_buffers_stay_inside() -> None:
    encoded = codec.encode(Buffer(bytearray(100)))
    assert encoded.buffers == []


def test_a_bundle_has_its_buffers_inside() -> None:
    back: Any = codec.unbundle(codec.bundle(Buffer(bytearray(b"x" * LARGE))))
    assert bytes(back.data) == b"x" * LARGE


def test_arrays() -> None:
    numpy = pytest.importorskip("numpy")
    for array in (numpy.arange(LARGE), numpy.zeros((300, 300))[::2, ::3], numpy.zeros(3), numpy.array(5)):
        back = there_and_back(((array,), {"k": array}))
        assert (back[0][0] == array).all()
        assert back[0][0] is back[1]["k"]
    assert len(codec.encode(numpy.zeros(LARGE)).buffers) == 1


def test_memoryviews_keep_their_layout() -> None:
    view = memoryview(bytearray(range(48))).cast("i", (3, 4))
    back = there_and_back((view, memoryview(b"abc"), memoryview(b"abcdef")[::2]))
    assert back[0].tolist() == view.tolist()
    assert bytes(back[1]) == b"abc"
    assert bytes(back[2]) == b"ace"


def test_reducers_of_copyreg_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, Handle, lambda handle: (Handle, (handle.number + 1,)))
    assert there_and_back([Handle(1)])[0].number == 2


def test_reducers_of_forking_pickler_are_honoured() -> None:
    from multiprocessing.reduction import ForkingPickler

    ForkingPickler.register(Handle, lambda handle: (Handle, (handle.number + 1,)))
    try:
        assert there_and_back([Handle(1)])[0].number == 2
        assert there_and_back((1, [{"k": Handle(1)}]))[1][0]["k"].number == 2
    finally:
        del ForkingPickler._extra_reducers[Handle]  # type: ignore[attr-defined]
    with pytest.raises(EncodeError):
        codec.encode(Handle(1))


def test_a_socket_travels_as_the_standard_library_sends_it() -> None:
    import multiprocessing.resource_sharer
    from multiprocessing import reduction  # noqa: F401 - registers the reducer

    one, two = socket.socketpair()
    with one, two:
        there: Any = there_and_back((one,))[0]
        with there:
            two.sendall(b"x")
            assert there.recv(1) == b"x"
    multiprocessing.resource_sharer.stop(timeout=5)


def culprit(obj: object) -> str:
    with pytest.raises(EncodeError) as info:
        codec.encode(obj)
    assert isinstance(info.value, pickle.PicklingError)
    assert info.value.__cause__ is not None
    return str(info.value)


def test_what_cannot_be_sent_is_named_with_its_place() -> None:
    lock = threading.Lock()
    assert (
        culprit(lock)
        == "cannot send an object, an instance of _thread.lock: cannot pickle '_thread.lock' object"
    )
    assert culprit((1, lock)).startswith("cannot send the argument [1], an instance of _thread.lock: ")
    assert culprit(((1, lock), {})).startswith("cannot send the argument [1], an instance of _thread.lock: ")
    assert culprit(((1,), {"k": [lock]})).startswith("cannot send the argument 'k'[0], an instance of ")
    assert "an object['k']" in culprit({"k": lock})
    assert "the item [0].inner.lock, an instance of _thread.lock" in culprit([Plain(inner=Plain(lock=lock))])
    assert ".lock, an instance" in culprit(Slotted())
    assert "{...}" in culprit({importable, (x for x in ())})
    assert ".args[0]" in culprit(functools.partial(importable, lock))
    assert ".__self__.lock" in culprit(Plain(lock=lock).__init__)  # type: ignore[misc]
    assert " variable 'lock'" in culprit(lambda: lock)
    assert ".__defaults__[0]" in culprit(lambda x=lock: x)
    assert ".args[0]" in culprit(ValueError(lock))
    assert "generator" in culprit(x for x in ())
    assert " key " in culprit({lock: 1})
    assert ".func" in culprit(functools.partial(Plain(lock=lock).__init__))  # type: ignore[misc]
    assert "class" in culprit(type(iter([])))
    assert "the argument [0]: " in culprit((Stubborn(),)).replace(", an instance of", ": ")
    assert "cannot send the items, an instance of list: " in culprit([1] * 3000 + [lock])

    def waits() -> Any:
        return lock, not_yet

    assert " variable 'lock'" in culprit(waits)
    not_yet = 1

    def keyword(*, only: Any = lock) -> Any:
        return only

    assert ".__kwdefaults__['only']" in culprit(keyword)


def test_a_result_that_cannot_be_sent_is_called_one() -> None:
    with pytest.raises(EncodeError, match=r"cannot send the result\[0\], an instance of _thread\.lock"):
        codec.encode_reply([threading.Lock()])


def test_define_names_what_cannot_be_sent() -> None:
    lock = threading.Lock()
    with pytest.raises(EncodeError, match=r"the function variable .lock., an instance of _thread\.lock"):
        codec.define(lambda: lock)


def test_files_are_refused_but_for_the_standard_ones() -> None:
    with open(__file__, encoding="utf-8") as file:
        assert "TextIOWrapper" in culprit(file)
    wrapper = io.TextIOWrapper(io.BytesIO())
    assert "TextIOWrapper" in culprit((wrapper,))


def test_modules_that_cannot_be_imported_are_refused() -> None:
    assert "cannot be imported" in culprit(type(sys)("nowhere"))


def test_too_deep_an_object_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "RecursionError" in culprit(deep)


def test_what_cannot_be_rebuilt_raises_decode_error() -> None:
    with pytest.raises(DecodeError, match=r"ValueError: invalid literal") as info:
        there_and_back(FailsToLoad())
    assert isinstance(info.value, pickle.UnpicklingError)
    assert type(info.value.__cause__) is ValueError


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 20, b"\x80\x05", b"garbage", codec.bundle([1, 2])[:-3]])
def test_damaged_payloads_raise_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.decode(data)


def test_unknown_definitions_raise_decode_error() -> None:
    class Local:
        pass

    payload = codec.encode(Local()).payload
    _registry.keys.pop(id(Local))
    _registry.weak_objects.clear()
    with pytest.raises(DecodeError, match="is not known in this process"):
        codec.decode(payload)


def test_importable_functions_are_defined_once_by_name() -> None:
    group = codec.define(importable)
    assert codec.define(importable) is group
    assert not group.transient
    assert group.needs == ()
    assert codec.install(group.number, group.blob) is importable
    assert codec.define(len).needs == ()
    assert repr(group).startswith("<Group ")


def test_lambdas_are_transient_and_shared_by_content() -> None:
    def make(n: int) -> Any:
        return lambda x: x + n

    one, same, other = codec.define(make(1)), codec.define(make(1)), codec.define(make(2))
    assert one.transient
    assert one.number == same.number != other.number
    assert codec.install(one.number, memoryview(one.blob))(1) == 2  # type: ignore[operator]


def test_callables_do_not_pile_up() -> None:
    snapshot = codec.Snapshot()
    for n in range(2 * _groups.MAX_CALLABLES):
        codec.define(lambda n=n: n, snapshot)
    assert len(snapshot.callables) <= _groups.MAX_CALLABLES
    assert len(snapshot.contents) <= _groups.MAX_CALLABLES


def test_large_callables_are_not_kept_for_ever() -> None:
    snapshot = codec.Snapshot()
    for n in range(6):
        held = bytes([n]) * (_groups.MAX_CONTENTS_BYTES // 4)
        group = codec.define(functools.partial(len, held), snapshot)
        assert codec.define(functools.partial(len, held), snapshot).number == group.number
    assert snapshot.contents_bytes <= _groups.MAX_CONTENTS_BYTES
    assert len(snapshot.contents) == 3
    assert snapshot.callables == {}


def test_local_classes_are_forgotten_with_the_class() -> None:
    class Local:
        pass

    key = codec.encode(Local()).needs and _registry.key_of(Local)
    assert key
    alive = weakref.ref(Local)
    del Local
    import gc

    gc.collect()
    assert alive() is None
    assert _registry.resolve(key) is _registry.MISSING
    assert key not in _registry.definitions


def test_global_names_are_those_that_the_interpreter_looks_up() -> None:
    import dis
    import inspect

    def expected(code: Any) -> set[str]:
        found = set()
        for each in _names.nested_code(code):
            for step in dis.get_instructions(each):
                if step.opname in _names._OPERATIONS:
                    found.add(step.argval)
        return found

    for module in (inspect, functools, _groups, _pickler):
        for fn in vars(module).values():
            if inspect.isfunction(fn):
                assert _names.global_names(fn.__code__) == expected(fn.__code__), fn
    many = "def f():\n" + "".join(f"    name{n}\n" for n in range(600))
    space: dict[str, Any] = {}
    exec(many, space)
    assert _names.global_names(space["f"].__code__) == {f"name{n}" for n in range(600)}


def test_receiving_and_plain_sending_import_next_to_nothing() -> None:
    blob = codec.define(socket.gethostname).blob
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; before = set(sys.modules)\n"
        "from corral import _codec as c\n"
        f"c.decode(c.encode(((1,), {{}})).payload); c.install(1, {blob!r})\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"pickle", "cloudpickle", "typing", "inspect", "corral._codec._groups"}


def test_threads_may_encode_at_once() -> None:
    class Local:
        def __init__(self, n: int) -> None:
            self.n = n

    problems: list[BaseException] = []
    start = threading.Barrier(8)

    def work(n: int) -> None:
        try:
            start.wait()
            for round_ in range(50):

                class Mine(Local):
                    pass

                for obj in (Local(n), Mine(round_), [Mine(n), SimpleNamespace(f=lambda: n)]):
                    codec.unbundle(codec.bundle(obj))
                codec.define(lambda: n)
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = codec.nonsense  # type: ignore[attr-defined]
