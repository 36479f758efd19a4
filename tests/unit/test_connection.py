"""Connections within one process: what each method takes, gives and refuses."""

from __future__ import annotations

import array
import multiprocessing.connection
import os
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from corral import connection
from corral._channel import handover
from corral.connection import Connection, Pipe, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = 100_000


@pytest.fixture
def pair() -> Iterator[tuple[Connection, Connection]]:
    first, second = Pipe()
    with first, second:
        yield first, second


@pytest.fixture
def one_way() -> Iterator[tuple[Connection, Connection]]:
    reader, writer = Pipe(duplex=False)
    with reader, writer:
        yield reader, writer


VALUES: list[Any] = [
    *[0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31, 2**63 - 1, 2**63, -(2**63), 10**30],
    *[1.5, float("inf"), True, False, None, "", "text", "ü" * 20, "x" * 300, b"", b"bytes", b"x" * 3000],
    *[(), (1,), (1, "a", None), [1, [2]], {"a": 1}, {1, 2}, ("x" * LARGE, b"y" * LARGE), range(3)],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}:{str(value)[:12]}")
def test_what_is_sent_is_received(pair: tuple[Connection, Connection], value: object) -> None:
    for sender, receiver in (pair, pair[::-1]):
        sender.send(value)
        received = receiver.recv()
        assert received == value
        assert type(received) is type(value)


def test_messages_come_in_order_and_whole(pair: tuple[Connection, Connection]) -> None:
    first, second = pair
    messages = [b"x" * length for length in (0, 1, 63, 64, 65, 4095, 4096, 4097, LARGE)]
    for message in messages:
        first.send_bytes(message)
    assert [second.recv_bytes() for _ in messages] == messages


def test_a_lambda_travels(pair: tuple[Connection, Connection]) -> None:
    pair[0].send(lambda x: x + 1)
    assert pair[1].recv()(1) == 2


def test_send_bytes_cuts_out_what_it_is_told_to(pair: tuple[Connection, Connection]) -> None:
    first, second = pair
    letters = b"abcdefghij"
    for arguments, expected in (
        ((), letters),
        ((3,), b"defghij"),
        ((3, 2), b"de"),
        ((10,), b""),
        ((10, 0), b""),
        ((0, 0), b""),
    ):
        first.send_bytes(letters, *arguments)
        assert second.recv_bytes() == expected
    first.send_bytes(memoryview(letters)[2:4])
    assert second.recv_bytes() == b"cd"
    first.send_bytes(array.array("i", [1, 2]), 4, 4)
    assert second.recv_bytes() == (2).to_bytes(4, "little")


@pytest.mark.parametrize("arguments", [(11,), (8, 3), (10, 1), (-1,), (4, -1)])
def test_send_bytes_refuses_what_lies_outside(
    pair: tuple[Connection, Connection], arguments: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"offset|size|length"):
        pair[0].send_bytes(b"abcdefghij", *arguments)
    assert not pair[1].poll()


def test_recv_bytes_into_fills_a_buffer(pair: tuple[Connection, Connection]) -> None:
    first, second = pair
    room = array.array("i", [0] * 6)
    first.send_bytes(array.array("i", [1, 2, 3]))
    assert second.recv_bytes_into(room, 2 * room.itemsize) == 3 * room.itemsize
    assert list(room) == [0, 0, 1, 2, 3, 0]
    first.send_bytes(b"too long for four")
    with pytest.raises(connection.BufferTooShort) as caught:
        second.recv_bytes_into(bytearray(4))
    assert caught.value.args == (b"too long for four",)
    with pytest.raises(ValueError, match="negative offset"):
        second.recv_bytes_into(bytearray(4), -1)
    with pytest.raises(ValueError, match="offset too large"):
        second.recv_bytes_into(bytearray(4), 5)
    with pytest.raises(TypeError, match="writable"):
        second.recv_bytes_into(b"read-only")


def test_a_message_over_the_limit_ends_reading(pair: tuple[Connection, Connection]) -> None:
    first, second = pair
    with pytest.raises(ValueError, match="negative"):
        second.recv_bytes(-1)
    first.send_bytes(b"12345")
    assert second.recv_bytes(5) == b"12345"
    first.send_bytes(b"12345")
    with pytest.raises(OSError, match="bad message length"):
        second.recv_bytes(4)
    assert not second.readable
    with pytest.raises(OSError, match="write-only"):
        second.recv()


