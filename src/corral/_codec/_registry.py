"""What this process knows of the definitions that travel: which object has which key, and its blob.

A definition is a function, a class or a type variable that cannot be imported by name and so travels by
value, once. Its key is (origin, number): the process that first sent it, and a number there. A key stays
with its object wherever it goes, so that an instance which comes back is an instance of the very class it
went out as, and so that a worker can hand on to its own children what it was given.

Role in the flow: written by `_groups` (sending) and `_install` (receiving), read by both.
Runs in: parent and worker, any thread; `lock` guards changes, look-ups need none.
Invariants: INV-CODEC-KEY one key never names two objects in one process; `key_of` answers only for a living
object.
"""

from __future__ import annotations

import itertools
import os
import sys
from _thread import RLock
from _weakref import ref

from corral._launch.tree import origin as origin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CellType
    from typing import Any

    Key = tuple[int, int]

MISSING = object()

# What a blob is, in its header.
DEFINE = 0  # functions, classes, type variables: registered under their keys
CALLABLE = 1  # the callable of one map or submit: registered nowhere, may be forgotten
VALUES = 2  # data globals of __main__
BIND = 3  # names of __main__ for definitions; the function that is called, if any

lock = RLock()
objects: dict[Key, object] = {}
weak_objects: dict[Key, ref[object]] = {}
keys: dict[int, Key] = {}
definitions: dict[Key, Definition] = {}
given: set[str] = set()  # data globals of __main__ that the process which started this one sent
absent: dict[str, str] = {}  # what was not sent to this process, and why: a global, or Class.attribute
sources: dict[str, list[str]] = {}  # of notebook cells that functions came from
generation = 0  # how many snapshots there have been
_numbers = itertools.count(1)


class Group:
    """A definition as the engine sees it: sent to each worker once, in the order needs..., itself.

    `needs` is complete and in order; a needed group has no needs of its own. `transient` marks the callable
    of one call: a worker may forget it once nobody calls it any more.
    """

    __slots__ = ("blob", "needs", "number", "transient")

    def __init__(
        self, number: int, blob: bytes, needs: tuple[Group, ...] = (), *, transient: bool = False
    ) -> None:
        self.number = number
        self.blob = blob
        self.needs = needs
        self.transient = transient

    def __repr__(self) -> str:
        return f"<Group {self.number}, {len(self.blob)} bytes, needs {[g.number for g in self.needs]}>"


class Definition:
    """A blob that this process can send, and what must be known to send it.

    `number` is this process's own for it, even where the definition was born elsewhere. `names` are the
    globals of `__main__` (of `spaces`) that its functions use; `direct` the definitions that its pickle
    refers to.
    """

    __slots__ = (
        "body",
        "cells",
        "direct",
        "generation",
        "group",
        "keys",
        "kind",
        "labels",
        "names",
        "number",
        "spaces",
        "upstream",
        "volatile",
    )

    def __init__(
        self,
        kind: int,
        blob: bytes,
        *,
        keys: tuple[Key, ...] = (),
        labels: tuple[str | None, ...] = (),
        names: tuple[str, ...] = (),
        direct: tuple[Key, ...] = (),
    ) -> None:
        self.kind = kind
        self.keys = keys
        self.labels = labels
        self.names = names
        self.direct = direct
        self.number = new_number()
        self.group = Group(self.number, blob)
        self.spaces: tuple[
            dict[str, Any], ...
        ] = ()  # the globals of its functions, if not `__main__`'s alone
        self.body = b""  # kept where the content must be compared again
        self.cells: tuple[tuple[CellType, object], ...] = ()
        self.volatile = False
        self.generation = generation  # the snapshots up to this one need not look whether it still holds
        self.upstream = False  # the process that started this one sent it, so it knows it


def new_number() -> int:
    """The next number of this process; never used twice, forks included."""
    return next(_numbers)


def next_generation() -> int:
    """Begin a snapshot: what was defined before it has to be looked at again."""
    global generation  # noqa: PLW0603 - a counter
    generation += 1
    return generation


def key_of(obj: object) -> Key | None:
    """The key of an object that has been sent or received, if it has."""
    key = keys.get(id(obj))
    if key is not None and resolve(key) is obj:
        return key
    return None


def resolve(key: Key) -> object:
    """The object of a key, or MISSING."""
    found = objects.get(key, MISSING)
    if found is MISSING and key in weak_objects:
        found = weak_objects[key]()
        return MISSING if found is None else found
    return found


def remember(key: Key, obj: object, *, weakly: bool = False) -> None:
    """Give an object its key.

    A class that nobody can name is held weakly by the process that made it: programs make such classes by
    the thousand, and what comes back for a class that is gone has nobody left to receive it.
    """
    address = id(obj)
    keys[address] = key
    if not weakly:
        objects[key] = obj
        return

    def forget(_: object) -> None:
        weak_objects.pop(key, None)
        definitions.pop(key, None)
        if keys.get(address) == key:
            del keys[address]

    try:
        weak_objects[key] = ref(obj, forget)
    except TypeError:  # a type alias, say
        objects[key] = obj


def _in_forked_child() -> None:
    """A forked child knows all that its parent knew, and so the other way round; new keys are its own."""
    global lock  # noqa: PLW0603 - a thread that is not here may have held the parent's
    lock = RLock()
    for definition in list(definitions.values()):
        definition.upstream = True
    given.update(sys.modules["__main__"].__dict__)


os.register_at_fork(after_in_child=_in_forked_child)
