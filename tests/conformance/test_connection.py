"""Connections between processes, whatever the start method; beside the standard library's, and with them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import corral
from corral import context
from corral.connection import Connection, Pipe, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from corral.process import BaseProcess

METHODS = ("fork", "forkserver", "spawn")


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import connection_targets

    return connection_targets


@pytest.fixture(params=METHODS)
def ctx(request: pytest.FixtureRequest) -> context.BaseContext:
    return context.get_context(request.param)


@pytest.fixture
def start(ctx: context.BaseContext) -> Iterator[Callable[..., BaseProcess]]:
    """Start a process, which is joined at the end."""
    started: list[BaseProcess] = []

    def start(target: Callable[..., object], *args: Any) -> BaseProcess:
        process = ctx.Process(target=target, args=args)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.join()
        process.close()


def closed(*ends: Connection) -> None:
    for end in ends:
        end.close()


def test_a_child_answers_and_hears_the_end(start: Callable[..., Any], targets: ModuleType) -> None:
    here, there = Pipe()
    start(targets.echo, there)
    there.close()
    for message in (1, "text", ("tuple", [1]), b"x" * 200_000, lambda x: x * 2):
        here.send(message)
        answer = here.recv()
        assert answer(3) == 6 if callable(answer) else answer == message
    here.send(None)
    for read in (here.recv, here.recv_bytes, here.recv):
        with pytest.raises(EOFError):
            read()
    with pytest.raises(BrokenPipeError):
        here.send(1)
    here.close()


def test_an_end_may_be_closed_as_soon_as_the_child_was_started(
    start: Callable[..., Any], targets: ModuleType
) -> None:
    here, there = Pipe()
    start(targets.echo_bytes, there)
    there.close()
    here.send_bytes(b"hello")
    assert here.recv_bytes() == b"hello"
    here.send_bytes(b"")
    with pytest.raises(EOFError):
        here.recv_bytes()
    here.close()


def test_several_processes_write_and_read_one_pipe(start: Callable[..., Any], targets: ModuleType) -> None:
    reader, writer = Pipe(duplex=False)
    results, sink = Pipe(duplex=False)
    count, parties = 400, 2
    receivers = [start(targets.receive_range, reader, sink) for _ in range(parties)]
    senders = [start(targets.send_range, writer, party, count) for party in range(parties)]
    sink.close()
    for sender in senders:
        sender.join()
    for _ in receivers:
        writer.send(None)
    got = []
    while True:
        try:
            got.append(results.recv())
        except EOFError:
            break
    assert sorted(got) == [(party, number) for party in range(parties) for number in range(count)]
    closed(reader, writer, results)


@pytest.mark.parametrize("how", ["killed", "at once", "raises", "returns"])
def test_the_end_of_the_peer_however_it_ends(
    start: Callable[..., Any], targets: ModuleType, how: str
) -> None:
    here, there = Pipe()
    process = start(targets.die, there, how)
    there.close()
    assert here.recv() == how
    with pytest.raises(EOFError):
        here.recv()
    process.join()
    with pytest.raises(BrokenPipeError):
        here.send("to nobody")
    here.close()


def test_a_sender_that_waits_for_room_hears_that_the_reader_was_killed(
    start: Callable[..., Any], targets: ModuleType
) -> None:
    here, there = Pipe()
    process = start(targets.ignore, there)
    there.close()
    assert here.recv() == "here"
    here.send_bytes(bytes(900_000))
    timer = threading.Timer(0.05, lambda: os.kill(process.pid, signal.SIGKILL))
    timer.start()

    def fill() -> None:
        while True:
            here.send_bytes(bytes(900_000))

    with pytest.raises(BrokenPipeError):
        fill()
    timer.join()
    here.close()


def test_connections_travel_through_connections(start: Callable[..., Any], targets: ModuleType) -> None:
    here, there = Pipe()
    process = start(targets.send_a_new_pipe, there)
    there.close()
    arrived = here.recv()
    assert arrived.recv() == f"from {process.pid}"
    arrived.send("back")
    assert here.recv() == "back"
    here.send(None)
    closed(here, arrived)


def test_a_process_may_leave_right_after_it_has_sent_a_connection(
    start: Callable[..., Any], targets: ModuleType
) -> None:
    here, there = Pipe()
    process = start(targets.send_a_pipe_and_leave, there)
    there.close()
    with here.recv() as arrived:
        assert arrived.recv() == "left behind"
        process.join()
        with pytest.raises(EOFError):
            arrived.recv()
    here.close()


def test_a_connection_handed_on_stays_open_when_the_own_copy_is_closed(
    start: Callable[..., Any], targets: ModuleType
) -> None:
    here, there = Pipe()
    start(targets.echo, there)
    there.close()
    reader, writer = Pipe(duplex=False)
    here.send(writer)
    writer.close()
    echoed = here.recv()
    here.send(None)
    with pytest.raises(EOFError):
        here.recv()
    echoed.send("through the copy of a copy")
    assert reader.recv() == "through the copy of a copy"
    echoed.close()
    with pytest.raises(EOFError):
        reader.recv()
    closed(here, reader)


def test_one_of_several_is_waited_for_with_sentinels(start: Callable[..., Any], targets: ModuleType) -> None:
    here, there = Pipe()
    process = start(targets.hold, there)
    there.close()
    assert wait([here, process.sentinel]) == [here]
    assert here.recv() == "here"
    assert wait([process.sentinel, here], 0) == []
    here.send("end")
    ready = wait([process.sentinel, here])
    assert ready
    process.join()
    assert wait([process.sentinel, here]) == [process.sentinel, here]
    here.close()


def test_a_task_takes_a_connection_and_gives_one(ctx: context.BaseContext, targets: ModuleType) -> None:
    with ctx.Pool(1) as pool:
        pool.apply(int)  # so that a forked worker does not inherit the pipe
        reader, writer = Pipe(duplex=False)
        assert pool.apply(targets.write_through, (writer,)) == "done"
        writer.close()
        assert reader.recv() == "written"
        with pytest.raises(EOFError):
            reader.recv()
        given = pool.apply(targets.readable_end)
        assert given.recv() == "in the result"
    closed(reader, given)


@pytest.mark.leaks("the standard library's fork server stays")
@pytest.mark.parametrize("method", METHODS)
def test_a_process_of_the_standard_library_takes_ours(targets: ModuleType, method: str) -> None:
    here, there = Pipe()
    process = multiprocessing.get_context(method).Process(target=targets.echo, args=(there,))
    process.start()
    there.close()
    here.send("over there")
    assert here.recv() == "over there"
    here.send(None)
    process.join()
    assert process.exitcode == 0
    here.close()


def test_a_process_of_ours_takes_the_standard_librarys(
    start: Callable[..., Any], targets: ModuleType
) -> None:
    here, there = multiprocessing.Pipe()
    start(targets.echo, there)
    there.close()
    here.send("over here")
    assert here.recv() == "over here"
    here.send(None)
    with pytest.raises(EOFError):
        here.recv()
    here.close()


def test_ours_and_the_standard_librarys_carry_each_other() -> None:
    ours = Pipe()
    theirs = multiprocessing.Pipe()
    theirs[0].send(ours[1])
    arrived = theirs[1].recv()
    ours[0].send("ours in theirs")
    assert arrived.recv() == "ours in theirs"
    ours[0].send(theirs[1])
    carried = ours[1].recv()
    theirs[0].send("theirs in ours")
    assert carried.recv() == "theirs in ours"
    for end in (*ours, *theirs, arrived, carried):
        end.close()
    from multiprocessing import resource_sharer

    resource_sharer.stop(timeout=5)


def test_a_forked_child_shares_both_ends() -> None:
    here, there = Pipe()
    here.send("before the fork")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert there.recv() == "before the fork"
            there.send("from the child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert here.recv() == "from the child"
    closed(here, there)


def test_the_names_are_where_the_standard_library_has_them() -> None:
    theirs = multiprocessing.connection
    for name in theirs.__all__:
        assert getattr(corral.connection, name)
    first, second = corral.Pipe(duplex=False)
    assert (first.readable, second.writable) == (True, True)
    closed(first, second)
    assert "connection" in sys.modules["corral.connection"].__name__
