"""The engine under every pool and executor: takes tasks, drives the workers, ends well.

Role in the flow: faces submit tasks and sources and wait; the crew sends them and takes in what comes
back; each outcome goes to its task's sink. The pure parts decide (`scheduler`, `ledger`, `supervision`,
`chunking`).

Runs in: the parent. Whoever waits for a result drives the engine himself (`wait_for`), so that a round
trip needs no hand-over between threads; a background thread drives while nobody waits.

Invariants:
    INV-ENGINE-1: the crew is touched under `_lock` only; no user code runs under it.
    INV-ENGINE-2: sinks are called outside `_lock`.
    INV-ENGINE-3: a thread that finishes what it was not itself waiting for wakes the foreground
        (`announce`).
    INV-ENGINE-4: whoever makes room for tasks feeds: `_feeder` runs after every step, or is running and
        looks again.
"""

from __future__ import annotations

import os
import threading
import weakref
from _thread import get_ident
from collections import deque
from time import monotonic

from corral._codec import Snapshot
from corral._engine import callbacks, roll
from corral._engine.alarm import Alarm
from corral._engine.arrivals import Arrivals
from corral._engine.crew import Crew
from corral._engine.gate import Gate
from corral._engine.interrupts import hold, release
from corral._engine.leash import Leash
from corral._engine.obituary import again, pool_broken
from corral._engine.onetime import OneAtATime
from corral._engine.sizing import IDLE_S
from corral._engine.within import WaitsWithin
from corral.errors import PoolClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral._engine.ledger import Task, TermedTask
    from corral._engine.ports import Backend, Child, Source, Waitable
    from corral._engine.stream import Stream

_TERMINATE_GRACE_S = 0.5
_STUCK_S = 0.002
_TIDY_S = 5.0
_RETRY_S = 1.0
_LOOK_EVERY = 31  # a mask: every 32nd submission looks for outcomes
_KILL_GRACE_S = 10.0
_CLOSED_MEANWHILE = "the pool was closed and takes no more tasks"


