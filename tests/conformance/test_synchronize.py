"""Locks, semaphores, Condition, Event and Barrier: the standard library's promises, for each start method."""

from __future__ import annotations

import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.conformance import sync_targets as targets

import corral as mp

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ("fork", "forkserver", "spawn")
SOON = 0.02
LONG = 30


@pytest.fixture(params=METHODS)
def ctx(request: pytest.FixtureRequest) -> Any:
    return mp.get_context(request.param)


class Crew:
    """Children that are joined, and have ended well, when the test does."""

    def __init__(self, ctx: Any) -> None:
        self.ctx = ctx
        self.children: list[Any] = []

    def start(self, target: Any, *args: Any) -> Any:
        child = self.ctx.Process(target=target, args=args, daemon=True)
        child.start()
        self.children.append(child)
        return child

    def join(self, code: int = 0) -> None:
        for child in self.children:
            child.join(LONG)
            assert child.exitcode == code
            child.close()
        self.children.clear()


@pytest.fixture
def crew(ctx: Any) -> Iterator[Crew]:
    made = Crew(ctx)
    yield made
    made.join()


def in_thread(call: Any) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


# --- locks: one process ----------------------------------------------------------------------------


def test_a_lock_is_taken_once() -> None:
    lock = mp.Lock()
    assert lock.acquire() is True
    assert lock.acquire(False) is False
    assert lock.acquire(block=False) is False
    assert lock.acquire(timeout=SOON) is False
    assert lock.acquire(True, -1) is False
    assert lock.release() is None  # type: ignore[func-returns-value]
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        lock.release()


def test_a_recursive_lock_is_taken_again_and_given_back_as_often() -> None:
    lock = mp.RLock()
    assert [lock.acquire(), lock.acquire(False), lock.acquire(timeout=1)] == [True] * 3
    assert lock._semlock._count() == 3
    for _ in range(3):
        lock.release()
    with pytest.raises(AssertionError, match="attempt to release recursive lock not owned by thread"):
        lock.release()


def test_a_recursive_lock_belongs_to_a_thread_and_a_plain_one_to_nobody() -> None:
    plain, recursive = mp.Lock(), mp.RLock()
    failures: list[BaseException] = []

    def release() -> None:
        plain.release()
        try:
            recursive.release()
        except AssertionError as error:
            failures.append(error)

    with recursive:
        plain.acquire()
        in_thread(release).join()
    assert len(failures) == 1
    assert plain.acquire(False)


def test_reprs_tell_the_owner() -> None:
    plain, recursive = mp.Lock(), mp.RLock()
    assert (repr(plain), repr(recursive)) == ("<Lock(owner=None)>", "<RLock(None, 0)>")
    with plain, recursive, recursive:
        assert (repr(plain), repr(recursive)) == ("<Lock(owner=MainProcess)>", "<RLock(MainProcess, 2)>")
        seen: list[str] = []
        in_thread(lambda: seen.extend(map(repr, (plain, recursive)))).join()
        assert seen == ["<Lock(owner=SomeOtherThread)>", "<RLock(SomeOtherThread, nonzero)>"]
    named: list[str] = []
    thread = threading.Thread(target=lambda: [named.append(repr(plain)) for _ in [plain.acquire()]], name="T")
    thread.start()
    thread.join()
    assert named == ["<Lock(owner=MainProcess|T)>"]


def test_what_a_semlock_knows() -> None:
    lock, semaphore = mp.Lock(), mp.BoundedSemaphore(3)
    assert (lock._semlock._get_value(), lock._semlock._is_zero(), lock._semlock._is_mine()) == (
        1,
        False,
        False,
    )
    with lock:
        assert (lock._semlock._get_value(), lock._semlock._is_mine(), lock.locked()) == (0, True, True)
    assert (semaphore._semlock._get_value(), semaphore._semlock.maxvalue) == (3, 3)


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Event"])
def test_they_are_pickled_only_while_a_process_is_started(kind: str) -> None:
    message = f"{kind} objects should only be shared between processes through inheritance"
    with pytest.raises(RuntimeError, match=message):
        pickle.dumps(getattr(mp, kind)())


