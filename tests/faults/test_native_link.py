"""A worker killed at any moment: what it had taken is known, the rest is taken back, no block is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

from corral import _native
from corral._native import Bell, Block, Heap, Link, WaitSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The watchdog of the tests is a thread; the forked worker touches nothing that it could hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

LINK = 1
DEATH = 2
INLINE = b"i" * 20
LARGE = b"L" * 5000


class Peer(NamedTuple):
    """A forked worker, as its parent holds it."""

    heap: Heap
    link: Link
    waits: WaitSet
    pid: int
    identity: int


@contextlib.contextmanager
def forked(work: Callable[[Link], object]) -> Iterator[Peer]:
    """Fork a worker that runs `work` on its side of a small link; at the end it is dead and reaped."""
    heap = Heap.create(1 << 28)
    bell = Bell.create(heap)
    link = Link.create(heap, bell, 4096)
    waits = WaitSet(bell)
    waits.add_link(LINK, link)
    pid = os.fork()
    if not pid:
        # Nothing of the parent's test run may go on in here.
        try:
            work(Link.attach(heap, link.ref, bell.fileno()))
        finally:
            os._exit(0)
    pidfd = os.pidfd_open(pid)
    try:
        waits.add_fd(DEATH, pidfd)
        yield Peer(heap, link, waits, pid, _native.identity_of(pid))
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pidfd)


def echo(link: Link) -> None:
    """Reply to everything with a body of the same kind."""
    link.spin_us = 20
    while (frame := link.recv()) is not None:
        kind, number, aux, body = frame
        link.reply(kind, number, aux, INLINE if isinstance(body, bytes) else LARGE)


def feed_until_dead(peer: Peer, kill_after: int) -> tuple[dict[int, int], set[int]]:
    """Keep the ring full, kill after so many replies, collect to the end: positions sent, ids answered."""
    sent: dict[int, int] = {}
    answered: set[int] = set()
    is_killed = False
    while True:
        number = len(sent)
        position = -1
        if not is_killed:
            position = peer.link.send(1, number, 0, INLINE if number % 3 else LARGE)
        if position >= 0:
            sent[number] = position
            continue
        tokens = peer.waits.wait(None, 20)
        answered.update(frame[1] for frame in peer.link.recv_many())
        if len(answered) >= kill_after and not is_killed:
            os.kill(peer.pid, signal.SIGKILL)
            is_killed = True
        if DEATH in tokens:
            # What it committed before it died is still there.
            answered.update(frame[1] for frame in peer.link.recv_many())
            return sent, answered


@pytest.mark.parametrize("seed", range(12))
def test_after_a_kill_every_task_is_answered_or_taken_back_but_for_the_one_it_ran(seed: int) -> None:
    with forked(echo) as peer:
        before = peer.heap.stats()["blocks_used"]
        sent, answered = feed_until_dead(peer, random.Random(seed).randrange(1, 3000))
        lost = []
        for number, position in sent.items():
            is_taken = peer.link.taken(position, number)
            body = peer.link.revoke(position, number)
            assert is_taken == (body is None)
            if number in answered:
                assert is_taken
            elif is_taken:
                lost.append(number)
            else:
                assert body is not None
                assert_is_as_sent(number, body)
        assert len(lost) <= 1, "it ran one task at a time"
        del body
        peer.link.settle()
        peer.heap.recover(peer.identity)
        assert peer.heap.stats()["blocks_used"] == before


def assert_is_as_sent(number: int, body: bytes | Block) -> None:
    if number % 3:
        assert body == INLINE
    else:
        assert isinstance(body, Block)
        assert [bytes(part) for part in body.parts()] == [LARGE]


def test_a_death_wakes_a_parent_that_sleeps() -> None:
    with forked(lambda link: link.recv()) as peer:
        os.kill(peer.pid, signal.SIGKILL)
        assert peer.waits.wait(None) == [DEATH]
        assert peer.waits.wait(0) == []


def test_blocks_of_a_dead_worker_are_collected() -> None:
    with forked(lambda link: link.reply(1, 1, 0, LARGE)) as peer:
        tokens: list[int] = []
        while DEATH not in tokens:
            tokens += peer.waits.wait(None)
        os.waitid(os.P_PID, peer.pid, os.WEXITED | os.WNOWAIT)
        assert not _native.is_alive(peer.identity)
        [(_, _, _, body)] = peer.link.recv_many()
        assert isinstance(body, Block)
        assert [bytes(part) for part in body.parts()] == [LARGE]


def test_a_stopped_worker_holds_nobody_up_and_goes_on_later() -> None:
    with forked(echo) as peer:
        os.kill(peer.pid, signal.SIGSTOP)
        os.waitpid(peer.pid, os.WUNTRACED)
        positions = [peer.link.send(1, number, 0, INLINE) for number in range(4)]
        assert peer.link.revoke(positions[3], 3) == INLINE
        os.kill(peer.pid, signal.SIGCONT)
        answered: list[int] = []
        while len(answered) < 3:
            peer.waits.wait(None)
            answered += [frame[1] for frame in peer.link.recv_many()]
        assert answered == [0, 1, 2]


@pytest.mark.parametrize("spin_us", [0, 50])
def test_a_signal_handler_runs_while_the_parent_waits(spin_us: int) -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with forked(lambda link: link.recv()) as peer:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            with pytest.raises(InterruptedError):
                peer.waits.wait(None, spin_us)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_signal_handler_runs_while_the_worker_waits() -> None:
    def reply_and_end(link: Link) -> None:
        def interrupt(_number: int, _frame: object) -> None:
            raise InterruptedError

        signal.signal(signal.SIGUSR1, interrupt)
        link.spin_us = 50
        try:
            # In the same block: the signal may come before the wait has begun.
            link.reply(1, 1, 0, b"ready")
            link.recv()
        except InterruptedError:
            link.reply(1, 2, 0, b"interrupted")

    with forked(reply_and_end) as peer:
        peer.waits.wait(None)
        assert peer.link.recv_many() == [(1, 1, 0, b"ready")]
        os.kill(peer.pid, signal.SIGUSR1)
        while not (frames := peer.link.recv_many()):
            peer.waits.wait(None)
        assert frames == [(1, 2, 0, b"interrupted")]


def test_a_forked_copy_of_the_parents_side_frees_nothing() -> None:
    heap = Heap.create(1 << 28)
    link = Link.create(heap, Bell.create(heap), 4096)
    link.send(1, 1, 0, LARGE)
    before = heap.stats()["blocks_used"]
    pid = os.fork()
    if not pid:
        del link
        os._exit(0)
    os.waitpid(pid, 0)
    assert heap.stats()["blocks_used"] == before


def test_a_worker_waits_for_room_and_the_parents_collection_wakes_it() -> None:
    def flood(link: Link) -> None:
        for number in range(2000):
            link.reply(1, number, 0, INLINE)

    with forked(flood) as peer:
        numbers: list[int] = []
        while len(numbers) < 2000:
            peer.waits.wait(None)
            time.sleep(0)  # let it fill the ring again
            numbers += [frame[1] for frame in peer.link.recv_many()]
        assert numbers == list(range(2000))