class Engine(WaitsWithin):
    """Runs tasks on the workers of a backend.

    Thread-safe; not usable in a forked child, where calls raise.
    """

    def __init__(
        self,
        backend: Backend,
        workers: int,
        *,
        tasks_per_worker: int | None = None,
        on_demand: bool = False,
        drain_at_exit: bool = False,
        least: int | None = None,
        idle_s: float | None = None,
    ) -> None:
        """Launch `workers` workers; with `on_demand` each only when there is work for it.

        With `least` or `idle_s`, workers who had nothing to do for that long leave, but for `least` of them.

        `drain_at_exit`: whether the program's exit waits for unsettled tasks (an executor's) or not (a
        pool's).
        """
        self._backend = backend
        self._waitset = backend.waitset
        self._spin_us = backend.spin_us
        self.workers = workers
        self.snapshot = Snapshot()  # the globals of __main__ as this pool's workers know them
        self._lock = threading.RLock()
        self._foreground = threading.Lock()
        self._feeder = OneAtATime(self._feed_sources)
        self._look_later = False
        self._active = False  # whether there was a step since the background last looked
        self._background_id = 0
        self._within: dict[int, int] = {}  # how deep a thread waits in the midst of steps
        self._dozing = True  # whether the background sleeps without end
        self._asleep = 0
        self._undelivered: dict[Arrivals, int] = {}  # and the thread that delivers them
        self._sources: deque[Source] = deque()
        self._streams: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._next_id = 1
        self._crew = Crew(backend, workers, quota=tasks_per_worker, on_demand=on_demand)
        self._alarm = Alarm(self._crew.agenda, self._lock, backend.waitset.kick)
        self.closing = False
        self.gone = Gate()
        self.leash = Leash(backend.waitset)
        self._drain_at_exit = drain_at_exit
        self._pid = os.getpid()
        if not on_demand or least:
            try:
                self._crew.launch(least)
            except BaseException:
                self._crew.scrap()
                raise
        if least is not None or idle_s is not None:
            self._crew.breathe(least or 0, IDLE_S if idle_s is None else idle_s)
        roll.enter(self)
        threading.Thread(target=self._background, name="corral-driver", daemon=True).start()

    @property
    def broken(self) -> BaseException | None:
        """Why no task can run any more; None while they can."""
        return self._crew.broken

    # Submitting.

    def submit(self, task: Task) -> None:
        """Send the task to a worker, or let it wait for one.

        Raises:
            BaseException: what `broken` holds, if the pool is broken; the caller checks `closing` itself.
            PoolClosed: it was closed, and its workers sent home, after the caller looked.
        """
        with self._lock:
            crew = self._crew
            if crew.broken is not None:
                raise again(crew.broken)
            if crew.dismissed:
                raise PoolClosed(_CLOSED_MEANWHILE)
            task.id = task_id = self._next_id
            self._next_id = task_id + 1
            crew.post(task)
            if crew.unsure and not self._look_later:
                # Nothing may arrive that would make anybody look: the task ahead may wait for this one.
                self._look_later = True
                self._waitset.kick()
            if crew.agenda.next_s is not None:
                self._alarm.set()
        if not task_id & _LOOK_EVERY:
            # Who submits much also takes in: cheaper than waking the background, which would want the GIL.
            self.poll()

    def submit_or_fail(self, task: Task) -> None:
        """As `submit`; an error becomes the task's outcome."""
        try:
            self.submit(task)
        except BaseException as error:
            self._submit_again(task, error)

    def _submit_again(self, task: Task, error: BaseException) -> None:
        """Find out whether the task itself cannot be submitted, or a signal's handler raised `error`."""
        try:
            with self._lock:
                is_under_way = task.seat >= 0 or task in self._crew.ledger.waiting
            if not is_under_way:
                self.submit(task)
        except BaseException as own:
            task.sink.failed(task, own)
            self.announce()
        else:
            hold(error)

    def add_source(self, source: Source) -> None:
        """Take tasks from `source` as workers become free; call again when it has more after it had none."""
        with self._lock:
            broken = self._crew.broken
            if broken is None and self._crew.dismissed:
                broken = PoolClosed(_CLOSED_MEANWHILE)
            if broken is None:
                self._sources.append(source)
        if broken is not None:
            source.abandon(again(broken))
        else:
            self._feeder.run()
        self.announce()
        release()

    def feeds(self, source: Source) -> bool:
        """Whether tasks are taken from `source`."""
        with self._lock:
            return source in self._sources

    def hold(self, stream: Stream) -> None:
        """Keep the workers, even when closing, until every item of `stream` was sent or it is collected."""
        with self._lock:
            self._streams.add(stream)

    def cancel(self, task: Task) -> bool:
        """Withdraw the task; False if a worker has taken it or it has settled. Never blocks on a worker."""
        with self._lock:
            cancelled = self._crew.cancel(task)
            if cancelled:
                self._dismiss_if_drained()
        return cancelled

    def postpone(self, task: TermedTask, delay_s: float) -> bool:
        """Try the task, whose outcome has come, once more in `delay_s`; False if no more tasks are taken."""
        with self._lock:
            task.id = self._next_id
            self._next_id += 1
            taken = self._crew.postpone(task, delay_s)
            self._alarm.set()
        return taken

    def stop(self, task: Task) -> bool:
        """Withdraw the task or, if a worker has taken it, stop it; False if it has settled. Does not wait.

        It is asked to stop, and its worker killed if it does not; what comes of it nobody hears any more.
        """
        with self._lock:
            stopped = self._crew.cancel(task) or self._crew.stop(task)
            if stopped:
                self._alarm.set()
                self._dismiss_if_drained()
        return stopped

    def withdraw(self, call: Source, *, running: bool) -> None:
        """Withdraw what was sent for `call`, and with `running` stop what workers have taken."""
        with self._lock:
            self._sources = deque(source for source in self._sources if source is not call)
            sink: object = call
            for task in [task for task in self._crew.ledger.tasks() if task.sink is sink]:
                if not self._crew.cancel(task) and running:
                    self._crew.stop(task)
            self._alarm.set()
            self._dismiss_if_drained()
        self._feeder.run()

    def running(self, task: Task) -> bool:
        """Whether a worker has taken the task and not yet answered."""
        with self._lock:
            return self._crew.running(task)

    # Waiting.

    def wait_for(self, goal: Waitable, timeout_s: float | None = None) -> bool:
        """Drive the engine until `goal.done` or the time is up; return `goal.done`.

        Blocking: yes, with the GIL released; signal handlers run (so Ctrl-C raises here).

        Raises:
            RuntimeError: in a forked child, where the workers are the parent's.
        """
        if goal.done:
            return True
        if self._pid != os.getpid():
            raise RuntimeError(f"this pool belongs to process {self._pid}; a forked child cannot wait for it")
        deadline = None if timeout_s is None else monotonic() + timeout_s
        if self._undelivered and self._is_within():
            self._wait_within(goal, deadline)
        elif self._foreground.acquire(blocking=False):
            try:
                self._drive(goal, deadline)
            except BaseException:
                self._catch_up()
                raise
            finally:
                self._foreground.release()
                # Those who sleep on their own goals relied on this thread to drive.
                if self._asleep:
                    self._waitset.nudge()
        else:
            self._sleep(goal, deadline)
        return goal.done

    def attend(self) -> None:
        """Somebody is about to wait without driving: the background shall not stand by."""
        self._waitset.nudge()

    def poll(self) -> None:
        """Take in what has arrived, without waiting."""
        if self._undelivered and self._is_within():
            return  # users' code that rebuilds a result submits: the step it is part of is not over
        if self._pid == os.getpid() and self._foreground.acquire(blocking=False):
            try:
                tokens = self._waitset.wait(0.0, 0)
                if tokens:
                    self._step(tokens)
            except BaseException:
                self._catch_up()
                raise
            finally:
                self._foreground.release()

    def look_again(self) -> None:
        """Something changed behind the engine's back: a waiter may be done, a closing pool may be drained."""
        with self._lock:
            self._dismiss_if_drained()
        self.announce()

    def _drive(self, goal: Waitable, deadline: float | None) -> None:
        wait, spin_us, agenda = self._waitset.wait, self._spin_us, self._crew.agenda
        while not goal.done:
            remaining = None if deadline is None else max(0.0, deadline - monotonic())
            if self._look_later:
                # Here too: the background stands by as long as somebody waits in the foreground.
                remaining = _STUCK_S if remaining is None else min(remaining, _STUCK_S)
            if agenda.next_s is not None:
                remaining = self._alarm.until(remaining)
            tokens = wait(remaining, spin_us)
            if tokens:
                self._step(tokens)
                continue
            if self._look_later:
                self._look_for_stuck()
            if deadline is not None and monotonic() >= deadline:
                return

    def _sleep(self, goal: Waitable, deadline: float | None) -> None:
        with self._lock:
            self._asleep += 1
        try:
            # The foreground may have left before it could see this thread.
            self._waitset.nudge()
            goal.park(None if deadline is None else max(0.0, deadline - monotonic()))
        finally:
            with self._lock:
                self._asleep -= 1

    def _background(self) -> None:
        self._background_id = get_ident()
        try:
            self._drive_on()
        except BaseException as error:
            # Without this thread nothing goes on unless somebody waits: better an end that everybody sees.
            self._stop_all(pool_broken("the pool's own thread failed", error), kill=True)
            self._drive_on()

    def _drive_on(self) -> None:
        wait = self._waitset.wait_background
        timeout_s: float | None = None
        while not self.gone.done:
            self._dozing = timeout_s is None
            tokens = wait(self._alarm.rest(timeout_s))
            if tokens:
                self._step(tokens)
                self.announce()
            elif self._look_later:
                self._look_for_stuck()
            elif timeout_s == _TIDY_S and not self._active:
                self._backend.tidy()
            if self._crew.is_short and not self.closing:
                with self._lock:
                    self._crew.fill_up()
            if self.leash.dropped:
                self.leash.dropped = False
                self._end_soon()
            # Idle for one whole span: tidy up; for another: sleep until there is a step again.
            idle_s = _RETRY_S if self._crew.is_short else None
            timeout_s = _STUCK_S if self._look_later else _TIDY_S if self._active else idle_s
            if not tokens:
                self._active = False

    def _look_for_stuck(self) -> None:
        """See whether short tasks wait behind a long one while a worker is idle."""
        with self._lock:
            crew = self._crew
            untold = crew.tell_again()
            stuck = not crew.ledger.waiting and not self._sources and crew.steal(again=True)
            self._look_later = untold or stuck

    def announce(self) -> None:
        """Have who drives look whether what he waits for is done."""
        if self._foreground.locked():
            self._waitset.kick()

    # Stepping.

    def _step(self, tokens: list[int]) -> None:
        arrivals = Arrivals()
        try:
            try:
                self._take_in(tokens, arrivals)
                arrivals.deliver()
            except BaseException:
                # A signal's handler raised in the midst of it: what was begun is finished first.
                self._take_in(tokens, arrivals)
                arrivals.deliver()
                raise
            if self._sources:
                self._feeder.run()
        finally:
            self._deliver_rest(arrivals)
            if self.closing:
                self.look_again()
        if self._crew.agenda.next_s is not None:
            self._alarm.set()
        release()

    def _take_in(self, tokens: list[int], arrivals: Arrivals) -> None:
        if not self._active:
            self._active = True
            if self._dozing:
                # The background sleeps without end: it shall tidy up some time after this.
                self._waitset.kick()
        with self._lock:
            crew = self._crew
            self._undelivered[arrivals] = get_ident()
            healthy = crew.broken is None
            crew.take_in(tokens, arrivals)
            if healthy and crew.broken is not None:
                self._abandon_sources(crew.broken, arrivals)
            if crew.ledger.waiting:
                crew.refill()
            elif not self._sources and crew.steal() and not self._look_later:
                self._look_later = True
                self._waitset.kick()
            self._dismiss_if_drained()

    def _catch_up(self) -> None:
        """A wait was cut short by an exception, and what it knew may be lost: look at everything."""
        with self._lock:
            tokens = self._crew.everything()
        self._step(tokens)

    def _feed_sources(self) -> None:
        """Make tasks of the sources while workers have room for them."""
        while True:
            with self._lock:
                source = self._sources[0] if self._sources else None
                if source is None or not self._has_room(source):
                    return
            # Encoding runs users' code, so not under the lock.
            try:
                task = source.next_task()
            except BaseException as error:
                # A signal's handler raised; the source goes on where it was.
                hold(error)
                task = source.next_task()
            if task is not None:
                try:
                    self.submit(task)
                except BaseException as error:
                    self._submit_again(task, error)
                continue
            with self._lock:
                if self._sources and self._sources[0] is source:
                    self._sources.popleft()
                self._dismiss_if_drained()

    def _has_room(self, source: Source) -> bool:
        try:
            return self._crew.has_room(source.depth)
        except OSError as error:
            arrivals = Arrivals()
            self._crew.give_up(pool_broken("no worker could be started", error), arrivals)
            self._abandon_sources(error, arrivals)
            # Not under the lock; nobody else may wait for these calls any more.
            callbacks.defer(self._deliver, arrivals)
            return False

    def _deliver(self, arrivals: Arrivals) -> None:
        arrivals.deliver()
        self.announce()

    # Ending.

    def _dismiss_if_drained(self) -> None:
        if not self.closing or self.gone.done:
            return
        crew = self._crew
        # Who hears of an outcome may have a task sent again, or send another.
        quiet = not self._sources and not crew.ledger and not self._undelivered
        if quiet and all(stream.exhausted for stream in self._streams):
            crew.dismiss()
            if not self._look_later and crew.tell_again():
                self._look_later = True
                self._waitset.kick()
        if not len(crew):
            roll.leave(self)
            self.gone.open()
            self._waitset.kick()

    def _abandon_sources(self, error: BaseException, arrivals: Arrivals) -> None:
        self.closing = True
        for source in {*self._sources, *self._streams}:
            arrivals.call(source.abandon, again(error))
        self._sources.clear()

    def close(self, *, cancel: bool = False) -> None:
        """Take no more tasks; the workers leave when those given are settled. Does not block.

        `cancel`: withdraw what no worker has taken yet.
        """
        with self._lock:
            self.closing = True
            streams = list(self._streams)
            pending = self._crew.ledger.tasks() if cancel else []
        for task in pending:
            task.sink.cancel()
        for stream in streams:
            if cancel:
                stream.drop()
            else:
                stream.lift()
        self.look_again()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until every worker is gone; return whether they are.

        Without a time-out, also until the callbacks of what they did have returned.
        """
        gone = self.wait_for(self.gone, timeout_s)
        if timeout_s is None:
            callbacks.flush()
        return gone

    def terminate(self, error: BaseException, *, kill: bool = False) -> None:
        """Stop everything now; unsettled tasks fail with `error`.

        Blocking: until the workers are gone; those that outlive SIGTERM by half a second are killed.
        """
        if self._pid != os.getpid():
            return
        self._stop_all(error, kill=kill)
        if not self.join(_TERMINATE_GRACE_S):
            with self._lock:
                for child in self._crew.children():
                    child.kill()
            self.join(_KILL_GRACE_S)

    def _stop_all(self, error: BaseException, *, kill: bool) -> None:
        arrivals = Arrivals()
        with self._lock:
            if self._crew.broken is None:
                self._crew.drop_all(error, arrivals)
                self._abandon_sources(error, arrivals)
            self.closing = True
            for child in self._crew.children():
                if kill:
                    child.kill()
                else:
                    child.terminate()
            self._dismiss_if_drained()
        arrivals.deliver()
        self.announce()

    def _end_soon(self) -> None:
        """Nobody holds the face any more: begin to end, without waiting (this is the thread that drives)."""
        if self._drain_at_exit:
            self.close()
        else:
            self._stop_all(PoolClosed("the pool was dropped without being closed"), kill=True)

    def end(self) -> None:
        """End as a program's exit demands: drained or terminated, as `drain_at_exit` said."""
        if self._drain_at_exit:
            self.close()
            self.join()
        else:
            self.terminate(PoolClosed("the pool ended with its program"))

    def resize(self, workers: int) -> None:
        """Have `workers` workers from now on; those who are too many leave once they have done what they run.

        Raises:
            OSError: not all that are missing could be started.
        """
        with self._lock:
            if self.closing or self._crew.broken is not None:
                raise PoolClosed(_CLOSED_MEANWHILE)
            self.workers = workers
            self._crew.resize(workers)
        self._feeder.run()
        self.announce()

    def workers_now(self) -> list[Child]:
        """The worker processes of this moment."""
        with self._lock:
            return self._crew.children()

    def orphan(self) -> None:
        """In a forked child: nothing here is ours, and a lock may be held by a thread that does not exist."""
        self._lock = threading.RLock()
        self._foreground = threading.Lock()
        self._feeder = OneAtATime(self._feed_sources)
        message = f"this pool belongs to process {self._pid}; make another one in the forked child"
        self._crew.broken = RuntimeError(message)
        self._crew.ledger.clear()  # to cancel one of these here would take it out of the parent's ring
        self.closing = True
        self.gone.open()