def test_a_time_out_must_be_a_number() -> None:
    lock = mp.Lock()
    lock.acquire()
    with pytest.raises(ValueError, match="not a number"):
        lock.acquire(timeout=float("nan"))
    with pytest.raises(TypeError):
        lock.acquire(True, "soon")  # type: ignore[arg-type]


def test_a_waiting_thread_lets_others_run_and_is_woken() -> None:
    lock = mp.Lock()
    lock.acquire()
    got: list[bool] = []
    thread = in_thread(lambda: got.append(lock.acquire(timeout=LONG)))
    lock.release()
    thread.join()
    assert got == [True]


def test_a_time_out_is_kept() -> None:
    lock = mp.Lock()
    lock.acquire()
    begun = time.monotonic()
    assert not lock.acquire(timeout=0.15)
    assert time.monotonic() - begun >= 0.15


def test_classes_may_be_derived_from() -> None:
    class Named(type(mp.Lock())):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            super().__init__(ctx=mp.get_context())
            self.name = name

    lock = Named("x")
    with lock:
        assert repr(lock) == "<Named(owner=MainProcess)>"


def test_a_class_that_forgets_to_initialise_is_told_so() -> None:
    class Forgetful(type(mp.Lock())):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

    with pytest.raises(ValueError, match="__init__"):
        Forgetful().acquire()


# --- locks: several processes ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_processes_exclude_each_other(ctx: Any, crew: Crew, kind: str) -> None:
    lock, cell = getattr(ctx, kind)(), ctx.Semaphore(0)
    for _ in range(2):
        crew.start(targets.add, lock, cell, 300)
    targets.add(lock, cell, 300)
    crew.join()


def test_a_child_may_release_a_plain_lock(ctx: Any, crew: Crew) -> None:
    lock = ctx.Lock()
    lock.acquire()
    assert repr(lock) == "<Lock(owner=MainProcess)>"
    crew.start(targets.release, lock)
    assert lock.acquire(timeout=LONG)


def test_a_child_may_not_release_a_recursive_lock(ctx: Any, crew: Crew) -> None:
    lock, found = ctx.RLock(), ctx.Event()
    with lock:
        crew.start(targets.try_release, lock, found)
        assert found.wait(LONG)
        crew.join()


def test_what_one_was_given_can_be_given_on(ctx: Any) -> None:
    lock, event = ctx.Lock(), ctx.Event()
    lock.acquire()
    child = ctx.Process(target=targets.hand_on, args=(ctx.Process, lock, event))
    child.start()
    assert event.wait(LONG)
    assert lock.acquire(timeout=LONG)
    child.join()
    assert child.exitcode == 0
    child.close()


# --- semaphores ------------------------------------------------------------------------------------


def test_a_semaphore_counts() -> None:
    semaphore = mp.Semaphore(2)
    assert repr(semaphore) == "<Semaphore(value=2)>"
    assert [semaphore.acquire(), semaphore.acquire(), semaphore.acquire(False)] == [True, True, False]
    assert not semaphore.acquire(timeout=SOON)
    for value in (1, 2, 3):
        semaphore.release()
        assert semaphore.get_value() == value
    with semaphore:
        assert semaphore.get_value() == 2


def test_a_bounded_semaphore_is_bounded() -> None:
    semaphore = mp.BoundedSemaphore(1)
    assert repr(semaphore) == "<BoundedSemaphore(value=1, maxvalue=1)>"
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        semaphore.release()


@pytest.mark.parametrize(
    ("value", "error"), [(-1, OSError), (1 << 31, OverflowError), (1.5, TypeError)], ids=str
)
def test_impossible_values_are_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        mp.Semaphore(value)


