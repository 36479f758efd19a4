"""The kinds of frame that travel between a pool's parent and its workers.

A frame is ``(kind, id, aux, body)``: ``id`` names the task (or the definition group), ``aux`` is one
unsigned 64-bit word whose meaning follows from the kind, ``body`` is encoded by `corral._codec`.

Role in the flow: written by `corral._engine.dispatch`, read by `corral._worker.loop`, and back.

Invariants:
    INV-WIRE-1: a CALL or CHUNK frame is preceded, on the same link, by the DEFINE frames of every
        group it needs, with no FORGET between; a revoked task may leave its DEFINE frames behind.
    INV-WIRE-2: a worker answers every task frame it takes with exactly one settling frame, or dies.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final


# Parent to worker. `aux` of a task frame is the number of the function's definition group.
DEFINE: Final = 1  # id: group number; body: the group's blob
CALL: Final = 2  # body: args
CALL_KW: Final = 3  # body: (args, kwargs)
CHUNK: Final = 4  # body: the items of a chunk; stop at the first failure
CHUNK_STAR: Final = 5  # likewise, each item a tuple of positional arguments
CHUNK_EACH: Final = 6  # body: items; every item has an outcome of its own
CHUNK_STAR_EACH: Final = 7
STOP: Final = 8  # leave once the frames before this one are done
FORGET: Final = 9  # id: number of a group that no later task uses
TERMS: Final = 10  # id: the task this is about, which comes next; body: see `_worker.running.Terms`
UNDER_TERMS: Final = 64  # added to the kind of a task frame that a TERMS frame precedes

CALL_KINDS: Final = frozenset({CALL, CALL_KW})
STAR_KINDS: Final = frozenset({CHUNK_STAR, CHUNK_STAR_EACH})
EACH_KINDS: Final = frozenset({CHUNK_EACH, CHUNK_STAR_EACH})

# Worker to parent. `aux` of a settling frame is the time from take to reply, in nanoseconds.
READY: Final = 16  # the initializer has run
BROKEN: Final = 17  # the initializer raised; body: a failure; the worker leaves
OK: Final = 18  # body: the value (of a chunk: the list of values)
FAILED: Final = 19  # body: a failure
CHUNK_FAILED: Final = 20  # body: (index of the failed item, failure)
CHUNK_MIXED: Final = 21  # body: (values with None at failed places, [(index, failure), ...])
PARTIAL: Final = 22  # some items' answers, and more follow; body as of CHUNK_MIXED; aux: see `part_of`
LEAVING: Final = 24  # the worker leaves by itself, above its memory limit; aux: the bytes it uses
CHUNK_REST: Final = 23  # what PARTIAL frames left; body as of CHUNK_MIXED, the indices the chunk's

# What a worker does with the frame it has taken (`Link.enter`); taking it begins the first.
RUNNING: Final = 2
ENCODING: Final = 3

PHASES: Final = {1: "decoding", RUNNING: "running", ENCODING: "encoding"}

# What a worker's tasks say; `id` and `aux` are 0, the body a plain pickle of a tuple.
RECORD: Final = 32  # (a logging record's attributes,)
WARNING: Final = 33  # (message and category as a payload, file name, line number)
PRINTED: Final = 34  # (stream's name, text)

SAID: Final = frozenset({RECORD, WARNING, PRINTED})
SETTLING: Final = frozenset({OK, FAILED, CHUNK_FAILED, CHUNK_MIXED, CHUNK_REST})

# What a parent asks a worker to stop (`Link.ask`); a task's id is below 2**62.
CANCEL: Final = 1 << 62  # added to the id of a task: it was cancelled
ENTRY: Final = 1 << 63  # added to the number of an entry on the worker's slate: its time is up


def part(first: int, count: int) -> int:
    """`aux` of a PARTIAL frame: of a chunk's items, `count` from index `first`."""
    return first << 32 | count


def part_of(aux: int) -> tuple[int, int]:
    """What `part` was given."""
    return aux >> 32, aux & 0xFFFFFFFF
