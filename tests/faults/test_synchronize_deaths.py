"""The holder of a lock, or a party of a barrier, dies: what the others hear of it, for each start method."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import sync_targets as targets

import corral as mp

if TYPE_CHECKING:
    from collections.abc import Callable

METHODS = ("fork", "forkserver", "spawn")
LONG = 30


@pytest.fixture(params=METHODS)
def ctx(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


def killed(ctx: Any, target: Callable[..., object], *args: object) -> int:
    """Run a child that kills itself; return its pid."""
    child = ctx.Process(target=target, args=args)
    child.start()
    child.join(LONG)
    assert child.exitcode == -signal.SIGKILL
    pid: int = child.pid
    child.close()
    return pid


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_dead_holders_lock_is_granted_with_a_warning_that_names_the_dead(ctx: Any, kind: str) -> None:
    lock = getattr(ctx, kind)()
    pid = killed(ctx, targets.hold_and_die, lock)
    assert "SomeOtherProcess" in repr(lock)
    assert lock.owner_pid is None
    with pytest.warns(mp.OwnerDiedWarning, match=f"process {pid} died while it held this lock"):
        assert lock.acquire()
    assert lock.owner_pid == os.getpid()
    lock.release()
    with lock:
        pass


@pytest.mark.parametrize("how", [(False, None), (True, 0), (True, LONG)])
def test_however_one_asks(how: tuple[bool, float | None]) -> None:
    ctx = mp.get_context("fork")
    lock = ctx.Lock(on_owner_death="ignore")
    killed(ctx, targets.hold_and_die, lock)
    assert lock.acquire(*how)


def test_a_warning_that_is_an_error_leaves_the_lock_free() -> None:
    ctx = mp.get_context("fork")
    lock = ctx.Lock()
    killed(ctx, targets.hold_and_die, lock)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(mp.OwnerDiedWarning), lock:
            pass
    assert lock.acquire(False)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_dead_holders_lock_is_refused_until_somebody_clears_it(ctx: Any, kind: str) -> None:
    lock = getattr(ctx, kind)(on_owner_death="raise")
    pid = killed(ctx, targets.hold_and_die, lock)
    with pytest.raises(mp.OwnerDied, match=f"process {pid} died"), lock:
        pass
    assert not lock.locked()
    for _ in range(2):
        with pytest.raises(mp.LockPoisoned, match=f"process {pid} died"):
            lock.acquire()
        assert not lock.locked()
    lock.clear_poison()
    with lock:
        pass


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="must be one of 'warn', 'raise', 'ignore', not 'shrug'"):
        mp.Lock(on_owner_death="shrug")  # type: ignore[arg-type]


def test_a_dead_holders_lock_may_be_released_by_another() -> None:
    ctx = mp.get_context("fork")
    lock = ctx.Lock()
    killed(ctx, targets.hold_and_die, lock)
    lock.release()
    assert lock.acquire(False)


def test_who_waits_on_a_condition_has_the_lock_even_when_it_hears_of_a_death() -> None:
    ctx = mp.get_context("fork")
    condition = ctx.Condition(ctx.RLock(on_owner_death="raise"))
    with condition:
        child = ctx.Process(target=targets.hold_and_die, args=(condition,))
        child.start()
        with pytest.raises(mp.OwnerDied):
            # The child can only die once we have let go of the lock.
            condition.wait(0.2)
        assert condition._lock._is_mine()
    child.join(LONG)
    child.close()


def test_a_barrier_breaks_when_one_dies_that_waits_there(ctx: Any) -> None:
    barrier = ctx.Barrier(3)
    child = ctx.Process(target=targets.pass_and_die, args=(barrier, "never gets so far"))
    child.start()
    waiting = threading.Event()

    def kill() -> None:
        while barrier.n_waiting < 2:
            waiting.wait(0.001)
        child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(LONG)
    killer.join()
    child.join(LONG)
    child.close()


def test_a_barrier_breaks_when_one_died_after_it_had_passed(ctx: Any) -> None:
    barrier = ctx.Barrier(2)
    child = ctx.Process(target=targets.pass_and_die, args=(barrier, "killed"))
    child.start()
    barrier.wait(LONG)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(LONG)
    child.join(LONG)
    child.close()
    barrier.reset()
    assert not barrier.broken


def test_a_fork_while_other_threads_hold_and_wait_leaves_the_child_free_to_use_the_rest() -> None:
    held, recursive, free = mp.Lock(), mp.RLock(), mp.Lock()
    condition, event = mp.Condition(), mp.Event()
    holding = threading.Event()

    def hold() -> None:
        with held, recursive, condition:
            holding.set()
            condition.wait(LONG)

    def wait() -> None:
        with held:
            pass

    threads = [threading.Thread(target=hold), threading.Thread(target=wait)]
    for thread in threads:
        thread.start()
    holding.wait()
    for _ in range(20):
        pid = os.fork()
        if not pid:
            ok = not held.acquire(False) and not recursive.acquire(timeout=0.001) and not recursive._is_mine()
            with free, mp.Lock(), mp.Condition():
                event.set()
            os._exit(0 if ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert event.wait(LONG)
        event.clear()
    with condition:
        condition.notify_all()
    for thread in threads:
        thread.join()


def test_a_signal_handler_runs_while_one_waits_and_the_wait_goes_on() -> None:
    event, seen = mp.Event(), []

    def note(number: int, _: object) -> None:
        seen.append(number)
        event.set()

    before = signal.signal(signal.SIGUSR1, note)
    try:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        assert event.wait(LONG)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]


@pytest.mark.parametrize("what", ["lock", "semaphore", "event", "condition", "barrier"])
def test_an_exception_of_a_signal_handler_ends_the_wait(what: str) -> None:
    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    lock, condition, barrier = mp.Lock(), mp.Condition(), mp.Barrier(2)
    lock.acquire()
    waits: dict[str, Callable[[], object]] = {
        "lock": lock.acquire,
        "semaphore": mp.Semaphore(0).acquire,
        "event": mp.Event().wait,
        "condition": condition.wait,
        "barrier": barrier.wait,
    }
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        with pytest.raises(Stop), condition:
            waits[what]()
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not condition._lock.locked()
    assert barrier.broken == (what == "barrier")
