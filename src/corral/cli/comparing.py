"""``corral compare``: times the user's function sequentially, with the standard library and with corral.

Role in the flow:
    source -> a list of items, as many as the budget allows -> one run per contestant -> table and verdict.

Runs in:
    The parent, main thread.

Failure:
    Items that fail are counted and timed like the others; results that differ between runs are reported.
    Both: exit status 1.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from corral.cli import errors, table
from corral.cli.calling import Failure, Item, Recipe, call_for_value, is_ready, prepare
from corral.cli.progress import open_bar, wanted
from corral.cli.source import open_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from corral.cli.arguments import Options

Results = list[object]
_WHY_DIFFERENT = "does the function give the same answer every time?"
_PAYS = 1.1
"""A speed-up below this is not worth another process."""


class _Pool(Protocol):
    def map(
        self, func: Callable[[Any], object], iterable: Sequence[object], chunksize: int = ...
    ) -> Iterable[object]: ...


class Contestant(NamedTuple):
    """A way of running the work in parallel: its name, and how to start it."""

    name: str
    start: Callable[..., AbstractContextManager[_Pool]]


def contestants() -> list[Contestant]:
    """List who runs: the standard library's pool first, then corral's two faces."""
    import multiprocessing

    import corral

    return [
        Contestant(
            "multiprocessing.Pool",
            cast("Callable[..., AbstractContextManager[_Pool]]", multiprocessing.Pool),
        ),
        Contestant("corral.Pool", cast("Callable[..., AbstractContextManager[_Pool]]", corral.Pool)),
        Contestant(
            "corral executor",
            cast("Callable[..., AbstractContextManager[_Pool]]", corral.ProcessPoolExecutor),
        ),
    ]


def run(options: Options, *, rivals: Sequence[Contestant] | None = None) -> int:
    """Carry out the command and return its exit status.

    Blocking: a few times the sequential run's time.

    Raises:
        UsageError: Before any work, when something asked for cannot be had, or when there are no items.
    """
    recipe = Recipe(options.function, options.kind, options.encoding, in_worker=False)
    prepare(recipe)
    show = wanted(options.progress, stdout_is_shown=False)
    workers = options.workers or table.cores_available()
    note = table.note_on_load()
    rivals = contestants() if rivals is None else rivals
    with (
        open_source(
            options.inputs, patterns=options.files, kind=options.kind, encoding=options.encoding
        ) as source,
        open_bar(show=show, total=2 + len(rivals), unit="run", title="corral compare") as bar,
    ):
        items, expected, seconds, complete = _sequential(source.items(), budget_s=options.budget_s)
        bar.update()
        if not items:
            message = "the input has no items: nothing to compare"
            raise errors.UsageError(message)
        runs, remarks = [table.Run("sequential", seconds)], _failures(expected)
        for rival in rivals:
            try:
                results, seconds = _parallel(rival, items, recipe, workers, options.chunksize)
            except Exception as error:
                remarks.append(f"{rival.name} could not do it: {type(error).__name__}: {error}")
            else:
                runs.append(table.Run(rival.name, seconds))
                if not _all_same(expected, results):
                    remarks.append(f"RESULTS DIFFER between {rival.name} and sequential: {_WHY_DIFFERENT}")
            bar.update()
        start_s = _start_up(rivals[-1], recipe, workers)
    _report(runs, remarks, note=note, start_s=start_s, workers=workers, items=len(items), complete=complete)
    return errors.SOME_FAILED if remarks else errors.OK


def _failures(results: Results) -> list[str]:
    """Remark on the items whose call failed."""
    failures = [result for result in results if isinstance(result, Failure)]
    if not failures:
        return []
    return [f"{len(failures):,} of {len(results):,} items failed; the first: {failures[0].summary}"]


def _sequential(source: Iterator[Item], *, budget_s: float) -> tuple[list[Item], Results, float, bool]:
    """Run in this process until the input or the budget is used up.

    Returns:
        The items taken, their results, the seconds spent in the function, and whether that was all of
        the input.
    """
    items: list[Item] = []
    results: Results = []
    spent_s, size = 0.0, 1
    while spent_s < budget_s:
        batch = list(itertools.islice(source, size))
        if not batch:
            return items, results, spent_s, True
        start = time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr):
            results.extend(map(call_for_value, batch))
        took_s = time.perf_counter() - start
        items.extend(batch)
        spent_s += took_s
        size = 2 * size if took_s < budget_s / 20 else size
    return items, results, spent_s, next(source, None) is None


def _parallel(
    rival: Contestant, items: list[Item], recipe: Recipe, workers: int, chunksize: int | None
) -> tuple[Results, float]:
    """Run all items on `rival`'s workers; the time includes starting and stopping them."""
    recipe = recipe._replace(in_worker=True)
    options = {} if chunksize is None else {"chunksize": chunksize}
    start = time.perf_counter()
    with rival.start(workers, initializer=prepare, initargs=(recipe,)) as pool:
        results = list(pool.map(call_for_value, items, **options))
    return results, time.perf_counter() - start


