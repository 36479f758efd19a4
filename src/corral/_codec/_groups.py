"""Definition groups: what a function or a payload needs of `__main__`, and of whatever else has no name.

Role in the flow: `encode`, `bundle` and `define` come here as soon as something is not plain data. `_pickler`
writes the pickles; this module decides what is a definition, follows the names its functions use, and keeps
what was made, so that each is made once per process and sent once per worker.
Runs in: any process that sends, any thread; making definitions is serialised by the registry's lock.
Invariants: INV-CODEC-FRESH a cached group is used only while the names it binds still mean what they meant,
and the cells of its functions hold what they held. INV-CODEC-SNAPSHOT a data global is sent as it was when a
snapshot first met it, as fork would have it; a new snapshot (a new pool) looks again.
"""

from __future__ import annotations

from _operator import is_not
from _pickle import dumps
from types import FunctionType

from corral._codec import _install, _names
from corral._codec import _registry as registry
from corral._codec._blame import explained
from corral._codec._definitions import (
    cells_hold,
    export,
    is_definable,
    new_definition,
    pickled,
    refresh,
    values_definition,
)
from corral._codec._pickler import MIN_BUFFER_BYTES, Large, Met, ValuePickler, is_frozen
from corral._codec._registry import BIND, CALLABLE, MISSING, Definition, Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _pickle import PickleBuffer
    from collections.abc import Callable
    from types import CellType
    from typing import Any

    from corral._codec._registry import Key

MAX_CALLABLES = 256  # callables of single calls that are kept, in case the same content comes again

MAX_CONTENTS_BYTES = 64 << 20
MAX_KEPT_BYTES = 64 << 10  # a callable that holds more is not kept alive for its caller's sake
MAX_SHELTERED = 16
SHELTER_DEPTH = 3
_ATOMIC = frozenset({bytes, bytearray})

# The latest binding of each name of __main__, and how often it changed.
_bound: dict[str, tuple[Key, int]] = {}
_bindings: dict[tuple[Key | None, frozenset[tuple[str, Key, int]]], Definition] = {}


class Needs:
    """What a set of definitions needs, in order, and how to tell that this still holds."""

    __slots__ = ("cells", "definitions", "groups", "names", "volatile")

    def __init__(self) -> None:
        self.definitions: dict[Definition, None] = {}
        self.groups: tuple[Group, ...] = ()
        self.names: list[tuple[dict[str, object], str, object]] = []
        self.cells: list[tuple[CellType, object]] = []
        self.volatile = False

    def hold(self) -> bool:
        """Whether every name still means what it meant, and every cell holds what it held."""
        if self.volatile:
            return False
        for space, name, value in self.names:
            if space.get(name, MISSING) is not value:
                return False
        return cells_hold(self.cells)


class Snapshot:
    """The data globals of `__main__` as they were first sent: one per pool, or per process that is launched.

    Functions and classes are the process's and shared by all snapshots; values are not, so that a new pool
    starts from the present ones, and from functions and classes as they are by then.
    """

    __slots__ = ("callables", "contents", "contents_bytes", "generation", "needs", "values")

    def __init__(self) -> None:
        self.generation = registry.next_generation()
        self.values: dict[tuple[int, str], Definition] = {}
        self.needs: dict[tuple[tuple[Key, ...], Key | None], Needs] = {}
        self.callables: dict[int, tuple[object, Any, Needs, Group]] = {}
        self.contents: dict[tuple[bytes, tuple[Key, ...]], Definition] = {}
        self.contents_bytes = 0

    def keep(self, fn: Callable[..., object], needs: Needs, group: Group) -> None:
        """Let the next `define` of this very callable find its group."""
        if len(self.callables) >= MAX_CALLABLES:
            self.callables.clear()
        self.callables[id(fn)] = (fn, getattr(fn, "__code__", None), needs, group)

    def keep_content(self, content: tuple[bytes, tuple[Key, ...]], definition: Definition) -> None:
        """Let a callable of the same content find this definition, as long as there is room for it."""
        self.contents[content] = definition
        self.contents_bytes += len(definition.group.blob)
        while len(self.contents) > 1 and (
            len(self.contents) > MAX_CALLABLES or self.contents_bytes > MAX_CONTENTS_BYTES
        ):
            oldest = self.contents.pop(next(iter(self.contents)))
            self.contents_bytes -= len(oldest.group.blob)


process_snapshot = Snapshot()


def define(fn: Callable[..., object], snapshot: Snapshot | None = None) -> Group:
    """The group of a callable; the same one for the same callable as long as it would be the same."""
    snapshot = snapshot or process_snapshot
    entry = snapshot.callables.get(id(fn))
    if entry is not None and entry[0] is fn and entry[1] is getattr(fn, "__code__", None) and entry[2].hold():
        return entry[3]
    with explained(fn, "the function"), registry.lock:
        if registry.key_of(fn) is not None or _has_name(fn):
            return _define_named(fn, snapshot)
        return _define_by_content(fn, snapshot)


