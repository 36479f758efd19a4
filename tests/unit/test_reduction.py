"""Reducers registered with either world's pickler are honoured by both, and by what corral sends."""

from __future__ import annotations

import io
import os
import pickle
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import corral
from corral import reduction
from corral._codec import bundle, unbundle

if TYPE_CHECKING:
    from collections.abc import Iterator


class Handle:
    """What pickle refuses, as a tensor's storage does."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        raise TypeError("not without its reducer")


def reduce_handle(handle: Handle) -> Any:
    return Handle, (handle.number + 1,)


@pytest.fixture(params=["ours", "theirs"])
def registered(request: pytest.FixtureRequest) -> Iterator[None]:
    from multiprocessing.reduction import ForkingPickler

    (ForkingPickler if request.param == "theirs" else reduction.ForkingPickler).register(
        Handle, reduce_handle
    )
    yield
    del reduction.ForkingPickler._extra_reducers[Handle]
    assert Handle not in ForkingPickler._extra_reducers  # type: ignore[attr-defined]


def test_a_reducer_is_honoured_by_all(registered: None) -> None:
    from multiprocessing.reduction import ForkingPickler

    for pickler in (ForkingPickler, reduction.ForkingPickler):
        assert pickler.loads(pickler.dumps(Handle(1))).number == 2
    file = io.BytesIO()
    reduction.dump(Handle(2), file)
    assert pickle.loads(file.getvalue()).number == 3
    assert unbundle(bundle([Handle(3)]))[0].number == 4


def test_the_order_in_which_the_modules_are_loaded_does_not_matter() -> None:
    code = (
        "import {first}, {second}\n"
        "import corral.reduction as ours, multiprocessing.reduction as theirs\n"
        "assert ours.ForkingPickler._extra_reducers is theirs.ForkingPickler._extra_reducers\n"
    )
    for first, second in (("corral.reduction", "multiprocessing"), ("multiprocessing", "corral.reduction")):
        subprocess.run([sys.executable, "-c", code.format(first=first, second=second)], check=True)


def test_without_a_reducer_the_object_is_refused() -> None:
    with pytest.raises(TypeError, match="not without its reducer"):
        reduction.ForkingPickler.dumps(Handle(1))


def test_descriptors_cross_a_socket() -> None:
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    with ours, theirs:
        reduction.sendfds(ours, [read, write])
        received = reduction.recvfds(theirs, 2)
        os.write(received[1], b"x")
        assert os.read(read, 1) == b"x"
        reduction.send_handle(ours, read, None)
        received.append(reduction.recv_handle(theirs))
        for fd in (read, write, *received):
            os.close(fd)
        ours.send(b"no descriptor")
        with pytest.raises(RuntimeError, match="received 0 descriptors"):
            reduction.recvfds(theirs, 1)
        theirs.recv(100)
        ours.close()
        with pytest.raises(EOFError):
            reduction.recvfds(theirs, 1)


def test_more_descriptors_than_expected_are_closed_and_refused() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reduction.sendfds(ours, [0, 1, 2, 0])
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(RuntimeError, match="where 4 were announced"):
            reduction.recvfds(theirs, 1)
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_descriptor_is_detached_once_and_is_a_copy() -> None:
    read, write = os.pipe()
    announced = reduction.ForkingPickler.dumps(reduction.DupFd(write))
    os.close(write)
    fd = reduction.ForkingPickler.loads(announced).detach()
    os.write(fd, b"x")
    os.close(fd)
    assert os.read(read, 2) == b"x"
    assert os.read(read, 2) == b""
    os.close(read)
    with pytest.raises(ConnectionError):
        reduction.ForkingPickler.loads(announced).detach()


def test_a_context_offers_the_module_and_takes_another() -> None:
    ctx = corral.get_context("spawn")
    assert ctx.reducer is reduction
    other = reduction.AbstractReducer()
    assert other.ForkingPickler is reduction.ForkingPickler
    try:
        ctx.reducer = other
        assert ctx.reducer is other
    finally:
        ctx.reducer = reduction


def answer(sock: socket.socket) -> int:
    with sock:
        sock.send(b"from a worker")
    return os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_socket_goes_with_a_task_and_a_process(method: str) -> None:
    ctx = corral.get_context(method)
    ours, theirs = socket.socketpair()
    with ours, theirs, ctx.Pool(1) as pool:
        assert pool.apply(answer, (theirs,)) != os.getpid()
        assert ours.recv(100) == b"from a worker"
        child = ctx.Process(target=answer, args=(theirs,))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert ours.recv(100) == b"from a worker"
