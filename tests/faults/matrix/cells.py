"""The cells of the crash matrix: cause x phase x way of calling x start method; how one is run and judged.

Role in the flow: `python -m tests.faults.matrix` has a child run cells one after the other; to fall silent
is to hang.
"""

from __future__ import annotations

import atexit
import itertools
import os
import time
from typing import Any, NamedTuple

from tests.faults.matrix.causes import DEATHS, EXITS, RAISES, SIGNALS, STRIKES, strike

import corral
from corral import errors

METHODS = ("forkserver", "spawn", "fork")
POOL_CALLS = ("map", "imap", "imap_unordered", "apply_async", "starmap")
CALLS = (*POOL_CALLS, "submit", "executor.map")
PHASES = ("idle", "taking", "unpickling", "initializer", "running", "pickling", "writing", "exit")
STEPS = {"taking": "ring.taken", "writing": "ring.written"}
GOOD = range(8)
BAD = 3
"""The place of the item that is struck."""
TIMEOUT_S = 0.5
"""How long a stopped task may take."""


class Cell(NamedTuple):
    """One combination."""

    method: str
    call: str
    phase: str
    cause: str

    def __str__(self) -> str:
        return " / ".join(self)


def is_possible(cell: Cell) -> bool:
    """Whether the cause can strike in that phase."""
    if cell.phase in {"idle", "taking", "writing"}:
        # Where no code of the program's runs, only a signal or a wild pointer strikes.
        return cell.cause in SIGNALS
    if cell.cause in {"unpicklable result", "result fails to unpickle", "garbage"}:
        return cell.phase == "running"
    if cell.phase in {"initializer", "exit"}:
        # A worker stopped outside of a task is nobody's time-out.
        return cell.cause != "SIGSTOP"
    return True


def all_cells() -> list[Cell]:
    """Every possible combination."""
    combinations = itertools.product(METHODS, CALLS, PHASES, STRIKES)
    return [cell for cell in map(Cell._make, combinations) if is_possible(cell)]


# --- what runs in workers ---------------------------------------------------------------------------


class Item:
    """One item of work; the struck one strikes when it is unpickled, if that is the phase."""

    def __init__(self, number: int, phase: str, cause: str, log: str) -> None:
        self.number, self.phase, self.cause, self.log = number, phase, cause, log

    def __reduce__(self) -> tuple[Any, ...]:
        return arrive, (self.number, self.phase, self.cause, self.log)


def arrive(number: int, phase: str, cause: str, log: str) -> Item:
    if number == BAD and phase == "unpickling":
        strike(cause)
    return Item(number, phase, cause, log)


class Strikes:
    """A result that strikes when it is pickled."""

    def __init__(self, cause: str) -> None:
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (strike(self.cause) and BAD,)


def work(item: Item) -> object:
    """Do an item, and leave a trace of having done it."""
    fd = os.open(item.log, os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"%d\n" % item.number)
    os.close(fd)
    if item.number == BAD:
        if item.phase == "running" and item.cause == "garbage":
            strike(item.cause)
        elif item.phase == "running":
            return strike(item.cause)
        if item.phase == "pickling":
            return Strikes(item.cause)
        if item.phase in STEPS:
            arm(item.phase, item.cause)
        if item.phase == "exit":
            atexit.register(strike, item.cause)
    return item.number


def arm(phase: str, cause: str) -> None:
    from corral import _native

    _native.arm_fault(STEPS[phase], 1, SIGNALS[cause])  # type: ignore[attr-defined]


def initialize(phase: str, cause: str, mark: str) -> None:
    """Strike in the first worker that comes here."""
    if phase == "initializer":
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        strike(cause)


def double(number: int) -> int:
    return 2 * number


def whoami(_: int) -> int:
    time.sleep(0.001)
    return os.getpid()


# --- the caller -------------------------------------------------------------------------------------


def run(cell: Cell, folder: str) -> str:
    """Run a cell; return "" if it ends as it should, else what is wrong."""
    log = os.path.join(folder, "log")
    mark = os.path.join(folder, "mark")
    with open(log, "wb"):
        pass
    if os.path.exists(mark):
        os.unlink(mark)
    context = corral.get_context(cell.method)
    initargs = (cell.phase, cell.cause, mark)
    pooled = cell.call in POOL_CALLS
    face: Any = (
        context.Pool(2, initialize, initargs)  # type: ignore[attr-defined]
        if pooled
        else context.ProcessPoolExecutor(2, initializer=initialize, initargs=initargs)  # type: ignore[attr-defined]
    )
    try:
        items = [Item(number, cell.phase, cell.cause, log) for number in GOOD]
        if cell.phase == "idle":
            strike_idle(face, cell)
        outcomes = CALLERS[cell.call](face, items, cell)
        wrong = judge(cell, outcomes, log)
        if wrong or cell.phase == "initializer":
            return wrong
        again = list(options(face, cell).map(double, range(20), chunksize=1))
        if again != [2 * number for number in range(20)]:
            return f"afterwards the pool gave {again}"
        if pooled:
            face.close()
            face.join()
        else:
            face.shutdown()
        return ""
    finally:
        if pooled:
            face.terminate()
            face.join()
        else:
            face.shutdown(wait=True, cancel_futures=True)


def strike_idle(face: Any, cell: Cell) -> None:
    """Signal a worker that waits for work."""
    pid = next(iter(face.map(whoami, range(4))))
    os.kill(pid, SIGNALS[cell.cause])


def options(face: Any, cell: Cell) -> Any:
    """Return the face, with a time-out per task where only that can help."""
    return face.options(timeout=TIMEOUT_S, grace=TIMEOUT_S) if cell.cause == "SIGSTOP" else face


