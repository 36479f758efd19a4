"""Segments and lists in one process; with others in `tests/conformance` and `tests/faults`."""

from __future__ import annotations

import errno
import os
import pickle
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from corral._codec import _listing
from corral.shared_memory import ShareableList, SharedMemory

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def segment() -> Iterator[SharedMemory]:
    made = SharedMemory(create=True, size=100)
    yield made
    made.close()
    made.unlink()


def test_a_new_segment_is_zeroed_writable_and_of_the_size_asked_for(segment: SharedMemory) -> None:
    assert segment.size == 100
    assert bytes(segment.buf) == bytes(100)
    segment.buf[:5] = b"hello"
    assert bytes(segment.buf[:5]) == b"hello"
    assert os.stat(f"/dev/shm/{segment.name}").st_size == 100


def test_a_segment_is_opened_by_name_whatever_size_is_asked_for(segment: SharedMemory) -> None:
    other = SharedMemory(segment.name, size=10_000)
    segment.buf[0] = 7
    assert (other.buf[0], other.size, other.name) == (7, 100, segment.name)
    other.close()


def test_a_segment_says_what_it_is(segment: SharedMemory) -> None:
    assert repr(segment) == f"SharedMemory({segment.name!r}, size=100)"


@pytest.mark.parametrize("size", [-1, 0])
def test_a_segment_needs_a_size(size: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        SharedMemory(create=True, size=size)


def test_nothing_is_opened_without_a_name() -> None:
    with pytest.raises(ValueError, match="'name' can only be None if create=True"):
        SharedMemory()


def test_a_segment_that_is_not_there_is_not_found() -> None:
    with pytest.raises(FileNotFoundError):
        SharedMemory("corral-test-no-such-segment")


@pytest.mark.parametrize(
    ("name", "error", "number"),
    [
        ("", OSError, errno.EINVAL),
        ("a/b", OSError, errno.EINVAL),
        ("x" * 300, OSError, errno.EINVAL),
        ("a\0b", ValueError, None),
    ],
)
def test_what_is_not_a_name_is_refused(name: str, error: type[Exception], number: int | None) -> None:
    with pytest.raises(error) as caught:
        SharedMemory(name, create=True, size=8)
    assert getattr(caught.value, "errno", None) == number


def test_a_name_in_use_is_refused_and_stays_what_it_is(segment: SharedMemory) -> None:
    segment.buf[0] = 7
    with pytest.raises(FileExistsError) as caught:
        SharedMemory(segment.name, create=True, size=8)
    assert caught.value.filename == f"/{segment.name}"
    assert SharedMemory(segment.name).buf[0] == 7


def test_a_made_up_name_that_is_in_use_is_made_up_anew(
    segment: SharedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter([segment._name, "/corral-test-second-choice"])
    monkeypatch.setattr("corral.shared_memory._make_filename", lambda: next(names))
    other = SharedMemory(create=True, size=8)
    assert other.name == "corral-test-second-choice"
    other.close()
    other.unlink()


def test_more_than_there_is_room_for_is_an_error_not_a_bus_error() -> None:
    with pytest.raises(OSError, match="no room in /dev/shm") as caught:
        SharedMemory(create=True, size=1 << 50)
    assert caught.value.errno == errno.ENOSPC


def test_a_closed_segment_has_no_bytes_and_may_be_closed_again(segment: SharedMemory) -> None:
    other = SharedMemory(segment.name)
    other.close()
    other.close()
    assert other.buf is None
    assert other.name == segment.name


def test_arrays_keep_the_memory_of_a_segment_that_is_closed_or_gone() -> None:
    made = SharedMemory(create=True, size=16)
    viewing = np.frombuffer(made.buf, dtype=np.uint8)
    # This one holds no view of the buffer, only the object that gave it.
    borrowing: np.ndarray[tuple[int], np.dtype[np.uint8]] = np.ndarray((8,), dtype=np.uint8, buffer=made.buf)
    made.unlink()
    made.close()
    del made
    borrowing[:] = 3
    assert viewing.sum() == 24


def test_a_segment_is_unlinked_once(segment: SharedMemory) -> None:
    other = SharedMemory(create=True, size=8)
    other.close()
    other.unlink()
    with pytest.raises(FileNotFoundError):
        other.unlink()


def test_the_pickle_of_a_segment_opens_it(segment: SharedMemory) -> None:
    segment.buf[0] = 9
    other = pickle.loads(pickle.dumps(segment))
    assert isinstance(other, SharedMemory)
    assert other.buf[0] == 9
    other.close()


# --- lists ---

ITEMS = ["howdy", b"HoWdY", -273.154, 100, None, True, 42, "é" * 9, "", b""]


@pytest.fixture
def shared() -> Iterator[ShareableList]:
    made = ShareableList(ITEMS)
    yield made
    made.shm.close()
    made.shm.unlink()


def test_a_list_holds_its_items_by_type(shared: ShareableList) -> None:
    assert list(shared) == ITEMS
    assert [type(item) for item in shared] == [type(item) for item in ITEMS]
    assert len(shared) == len(ITEMS)
    assert shared[-3] == "é" * 9


def test_a_list_says_how_it_is_packed(shared: ShareableList) -> None:
    assert shared.format == "8s8sdqxxxxxx?xxxxxxxx?q24s8s8s"
    assert repr(shared) == f"ShareableList({ITEMS}, name={shared.shm.name!r})"


@pytest.mark.parametrize("position", [10, -11])
def test_a_position_outside_is_an_index_error(shared: ShareableList, position: int) -> None:
    with pytest.raises(IndexError, match=r"^index out of range"):
        shared[position]
    with pytest.raises(IndexError, match=r"^assignment index out of range"):
        shared[position] = 1


def test_an_item_may_become_any_that_fits(shared: ShareableList) -> None:
    for position, value in enumerate([1, "eight123", None, b"some", "text", 2.5, False, 3, b"x", "y"]):
        shared[position] = value
        assert shared[position] == value
        assert type(shared[position]) is type(value)
    shared[7] = "z" * 24
    assert shared[7] == "z" * 24


@pytest.mark.parametrize("value", ["far too many", b"123456789", "encodées"])
def test_what_does_not_fit_is_refused_and_nothing_changed(shared: ShareableList, value: object) -> None:
    with pytest.raises(ValueError, match="exceeds available storage"):
        shared[1] = value
    with pytest.raises(struct.error):
        shared[1] = 1 << 64
    with pytest.raises(KeyError):
        shared[1] = []
    assert list(shared) == ITEMS


def test_items_are_found_and_counted(shared: ShareableList) -> None:
    assert (shared.index(42), shared.count(42), shared.count(1)) == (6, 1, 1)
    with pytest.raises(ValueError, match="not in this container"):
        shared.index("42")


def test_a_list_is_opened_by_name_and_by_pickle(shared: ShareableList) -> None:
    for other in (ShareableList(name=shared.shm.name), pickle.loads(pickle.dumps(shared))):
        other[3] += 1
        other.shm.close()
    assert shared[3] == 102


def test_a_text_gets_the_room_of_its_characters_or_more_if_it_needs_more() -> None:
    made = ShareableList(["encodés", "é" * 9, "é" * 7, "x" * 8])
    assert made.format == "8s24s16s16s"
    assert list(made) == ["encodés", "é" * 9, "é" * 7, "x" * 8]
    made.shm.close()
    made.shm.unlink()


def test_an_empty_list_is_a_list() -> None:
    made = ShareableList()
    assert (len(made), made.format, list(made)) == (0, "", [])
    made.shm.close()
    made.shm.unlink()


@pytest.mark.parametrize(
    ("items", "error"), [([1 << 64], struct.error), ([[]], KeyError), (["\ud800"], ValueError)]
)
def test_a_list_that_cannot_be_made_leaves_no_segment(items: list[object], error: type[Exception]) -> None:
    before = os.listdir("/dev/shm")
    with pytest.raises(error):
        ShareableList(items)
    assert os.listdir("/dev/shm") == before


def test_a_segment_that_holds_no_list_is_refused(segment: SharedMemory) -> None:
    for words in ([-1], [1 << 40], [3, 0, 8, 4, 16], [2, 0, 8, 1 << 60]):
        struct.pack_into(f"{len(words)}q", segment.buf, 0, *words)
        with pytest.raises(ValueError, match="no shareable list"):
            ShareableList(name=segment.name)


def test_damaged_items_are_errors(shared: ShareableList) -> None:
    layout = shared._layout
    shared.shm.buf[layout.kinds_at] = 77
    with pytest.raises(ValueError, match="damaged"):
        shared[0]
    for nonsense in (b"99s", b"P", b"-1s", b"\xff"):
        shared.shm.buf[layout.formats_at : layout.formats_at + 8] = nonsense.ljust(8, b"\0")
        with pytest.raises(ValueError, match="damaged"):
            shared[0]


def test_a_packed_list_is_laid_out_as_documented() -> None:
    packed, layout = _listing.pack([1, "ab"])
    assert struct.unpack_from("5q", packed) == (2, 0, 8, 16, 1)
    assert (layout.items_at, layout.formats_at, layout.kinds_at, len(packed)) == (32, 48, 64, 66)