def test_a_message_over_the_limit_closes_what_only_reads(one_way: tuple[Connection, Connection]) -> None:
    one_way[1].send_bytes(b"12345")
    with pytest.raises(OSError, match="bad message length"):
        one_way[0].recv_bytes(4)
    assert one_way[0].closed


def test_bytes_of_an_object_and_an_object_of_bytes(pair: tuple[Connection, Connection]) -> None:
    first, second = pair
    for value in (7, ("x", [1.5]), (b"x" * LARGE, b"y" * LARGE)):
        first.send(value)
        assert pickle.loads(second.recv_bytes()) == value
        first.send_bytes(pickle.dumps(value))
        assert second.recv() == value


def test_one_end_reads_and_the_other_writes(one_way: tuple[Connection, Connection]) -> None:
    reader, writer = one_way
    assert (reader.readable, reader.writable) == (True, False)
    assert (writer.readable, writer.writable) == (False, True)
    for refused in (lambda: reader.send(1), lambda: reader.send_bytes(b"")):
        with pytest.raises(OSError, match="connection is read-only"):
            refused()
    for refused in (writer.recv, writer.recv_bytes, writer.poll, lambda: writer.recv_bytes_into(bytearray())):
        with pytest.raises(OSError, match="connection is write-only"):
            refused()
    writer.send("through")
    assert reader.recv() == "through"


def test_a_closed_end_refuses_everything(pair: tuple[Connection, Connection]) -> None:
    first, _ = pair
    first.close()
    first.close()
    assert first.closed
    calls = [first.recv, first.recv_bytes, first.poll, first.fileno, lambda: first.send(1)]
    for refused in (*calls, lambda: first.send_bytes(b""), lambda: first.recv_bytes_into(bytearray(1))):
        with pytest.raises(OSError, match="handle is closed"):
            refused()
    with pytest.raises(OSError, match="handle is closed"):
        wait([first], 0)


def test_what_was_sent_can_be_read_after_the_close_and_then_the_end(
    pair: tuple[Connection, Connection],
) -> None:
    first, second = pair
    first.send(1)
    first.send_bytes(b"x" * LARGE)
    first.close()
    assert second.poll()
    assert second.recv() == 1
    assert second.recv_bytes() == b"x" * LARGE
    assert second.poll()  # the end can be read, too
    assert wait([second]) == [second]
    for read in (second.recv, second.recv_bytes, lambda: second.recv_bytes_into(bytearray(1))):
        with pytest.raises(EOFError):
            read()


@pytest.mark.parametrize("before", [0, 1])
def test_writing_to_nobody_fails_at_once(before: int) -> None:
    for duplex in (True, False):
        reader, writer = Pipe(duplex)
        for number in range(before):
            writer.send(number)
        reader.close()
        for value in (1, b"x" * LARGE):
            with pytest.raises(BrokenPipeError):
                writer.send(value)
        writer.close()


def test_poll_waits_for_a_message_or_the_time(pair: tuple[Connection, Connection]) -> None:
    first, second = pair
    begin = time.monotonic()
    assert not second.poll()
    assert not second.poll(0)
    assert not second.poll(-1)
    assert not second.poll(0.05)
    assert time.monotonic() - begin >= 0.05
    first.send_bytes(b"")
    assert second.poll()
    assert second.poll(None)
    assert second.recv_bytes() == b""
    assert not second.poll()


def test_a_receiver_sleeps_until_a_message_comes(pair: tuple[Connection, Connection]) -> None:
    first, second = pair
    got: list[object] = []

    def receive() -> None:
        for _ in range(3):
            second.poll(None)
            got.append(second.recv())
            second.send(None)

    thread = threading.Thread(target=receive)
    thread.start()
    for number in range(3):
        assert not first.poll(0.01)  # long enough for the other to be asleep
        first.send(number)
        assert first.recv() is None
    thread.join()
    assert got == [0, 1, 2]


def test_a_sender_waits_for_room_and_one_message_always_has_some() -> None:
    reader, writer = Pipe(duplex=False)
    huge = bytes(3 << 20)
    writer.send_bytes(huge)  # beyond the bound, but alone
    sent = threading.Event()

    def send() -> None:
        writer.send_bytes(b"next")
        sent.set()

    thread = threading.Thread(target=send)
    thread.start()
    assert not sent.wait(0.05)
    assert reader.recv_bytes() == huge
    assert reader.recv_bytes() == b"next"
    thread.join()
    reader.close()
    writer.close()