def _define_named(fn: Callable[..., object], snapshot: Snapshot) -> Group:
    """The group of a callable that has a key, or a name in `__main__`."""
    key = export(fn)
    needs = _needs_of((key,), None, snapshot, root_key=key)
    *groups, last = needs.groups
    group = Group(last.number, last.blob, tuple(groups))
    if not needs.volatile:
        snapshot.keep(fn, needs, group)
    return group


def _define_by_content(fn: Callable[..., object], snapshot: Snapshot) -> Group:
    """The group of any other callable; what pickles to the same bytes gets the same group."""
    pickler = pickled(lambda p: p.dumps(fn))
    met = pickler.meet()
    content = (_digest(pickler.result), tuple(met.direct))
    definition = snapshot.contents.get(content)
    if definition is None:
        definition = new_definition(CALLABLE, met, (), (), pickler.result)
        snapshot.keep_content(content, definition)
    needs = _needs_of(content[1], definition, snapshot)
    needs.cells += met.cells
    by_name = _names.is_importable(fn, getattr(fn, "__qualname__", ""))
    groups = tuple(group for group in needs.groups if group is not definition.group)
    group = Group(definition.number, definition.group.blob, groups, transient=not by_name)
    if len(group.blob) <= MAX_KEPT_BYTES and not needs.volatile and _is_constant(fn, met):
        snapshot.keep(fn, needs, group)
    return group


def _digest(content: bytes) -> bytes:
    """Something that stands for a pickle and is short."""
    if len(content) <= MAX_KEPT_BYTES:
        return content
    from hashlib import blake2b

    return blake2b(content).digest()


def _is_constant(fn: object, met: Met) -> bool:
    """Whether a callable cannot come to mean something else while it stays the same object."""
    if type(fn) is FunctionType:
        return not (met.volatile or met.loose_state)
    return is_frozen(fn)


def _has_name(fn: Any) -> bool:
    """Whether `__main__` knows a function or class by its name."""
    name = getattr(fn, "__qualname__", None)
    if getattr(fn, "__module__", None) != "__main__" or not isinstance(name, str) or "." in name:
        return False
    space = getattr(fn, "__globals__", None)
    return (space if space is not None else _install.main_space()).get(name) is fn and is_definable(fn)


# --- payloads --------------------------------------------------------------------------------------


def encode(obj: object, snapshot: Snapshot | None) -> tuple[bytes, list[PickleBuffer], tuple[Group, ...]]:
    """Pickle a payload for a worker: its buffers apart, and the groups that the worker must have."""
    pickler = _payload(obj, out_of_band=True)
    if pickler.met is None:
        return pickler.result, pickler.buffers, ()
    with explained(obj):
        needs = needs_of(pickler.met, snapshot or process_snapshot)
    return pickler.result, pickler.buffers, needs.groups


def encode_whole(
    obj: object, *, reply: bool = False, snapshot: Snapshot | None = None, out_of_band: bool = False
) -> tuple[bytes, list[PickleBuffer]]:
    """Pickle a payload together with the groups that it needs.

    A reply goes to the process that started this one, and leaves out what that process sent itself. Anything
    else may reach anybody, its buffers inside unless they are to be out of band; without a snapshot it is
    sent as things are now.
    """
    what = "the result" if reply else ""
    pickler = _payload(obj, out_of_band=reply or out_of_band, what=what)
    met = pickler.met
    if met is not None and reply:
        known = registry.definitions
        met.direct = {key: None for key in met.direct if not (key in known and known[key].upstream)}
        met.names = {name: None for name in met.names if name not in registry.given}
    if met is None or not (met.direct or met.names):
        return pickler.result, pickler.buffers
    if snapshot is None:
        snapshot = process_snapshot if reply else Snapshot()
    with explained(obj, what):
        blobs = [group.blob for group in needs_of(met, snapshot).groups]
    prelude = dumps(blobs, 5)
    return b"".join((b"\0", len(prelude).to_bytes(8, "little"), prelude, pickler.result)), pickler.buffers


def _payload(obj: object, *, out_of_band: bool, what: str = "") -> ValuePickler:
    pickler = ValuePickler(export, out_of_band=out_of_band)
    try:
        pickler.dumps(_sheltered(obj) if out_of_band else obj)
    except Exception:  # noqa: S110 - tried again below, where it is explained
        pass
    else:
        return pickler
    with explained(obj, what):
        return pickled(lambda p: p.dumps(obj), out_of_band=out_of_band)


def _sheltered(obj: Any, depth: int = SHELTER_DEPTH) -> Any:
    """The same object with large bytes set apart, as far as tuples go.

    Other containers may be referred to from elsewhere in the object, so they must stay what they are.
    """
    kind = type(obj)
    if kind is bytes or kind is bytearray:
        return Large(obj) if len(obj) >= MIN_BUFFER_BYTES else obj
    if kind is list and depth == SHELTER_DEPTH and _ATOMIC.issuperset(map(type, obj[:MAX_SHELTERED])):
        return [_sheltered(item, 0) for item in obj]
    if kind is not tuple or not depth or len(obj) > MAX_SHELTERED:
        return obj
    sheltered = tuple([_sheltered(item, depth - 1) for item in obj])
    return sheltered if any(map(is_not, sheltered, obj)) else obj