def test_semaphores_wake_each_other(ctx: Any, crew: Crew) -> None:
    ask, answer = ctx.Semaphore(0), ctx.Semaphore(0)
    crew.start(targets.echo, ask, answer, 200)
    for _ in range(200):
        ask.release()
        assert answer.acquire(timeout=LONG)


# --- events ----------------------------------------------------------------------------------------


def test_an_event_is_set_and_cleared() -> None:
    event = mp.Event()
    assert (event.is_set(), event.wait(0), event.wait(SOON), event.wait(-1)) == (False,) * 4
    assert repr(event).startswith("<Event at 0x")
    assert repr(event).endswith("unset>")
    event.set()
    event.set()
    assert (event.is_set(), event.wait(), event.wait(0)) == (True,) * 3
    assert repr(event).endswith(" set>")
    event.clear()
    assert not event.is_set()


def test_an_event_wakes_everybody(ctx: Any, crew: Crew) -> None:
    event, told = ctx.Event(), ctx.Semaphore(0)
    for _ in range(2):
        crew.start(targets.wait_and_tell, event, told)
    event.set()
    assert all(told.acquire(timeout=LONG) for _ in range(2))


def test_who_waits_hears_of_an_event_that_was_cleared_at_once() -> None:
    event = mp.Event()
    heard: list[bool] = []
    threads = [in_thread(lambda: heard.append(event.wait(LONG))) for _ in range(2)]
    while len(heard) < 2:
        event.set()
        event.clear()
    for thread in threads:
        thread.join()
    assert heard == [True, True]


# --- conditions ------------------------------------------------------------------------------------


def test_a_condition_needs_its_lock() -> None:
    condition = mp.Condition()
    with pytest.raises(AssertionError, match="must acquire"):
        condition.wait()
    with pytest.raises(AssertionError, match="lock is not owned"):
        condition.notify()
    with pytest.raises(AssertionError, match="lock is not owned"):
        condition.notify_all()
    with pytest.raises(TypeError, match="a condition needs a lock"):
        mp.Condition(5)


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_wait_that_nobody_ends_is_timed_out_with_the_lock_held(kind: str) -> None:
    lock = getattr(mp, kind)()
    condition = mp.Condition(lock)
    with condition:
        assert [condition.wait(0), condition.wait(SOON)] == [False, False]
        assert lock._semlock._is_mine()
    assert condition.acquire(timeout=1)
    condition.release()
    assert repr(condition) == f"<Condition({lock!r}, 0)>"


def test_a_recursive_lock_is_let_go_of_altogether_and_taken_back_as_often() -> None:
    condition = mp.Condition()
    called = threading.Event()

    def call() -> None:
        with condition:
            condition.notify()
            called.set()

    with condition, condition:
        thread = in_thread(call)
        assert condition.wait(LONG)
        assert called.is_set()
        assert condition._lock._count() == 2
    thread.join()
    assert not condition._lock.locked()


def test_a_condition_goes_with_a_lock_of_the_standard_library() -> None:
    import multiprocessing

    condition = mp.Condition(multiprocessing.get_context("fork").RLock())
    with condition:
        assert not condition.wait(SOON)
        condition.notify_all()


def test_so_many_are_called_as_was_said(ctx: Any, crew: Crew) -> None:
    condition, seated, called = ctx.Condition(), ctx.Semaphore(0), ctx.Semaphore(0)
    for _ in range(2):
        crew.start(targets.wait_for_call, condition, seated, called)
    threads = [in_thread(lambda: targets.wait_for_call(condition, seated, called)) for _ in range(2)]
    assert all(seated.acquire(timeout=LONG) for _ in range(4))
    for count, wake in ((1, 1), (2, 2), (1, 5)):
        with condition:
            condition.notify(wake)
        assert all(called.acquire(timeout=LONG) for _ in range(count))
        assert not called.acquire(False)
    crew.join()
    for thread in threads:
        thread.join()