def test_a_sender_that_waits_for_room_hears_of_the_close() -> None:
    reader, writer = Pipe(duplex=False)
    failures: list[BaseException] = []

    def send() -> None:
        try:
            while True:
                writer.send_bytes(bytes(1 << 18))
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    reader.recv_bytes()
    reader.close()
    thread.join()
    assert [type(failure) for failure in failures] == [BrokenPipeError]
    writer.close()


def test_closing_ends_what_another_thread_waits_for(pair: tuple[Connection, Connection]) -> None:
    first, second = pair
    failures: list[str] = []
    begun = threading.Event()

    def receive() -> None:
        begun.set()
        try:
            second.recv()
        except OSError as error:
            failures.append(str(error))

    thread = threading.Thread(target=receive)
    thread.start()
    begun.wait()
    assert not first.poll(0.02)
    second.close()
    thread.join()
    assert failures == ["handle is closed"]
    with pytest.raises(BrokenPipeError):
        first.send(1)


def test_many_threads_at_both_ends_lose_and_repeat_nothing(pair: tuple[Connection, Connection]) -> None:
    first, second = pair
    count, parties = 300, 3
    got: list[int] = []

    def send(party: int) -> None:
        for number in range(count):
            first.send(party * count + number)

    def receive() -> None:
        for message in iter(second.recv, None):
            got.append(message)  # noqa: PERF402 - each is taken when it comes

    senders = [threading.Thread(target=send, args=(party,)) for party in range(parties)]
    receivers = [threading.Thread(target=receive) for _ in range(parties)]
    for thread in senders + receivers:
        thread.start()
    for thread in senders:
        thread.join()
    for _ in receivers:
        first.send(None)
    for thread in receivers:
        thread.join()
    assert sorted(got) == list(range(count * parties))


def test_what_cannot_be_pickled_is_refused_and_nothing_is_sent(pair: tuple[Connection, Connection]) -> None:
    with pytest.raises(pickle.PicklingError):
        pair[0].send(threading.Lock())
    assert not pair[1].poll()


def test_a_connection_travels_within_a_process(pair: tuple[Connection, Connection]) -> None:
    reader, writer = Pipe(duplex=False)
    pair[0].send([reader, "and more"])
    reader.close()
    arrived, _ = pair[1].recv()
    writer.send("for the copy")
    assert arrived.recv() == "for the copy"
    assert not arrived.writable
    writer.close()
    with pytest.raises(EOFError):
        arrived.recv()
    arrived.close()


def test_a_ticket_is_good_once() -> None:
    reader, writer = os.pipe()
    ticket = handover.offer([writer])
    os.close(writer)
    (copy,) = handover.collect(ticket)
    with pytest.raises(ConnectionRefusedError, match="received before"):
        handover.collect(ticket)
    os.write(copy, b"x")
    os.close(copy)
    assert os.read(reader, 9) == b"x"
    os.close(reader)


def test_a_handle_becomes_a_connection_of_the_standard_library() -> None:
    reader, writer = os.pipe()
    with Connection(reader, writable=False) as received, Connection(writer, readable=False) as sent:
        assert isinstance(received, Connection)
        assert isinstance(received, multiprocessing.connection.Connection)
        sent.send([1])
        assert received.recv() == [1]
    with pytest.raises(ValueError, match="invalid handle"):
        Connection(-1)


def test_the_representation_says_whether_it_is_closed(pair: tuple[Connection, Connection]) -> None:
    first, _ = pair
    assert "Connection" in repr(first)
    first.close()
    assert "closed" in repr(first)


def test_names_that_nobody_has_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="PipeListener"):
        connection.PipeListener  # noqa: B018
    assert connection.families == multiprocessing.connection.families


def test_a_pipe_gives_its_descriptors_back() -> None:
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(50):
        first, second = Pipe()
        first.send(b"x" * LARGE)
        assert second.recv() == b"x" * LARGE
        first.close()
        second.close()
    for _ in range(50):
        Pipe()  # dropped
    assert set(os.listdir("/proc/self/fd")) == before