# --- following names -------------------------------------------------------------------------------


def needs_of(met: Met, snapshot: Snapshot) -> Needs:
    """What a payload needs, after the definitions it refers to and the names its functions use."""
    direct = tuple(met.direct)
    with registry.lock:
        if not met.names:
            return _needs_of(direct, None, snapshot)
        root = Definition(CALLABLE, b"", names=tuple(met.names), direct=direct)
        root.spaces = tuple(met.main_spaces.values())
        needs = _needs_of(direct, root, snapshot)
        needs.groups = tuple(group for group in needs.groups if group is not root.group)
        return needs


def _needs_of(
    direct: tuple[Key, ...], root: Definition | None, snapshot: Snapshot, root_key: Key | None = None
) -> Needs:
    """What a payload needs, or what the definition `root_key` does, whose group then comes last."""
    if root is None:
        cached = snapshot.needs.get((direct, root_key))
        if cached is not None and cached.hold():
            return cached
    needs = Needs()
    _Walk(needs, snapshot).run(direct, root, root_key)
    if root is None:
        if len(snapshot.needs) >= 16 * MAX_CALLABLES:
            snapshot.needs.clear()
        snapshot.needs[direct, root_key] = needs
    return needs


class _Walk:
    """One walk over definitions and the names they use, until nothing new turns up."""

    def __init__(self, needs: Needs, snapshot: Snapshot) -> None:
        self.needs = needs
        self.snapshot = snapshot
        self.todo: list[Definition] = []
        self.entered: set[Definition] = set()
        self.met: set[tuple[int, str]] = set()
        self.values: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {}  # by space
        self.bound: dict[str, Key] = {}
        self.main = _install.main_space()

    def run(self, direct: tuple[Key, ...], root: Definition | None, root_key: Key | None) -> None:
        for key in direct:
            self.visit(registry.definitions[key])
        if root is not None:
            self.visit(root)
        while self.todo or self.values:
            while self.todo:
                self.follow(self.todo.pop())
            if self.values:
                self.send_values()
        order = list(self.needs.definitions)
        if self.bound or root_key is not None:
            order.append(_binding(self.bound, root_key))
        self.needs.groups = tuple(d.group for d in order)

    def visit(self, definition: Definition) -> None:
        """Take a definition in, after those that its pickle refers to."""
        if definition.generation < self.snapshot.generation:
            definition = refresh(definition, self.snapshot.generation)
        if definition in self.entered:
            return
        self.entered.add(definition)
        self.todo.append(definition)
        for key in definition.direct:
            needed = registry.definitions.get(key)
            if needed is not None and needed is not definition:
                self.visit(needed)
        self.needs.definitions[definition] = None
        self.needs.cells += definition.cells
        self.needs.volatile = self.needs.volatile or (definition.volatile and _is_function(definition))
        for key, label in zip(definition.keys, definition.labels, strict=True):
            if label is not None:
                space = self.space_of(definition, label)
                if space.get(label) is registry.resolve(key):
                    self.bind(space, label, key)

    def space_of(self, definition: Definition, name: str) -> dict[str, Any]:
        """The globals in which a definition's functions find a name."""
        for space in definition.spaces:
            if name in space:
                return space
        return self.main

    def bind(self, space: dict[str, Any], name: str, key: Key) -> None:
        self.bound[name] = key
        self.needs.names.append((space, name, space[name]))

    def follow(self, definition: Definition) -> None:
        """Look up the names that a definition's functions use."""
        for name in definition.names:
            space = self.space_of(definition, name)
            if (id(space), name) in self.met:
                continue
            self.met.add((id(space), name))
            value = space.get(name, MISSING)
            if value is MISSING or name in {"__builtins__", "__loader__", "__spec__"}:
                self.needs.names.append((space, name, value))
            elif is_definable(value):
                key = export(value, label=name)
                self.visit(registry.definitions[key])
                self.bind(space, name, key)
            elif (id(space), name) in self.snapshot.values:
                self.visit(self.snapshot.values[id(space), name])
            else:
                self.values.setdefault(id(space), (space, {}))[1][name] = value

    def send_values(self) -> None:
        """Take the data globals met so far in, as one definition, so that what they share stays shared."""
        _, (space, values) = self.values.popitem()
        definition = values_definition(values, space)
        for name in values:
            self.snapshot.values[id(space), name] = definition
        self.visit(definition)


def _is_function(definition: Definition) -> bool:
    return bool(definition.keys) and type(registry.resolve(definition.keys[0])) is FunctionType


def _binding(bound: dict[str, Key], root_key: Key | None) -> Definition:
    """The definition that binds these names; a new one once any of them has meant something else."""
    for name, key in bound.items():
        latest = _bound.get(name)
        if latest is None or latest[0] != key:
            _bound[name] = (key, latest[1] + 1 if latest else 0)
    content = (root_key, frozenset((name, *_bound[name]) for name in bound))
    definition = _bindings.get(content)
    if definition is None:
        definition = new_definition(BIND, None, (), (), dumps((bound, root_key), 5), tuple(bound.values()))
        _bindings[content] = definition
    return definition
