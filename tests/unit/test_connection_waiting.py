"""Waiting for connections among other things: `wait`, selectors, asyncio."""

from __future__ import annotations

import asyncio
import multiprocessing
import multiprocessing.connection
import os
import select
import selectors
import signal
import socket
import threading
import time
from typing import Any

import pytest

from corral.connection import Pipe, wait


def test_wait_tells_connections_of_both_worlds_sockets_and_numbers() -> None:
    ours, our_peer = Pipe()
    theirs, their_peer = multiprocessing.Pipe()
    plug, socket_peer = socket.socketpair()
    number, number_peer = os.pipe()
    objects: list[Any] = [ours, theirs, plug, number]
    assert wait(objects, 0) == []
    our_peer.send(1)
    assert wait(objects) == [ours]
    their_peer.send(1)
    assert wait(objects) == [ours, theirs]
    socket_peer.send(b"x")
    os.write(number_peer, b"x")
    assert wait(iter(objects), 5) == objects
    assert ours.recv() == 1
    assert wait(objects) == objects[1:]
    our_peer.close()
    assert wait(objects) == objects
    for each in (ours, theirs, their_peer, plug, socket_peer):
        each.close()
    os.close(number)
    os.close(number_peer)


def test_wait_ends_with_the_time_and_without_objects() -> None:
    ends = Pipe()
    begin = time.monotonic()
    assert wait(ends, 0.05) == []
    assert time.monotonic() - begin >= 0.05
    assert wait(ends, -1) == []
    assert wait([], 0.01) == []
    for end in ends:
        end.close()


def test_wait_is_woken_by_what_comes_later() -> None:
    pipes = [Pipe(duplex=False) for _ in range(5)]
    readers = [reader for reader, _ in pipes]

    def send() -> None:
        for number, (_, writer) in enumerate(pipes):
            time.sleep(0.005)  # so that `wait` is asleep, most times
            writer.send(number)
            writer.close()

    thread = threading.Thread(target=send)
    thread.start()
    got = []
    while readers:
        for reader in wait(readers):
            try:
                got.append(reader.recv())
            except EOFError:
                readers.remove(reader)
                reader.close()
    thread.join()
    assert sorted(got) == list(range(5))


def test_the_standard_library_waits_for_ours() -> None:
    first, second = Pipe()
    assert multiprocessing.connection.wait([second], 0) == []
    first.send(1)
    assert multiprocessing.connection.wait([second]) == [second]
    assert second.recv() == 1
    assert multiprocessing.connection.wait([second], 0) == []
    first.close()
    assert multiprocessing.connection.wait([second]) == [second]
    second.close()


def is_readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_the_descriptor_is_readable_if_and_only_if_there_is_something_to_receive() -> None:
    first, second = Pipe()
    first.send(0)  # before anybody asks for the descriptor
    fd = second.fileno()
    assert is_readable(fd)
    second.recv()
    for burst in (1, 2, 5):
        assert not is_readable(fd)
        for number in range(burst):
            first.send(number)
        for number in range(burst):
            assert is_readable(fd)
            assert second.poll()
            assert second.recv() == number
        assert not second.poll(0.001)  # sleeps on the socket itself, and leaves it as it was
    assert not is_readable(fd)
    first.close()
    assert is_readable(fd)
    second.close()


@pytest.mark.slow
def test_the_descriptor_tells_the_truth_while_messages_are_coming() -> None:
    reader, writer = Pipe(duplex=False)
    fd = reader.fileno()
    count = 3000

    def send() -> None:
        for number in range(count):
            writer.send(number)
            if number % 7 == 0:
                time.sleep(0)

    thread = threading.Thread(target=send)
    thread.start()
    for number in range(count):
        select.select([fd], [], [])
        assert reader.poll(), "readable, but nothing to receive"
        assert reader.recv() == number
    thread.join()
    assert not is_readable(fd)
    reader.close()
    writer.close()


@pytest.mark.parametrize(
    "selector", [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector]
)
def test_selectors_take_connections(selector: type[selectors.BaseSelector]) -> None:
    first, second = Pipe()
    with selector() as watch:
        watch.register(second, selectors.EVENT_READ)
        assert watch.select(0) == []
        first.send("x")
        assert [key.fileobj for key, _ in watch.select()] == [second]
        second.recv()
        assert watch.select(0) == []
        watch.unregister(second)
    first.close()
    second.close()


def test_an_event_loop_reads_and_hears_of_the_end() -> None:
    first, second = Pipe()
    got: list[int] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()

        def read() -> None:
            try:
                got.append(second.recv())
            except EOFError:
                loop.remove_reader(second.fileno())
                done.set()

        loop.add_reader(second.fileno(), read)
        for number in range(20):
            first.send(number)
            await asyncio.sleep(0)
        first.close()
        await done.wait()

    asyncio.run(main())
    second.close()
    assert got == list(range(20))


def test_a_signal_interrupts_waiting_and_its_exception_reaches_who_waits() -> None:
    first, second = Pipe()

    def interrupt(*_: object) -> None:
        raise InterruptedError("by the handler")

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for waiting in (second.recv, lambda: second.poll(30), lambda: wait([second], 30)):
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            with pytest.raises(InterruptedError, match="by the handler"):
                waiting()
    finally:
        signal.signal(signal.SIGALRM, before)
    first.send("still good")
    assert second.recv() == "still good"
    first.close()
    second.close()


def test_a_handler_that_raises_nothing_does_not_end_the_wait() -> None:
    first, second = Pipe()
    before = signal.signal(signal.SIGALRM, lambda *_: first.send("from the handler"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert second.recv() == "from the handler"
    finally:
        signal.signal(signal.SIGALRM, before)
    first.close()
    second.close()


def test_a_signal_interrupts_a_sender_that_waits_for_room() -> None:
    reader, writer = Pipe(duplex=False)

    def interrupt(*_: object) -> None:
        raise InterruptedError("by the handler")

    def fill() -> None:
        while True:
            writer.send_bytes(bytes(1 << 17))

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(InterruptedError):
            fill()
    finally:
        signal.signal(signal.SIGALRM, before)
    while reader.poll():
        reader.recv_bytes()
    writer.send("room again")
    assert reader.recv() == "room again"
    reader.close()
    writer.close()