def _start_up(rival: Contestant, recipe: Recipe, workers: int) -> float:
    """Time workers that get nothing to do but to be ready."""
    start = time.perf_counter()
    with rival.start(workers, initializer=prepare, initargs=(recipe._replace(in_worker=True),)) as pool:
        list(pool.map(is_ready, [0] * workers))
    return time.perf_counter() - start


def _all_same(expected: Results, results: Results) -> bool:
    """Compare two runs item by item."""
    return len(expected) == len(results) and all(map(_same, expected, results))


def _same(one: object, other: object) -> bool:
    """Compare two results; those that cannot say whether they are equal, by how they are shown."""
    if isinstance(one, Failure) and isinstance(other, Failure):
        return one.summary == other.summary
    try:
        if one == other:
            return True
    except Exception:  # noqa: S110 - the user's __eq__ (numpy's arrays, for one) may raise anything
        pass
    return repr(one) == repr(other)


def _report(
    runs: Sequence[table.Run],
    remarks: Sequence[str],
    *,
    note: str,
    start_s: float,
    workers: int,
    items: int,
    complete: bool,
) -> None:
    """Print the table and what it means."""
    print(table.conditions(workers=workers, items=items, unit="items"))
    if not complete:
        print("(the input's beginning: the sequential run's budget was used up; --budget-s changes it)")
    print(note)
    print(table.render(runs, workers=workers, items=items))
    print()
    print(verdict(runs, start_s=start_s, workers=workers, items=items))
    print("\n".join(remarks), end="\n" if remarks else "", flush=True)


def verdict(runs: Sequence[table.Run], *, start_s: float, workers: int, items: int) -> str:
    """Say whether parallel pays, why, and what could be done about it.

    Args:
        runs: The sequential run first.
        start_s: What it costs to start and stop the workers.
        workers: How many there are.
        items: How many items each run had.
    """
    sequential_s = runs[0].seconds
    best = min((run for run in runs[1:] if run.name.startswith("corral")), key=_seconds, default=None)
    if best is None:
        return "Nothing to compare: corral's runs failed."
    width = table.lanes(workers=workers, items=items)
    each_s = sequential_s / items
    hand_over_s = max(0.0, best.seconds - sequential_s / width - start_s) / items
    facts = (
        f"An item takes {table.duration(each_s)}; handing one over costs {table.duration(hand_over_s)}, "
        f"starting and stopping the workers {table.duration(start_s)}."
    )
    if sequential_s >= _PAYS * best.seconds:
        speed_up = sequential_s / best.seconds
        return f"Parallel pays: {best.name} is {speed_up:.2f} times as fast as sequential.\n{facts}"
    if width == 1:
        reason = "only one thing can run at a time here. Use more workers, more cores or more items."
    elif each_s * (1 - 1 / width) <= hand_over_s:
        reason = "an item is too small next to what it costs to hand it over. Let each call do more."
    elif sequential_s * (1 - 1 / width) <= 2 * start_s:
        reason = "the whole work is too short next to starting the workers. It may pay with more items."
    else:
        reason = "the cores are busy with something else, or the function waits for something that is shared."
    return f"Parallel does not pay: {reason}\n{facts}"


def _seconds(run: table.Run) -> float:
    return run.seconds