def take(get: Any) -> object:
    try:
        return get()
    except BaseException as error:
        return error


def call_whole(name: str) -> Any:
    def call(face: Any, items: list[Item], cell: Cell) -> list[object]:
        given = [(item,) for item in items] if name == "starmap" else items
        outcome = take(lambda: getattr(options(face, cell), name)(work, given, chunksize=1))
        return outcome if isinstance(outcome, list) else [outcome]

    return call


def call_iterator(name: str) -> Any:
    def call(face: Any, items: list[Item], cell: Cell) -> list[object]:
        results = getattr(options(face, cell), name)(work, items, chunksize=1)
        outcomes: list[object] = []
        while not (outcomes and isinstance(outcomes[-1], StopIteration)):
            outcomes.append(take(lambda: next(results)))
        return outcomes[:-1]

    return call


def call_each(name: str) -> Any:
    def call(face: Any, items: list[Item], cell: Cell) -> list[object]:
        face = options(face, cell)
        if name == "submit":
            return [take(future.result) for future in [face.submit(work, item) for item in items]]
        return [take(result.get) for result in [face.apply_async(work, (item,)) for item in items]]

    return call


def call_executor_map(face: Any, items: list[Item], cell: Cell) -> list[object]:
    outcomes: list[object] = []
    results = options(face, cell).map(work, items)
    while not (outcomes and isinstance(outcomes[-1], BaseException)):
        outcomes.append(take(lambda: next(results)))
    return outcomes if not isinstance(outcomes[-1], StopIteration) else outcomes[:-1]


CALLERS: dict[str, Any] = {
    "map": call_whole("map"),
    "starmap": call_whole("starmap"),
    "imap": call_iterator("imap"),
    "imap_unordered": call_iterator("imap_unordered"),
    "apply_async": call_each("apply_async"),
    "submit": call_each("submit"),
    "executor.map": call_executor_map,
}


# --- the judgement ----------------------------------------------------------------------------------


def judge(cell: Cell, outcomes: list[object], log: str) -> str:
    """Compare the outcomes with what the cell must end in; "" if they are that."""
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if cell.phase == "initializer":
        return judge_initializer(cell, failures)
    with open(log, encoding="ascii") as lines:
        done = sorted(int(line) for line in lines)
    if len(done) != len(set(done)):
        return f"done more than once: {done}"
    if len(failures) > 1:
        return f"more than the struck task failed: {failures!r}"
    values = sorted(outcome for outcome in outcomes if isinstance(outcome, int))
    if failures:
        return judge_others(cell, values, outcomes) or judge_error(cell, failures[0])
    if needs_error(cell):
        return f"no error: {outcomes!r}"
    return "" if values == list(GOOD) else f"wrong results: {outcomes!r}"


def judge_others(cell: Cell, values: list[int], outcomes: list[object]) -> str:
    """Whether no task but the struck one has failed, where each has an outcome of its own."""
    if cell.call in {"map", "starmap", "executor.map"}:
        # The first failure is what they end in.
        return ""
    missing = set(GOOD) - set(values)
    if len(missing) != 1:
        return f"results missing: {missing}, got {outcomes!r}"
    if missing != {BAD} and cell.phase in SAID:
        return f"another than the struck task failed: {missing}"
    return ""


def needs_error(cell: Cell) -> bool:
    """Whether somebody's task must have failed: not when what struck struck nobody's task."""
    return cell.phase in SAID and cell.cause != "garbage"


def judge_initializer(cell: Cell, errors_: list[BaseException]) -> str:
    """A death in the initializer is survived; an exception breaks the pool, and is the cause."""
    if cell.cause in DEATHS | EXITS:
        broken = [error for error in errors_ if not isinstance(error, errors.PoolBroken)]
        return f"unexpected: {broken!r}" if broken else ""
    if not errors_:
        return "the initializer failed, and nobody was told"
    strange = [error for error in errors_ if not isinstance(error, errors.PoolBroken)]
    if strange:
        return f"not PoolBroken: {strange!r}"
    return ""


def judge_error(cell: Cell, error: BaseException) -> str:
    """Whether the error says what happened."""
    text = f"{type(error).__name__}: {error}"
    if cell.cause in DEATHS or (cell.cause in EXITS and cell.call in POOL_CALLS):
        return judge_loss(cell, error, text)
    kind, words = EXPECTED[cell.cause]
    if not isinstance(error, kind):
        return f"not {kind}: {text}"
    return "" if any(word in text for word in words) else f"lacks {words}: {text}"


def judge_loss(cell: Cell, error: BaseException, text: str) -> str:
    """Whether the error names task, process, cause and phase."""
    if not isinstance(error, errors.WorkerLost):
        return f"not WorkerLost: {text}"
    if not error.pid or "work" not in text or error.exitcode is None:
        return f"does not name task, pid and cause: {text}"
    if cell.phase in SAID and error.phase != SAID[cell.phase]:
        return f"phase {error.phase!r}, not {SAID[cell.phase]!r}: {text}"
    return ""


EXPECTED: dict[str, tuple[Any, tuple[str, ...]]] = {
    "SIGSTOP": ((errors.TaskTimeout, errors.WorkerLost), ("",)),
    "garbage": (errors.CorralError, ("",)),
    "unpicklable result": (Exception, ("lock",)),
    "result fails to unpickle": (Exception, ("cannot be rebuilt here",)),
    **dict.fromkeys(EXITS, (BaseException, ("3", "no more"))),
    **{cause: (BaseException, (words,)) for cause, words in RAISES.items()},
}
SAID = {"unpickling": "decoding", "running": "running", "pickling": "encoding"}
