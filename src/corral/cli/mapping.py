"""``corral map``: applies a function to every item of the input, one JSON line per result.

Role in the flow:
    source (pulled lazily) -> pool -> outcomes -> sink and messages.

Runs in:
    The parent, main thread.

Failure:
    An item that fails is named on stderr and has no line in the output. A worker that dies costs the items it
    was running; they are named too. Ctrl-C and SIGTERM stop the workers and leave an output file as it was.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Protocol

from corral.cli import errors
from corral.cli.calling import Failure, Item, Outcome, Recipe, call_for_json, prepare
from corral.cli.output import Sink, open_sink
from corral.cli.progress import Bar, open_bar, wanted
from corral.cli.source import Place, Source, open_source
from corral.cli.table import cores_available, duration
from corral.cli.target import resolve
from corral.errors import CorralError, describe_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from corral.cli.arguments import Options
    from corral.errors import WorkerLost


_STDOUT = (None, "-")


class MappingPool(Protocol):
    """What is asked of a pool: the lazy maps."""

    def imap(
        self, func: Callable[[Item], Outcome], iterable: Iterator[Item], chunksize: int = 1
    ) -> Iterator[Outcome]:
        """Yield outcomes in the order of the input."""

    def imap_unordered(
        self, func: Callable[[Item], Outcome], iterable: Iterator[Item], chunksize: int = 1
    ) -> Iterator[Outcome]:
        """Yield outcomes as they are ready."""


class PoolMaker(Protocol):
    """Starts a pool whose workers have called ``initializer(*initargs)``; leaving its context stops them."""

    def __call__(
        self, processes: int, *, initializer: Callable[[Recipe], None], initargs: tuple[Recipe]
    ) -> AbstractContextManager[MappingPool]:
        """Start."""


class _StoppedAtError(Exception):
    """``--errors stop`` met a failure."""


def run(options: Options, *, make_pool: PoolMaker) -> int:
    """Carry out the command and return its exit status.

    Blocking: until the input is used up.

    Raises:
        UsageError: Before any work, when something asked for cannot be had.
    """
    resolve(options.function)
    to_stdout = options.output in _STDOUT
    show = wanted(
        options.progress, stdout_is_shown=to_stdout and sys.stdout is not None and sys.stdout.isatty()
    )
    workers = options.workers or cores_available()
    recipe = Recipe(options.function, options.kind, options.encoding)
    started = time.perf_counter()
    with (
        open_source(
            options.inputs, patterns=options.files, kind=options.kind, encoding=options.encoding
        ) as source,
        open_sink(options.output) as sink,
        open_bar(show=show, total=source.total) as bar,
        make_pool(workers, initializer=prepare, initargs=(recipe,)) as pool,
    ):
        work = _Mapping(source, sink, bar, stop_at_first=options.errors == "stop")
        try:
            work.consume(_outcomes(pool, source, options))
            sink.commit()
        except _StoppedAtError:
            pass
        except CorralError as error:
            work.give_up(error)
        except KeyboardInterrupt:
            message = f"interrupted after {work.written:,} results{_fate(options)}"
            raise errors.Stopped(signal.SIGINT, message) from None
    elapsed_s = time.perf_counter() - started
    if work.failed or sys.stderr.isatty():
        _summarise(work, options, elapsed_s=elapsed_s, workers=workers, whole=sink.committed)
    return errors.SOME_FAILED if work.failed else errors.OK


def _outcomes(pool: MappingPool, source: Source, options: Options) -> Iterator[Outcome]:
    """Start the lazy map; without a chunk size the pool finds its own."""
    lazy_map = pool.imap if options.ordered else pool.imap_unordered
    if options.chunksize is None:
        return lazy_map(call_for_json, source.items())
    return lazy_map(call_for_json, source.items(), options.chunksize)


class _Mapping:
    """The state of one map: what is written, what has failed. Single thread."""

    def __init__(self, source: Source, sink: Sink, bar: Bar, *, stop_at_first: bool) -> None:
        self._source = source
        self._sink = sink
        self._bar = bar
        self._stop_at_first = stop_at_first
        self._losses: list[str] = []
        self.written = 0
        self.failed = 0

    def consume(self, outcomes: Iterator[Outcome]) -> None:
        """Take every outcome; afterwards account for the items a dead worker took with it."""
        from corral.errors import WorkerLost

        while True:
            try:
                outcome = next(outcomes)
            except StopIteration:
                break
            except WorkerLost as error:
                self._lose(error)
                continue
            self._settle(outcome)
        unsettled = self._source.unsettled()
        causes = self._losses or ["no outcome arrived"]
        for index, place in enumerate(unsettled):
            self._fail(place, Failure(causes[min(index, len(causes) - 1)]))

    def _settle(self, outcome: Outcome) -> None:
        number, text, failure = outcome
        place = self._source.settle(number)
        if failure is None:
            self._sink.write(text)
            self.written += 1
        else:
            self._fail(place, failure)
        self._bar.update()

    def give_up(self, error: CorralError) -> None:
        """Account for a pool that could not go on."""
        unsettled = self._source.unsettled()
        self.failed += len(unsettled)
        self._bar.say(f"corral: {error}")
        if unsettled:
            self._bar.say(f"corral: {len(unsettled):,} items begun have no result, the first: {unsettled[0]}")

    def _lose(self, error: WorkerLost) -> None:
        """Remember why an item has no outcome; which one it was is known when all others are in."""
        self._losses.append(_epitaph(error))
        self._bar.update()
        if self._stop_at_first:
            self.failed += 1
            self._bar.say(f"corral: {self._losses[-1]}, and an item with it")
            raise _StoppedAtError

    def _fail(self, place: Place, failure: Failure) -> None:
        """Name a failed item; the first one with its traceback, since the others are often alike."""
        self.failed += 1
        if self.failed == 1 and failure.details:
            self._bar.say(failure.details)
        self._bar.say(f"{place}: {failure.summary}")
        if self._stop_at_first:
            raise _StoppedAtError


def _fate(options: Options) -> str:
    """Say what an early end means for the output."""
    return "" if options.output in _STDOUT else f"; {options.output} not written"


def _epitaph(error: WorkerLost) -> str:
    """Say in one line how a worker died."""
    parts = [f"worker {error.pid} {describe_exit(error.exitcode)}", *error.details.split("\n")]
    return "; ".join(part for part in parts if part)


def _summarise(work: _Mapping, options: Options, *, elapsed_s: float, workers: int, whole: bool) -> None:
    """Say on stderr what came of it all."""
    parts = [
        f"{work.written:,} results",
        f"{work.failed:,} failed",
        f"{workers} workers",
        duration(elapsed_s),
    ]
    if options.output not in _STDOUT:
        parts.append(f"written to {options.output}" if whole else f"{options.output} not written")
    elif not whole:
        parts.append("stopped early")
    print(f"corral: {', '.join(parts)}", file=sys.stderr)