def test_all_are_called(ctx: Any, crew: Crew) -> None:
    condition, seated, called = ctx.Condition(ctx.Lock()), ctx.Semaphore(0), ctx.Semaphore(0)
    for _ in range(2):
        crew.start(targets.wait_for_call, condition, seated, called)
    assert all(seated.acquire(timeout=LONG) for _ in range(2))
    with condition:
        condition.notify_all()
    assert all(called.acquire(timeout=LONG) for _ in range(2))


def test_wait_for_says_what_the_predicate_said_last() -> None:
    condition = mp.Condition()
    answers = iter([0, "", 7])
    with condition:
        assert condition.wait_for(lambda: 5) == 5
        assert condition.wait_for(lambda: 0, SOON) == 0

        done = threading.Event()

        def call() -> None:
            while not done.is_set():
                with condition:
                    condition.notify()

        thread = in_thread(call)
        assert condition.wait_for(lambda: next(answers), LONG) == 7
    done.set()
    thread.join()


# --- barriers --------------------------------------------------------------------------------------


def test_a_barrier_of_one_lets_pass_and_shows_what_it_is() -> None:
    barrier = mp.Barrier(1)
    assert (barrier.wait(), barrier.wait()) == (0, 0)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (1, 0, False)
    assert ": waiters=0/1>" in repr(barrier)
    barrier.abort()
    assert repr(barrier).endswith(": broken>")


def test_a_barrier_is_passed_in_lockstep(ctx: Any, crew: Crew) -> None:
    barrier, inside = ctx.Barrier(3), ctx.Semaphore(0)
    for _ in range(2):
        crew.start(targets.pass_often, barrier, inside, 20)
    targets.pass_often(barrier, inside, 20)
    crew.join()
    assert (barrier.n_waiting, barrier.broken) == (0, False)


def test_each_party_has_an_index_and_one_acts(ctx: Any, crew: Crew) -> None:
    indices, done = [ctx.Semaphore(0) for _ in range(3)], ctx.Semaphore(0)
    barrier = ctx.Barrier(3, targets.Action(done))
    for _ in range(2):
        crew.start(targets.pass_once, barrier, indices)
    targets.pass_once(barrier, indices)
    crew.join()
    assert [index.get_value() for index in indices] == [1, 1, 1]
    assert done.get_value() == 1


def test_an_action_that_fails_breaks_the_barrier() -> None:
    barrier = mp.Barrier(1, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        barrier.wait()
    assert barrier.broken
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()


@pytest.mark.parametrize("where", ["wait", "barrier"])
def test_a_time_out_breaks_the_barrier_until_it_is_reset(where: str) -> None:
    barrier = mp.Barrier(2, timeout=SOON if where == "barrier" else LONG)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(SOON if where == "wait" else None)
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken
    thread = in_thread(barrier.wait)
    barrier.wait(LONG)
    thread.join()


@pytest.mark.parametrize("how", ["abort", "reset"])
def test_who_waits_is_sent_away(ctx: Any, crew: Crew, how: str) -> None:
    barrier, broken = ctx.Barrier(3), ctx.Semaphore(0)
    for _ in range(2):
        crew.start(targets.meet_a_broken_barrier, barrier, broken)
    while barrier.n_waiting < 2:
        time.sleep(0.001)
    getattr(barrier, how)()
    assert all(broken.acquire(timeout=LONG) for _ in range(2))
    assert barrier.broken == (how == "abort")


def test_impossible_numbers_of_parties_are_refused() -> None:
    with pytest.raises(ValueError, match="parties"):
        mp.Barrier(-1)


def test_an_orderly_end_does_not_break_a_barrier(ctx: Any, crew: Crew) -> None:
    barrier = ctx.Barrier(2)
    for _ in range(3):
        crew.start(targets.pass_and_die, barrier, "orderly")
        assert barrier.wait(LONG) in (0, 1)
        crew.join()
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait(0.3)
