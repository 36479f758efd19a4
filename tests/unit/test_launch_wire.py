"""Launch requests arrive whole: of any size, with any number of descriptors, or with an error."""

from __future__ import annotations

import os
import resource

import pytest

from corral._launch import wire


@pytest.fixture
def ends() -> tuple[wire.socket, wire.socket]:
    ours, theirs = wire.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("count", [0, 1, 249, 250, 251, 600])
@pytest.mark.parametrize("size", [0, 1, wire.INLINE_BYTES - 4, wire.INLINE_BYTES, 1_000_000])
def test_a_request_arrives_whole(ends: tuple[wire.socket, wire.socket], count: int, size: int) -> None:
    body = os.urandom(size)
    read, write = os.pipe()
    wire.send_parts(ends[0], b"head", body, [write] * count)
    head, received, fds = wire.receive_parts(ends[1])
    assert (bytes(head), bytes(received)) == (b"head", body)
    assert len(fds) == count
    for fd in fds:
        assert not os.get_inheritable(fd)
        os.write(fd, b"!")
        os.close(fd)
    os.close(write)
    assert os.read(read, 1000) == b"!" * count
    os.close(read)


def test_a_closed_peer_is_the_end_of_file_or_a_broken_pipe(ends: tuple[wire.socket, wire.socket]) -> None:
    assert not wire.is_closed(ends[0])
    ends[1].close()
    assert wire.is_closed(ends[0])
    with pytest.raises(EOFError):
        wire.receive(ends[0])
    with pytest.raises(BrokenPipeError):
        wire.send(ends[0], b"x")


def test_what_is_left_unread_is_not_touched_by_asking(ends: tuple[wire.socket, wire.socket]) -> None:
    wire.send(ends[0], b"x")
    assert not wire.is_closed(ends[1])
    assert wire.receive(ends[1]) == (b"x", [])


def test_without_room_for_its_descriptors_a_message_is_an_error(
    ends: tuple[wire.socket, wire.socket],
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wire.send(ends[0], b"x", [ends[0].fileno()] * 20)
    taken = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        while True:
            try:
                taken.append(os.dup(ends[0].fileno()))
            except OSError:
                break
        for fd in taken[-3:]:
            os.close(fd)
        del taken[-3:]
        with pytest.raises(OSError, match="no file descriptor left"):
            wire.receive(ends[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)
