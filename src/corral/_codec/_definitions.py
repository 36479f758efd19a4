"""Definitions: what becomes one, when it is made anew, and what goes into it.

Role in the flow: `_groups` and `_pickler` ask for the key of what they meet; `_pickler` writes the pickle.
Runs in: any process that sends, any thread, under the registry's lock.
Invariants: INV-CODEC-FRESH a definition whose function says something else by now is made again: at once if a
cell of its changed, with the next snapshot (`refresh`) if anything else did.
"""

from __future__ import annotations

import sys
from _pickle import dumps
from types import FunctionType, ModuleType

from corral._codec import _classes, _names
from corral._codec import _registry as registry
from corral._codec._pickler import EntangledError, Met, RestartError, ValuePickler
from corral._codec._registry import DEFINE, VALUES, Definition
from corral._launch.tree import is_common, lineage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CellType
    from typing import Any

    from corral._codec._registry import Key

_active: list[ValuePickler] = []  # the definitions being pickled just now, outermost first; under the lock


def is_definable(value: Any) -> bool:
    """Whether a value is defined under a key where it cannot be imported: code, rather than data."""
    kind = type(value)
    if kind is FunctionType or issubclass(kind, type):
        return not _names.is_importable(value, value.__qualname__)
    if kind.__module__ == "typing":
        return getattr(value, "__module__", None) == "__main__" and hasattr(value, "__name__")
    return kind.__name__ == "_lru_cache_wrapper" and value.__module__ == "__main__"


def export(obj: Any, label: str | None = None) -> Key:
    """The key of an object, which becomes a definition if it is not one yet."""
    with registry.lock:
        key = registry.key_of(obj)
        if key is not None and _is_fresh(obj, registry.definitions[key]):
            return key
        for pickler in _active:
            if id(obj) in pickler.inline:
                raise EntangledError(pickler)
        return _export(obj, label)


def _is_fresh(obj: object, definition: Definition) -> bool:
    """Whether a definition still says what its function would say; classes are as they were first sent."""
    if type(obj) is not FunctionType or not definition.body:
        return True
    return not definition.volatile and cells_hold(definition.cells)


def cells_hold(cells: Iterable[tuple[CellType, object]]) -> bool:
    for cell, content in cells:
        try:
            if cell.cell_contents is not content:
                return False
        except ValueError:  # emptied
            return False
    return True


def _export(obj: Any, label: str | None) -> Key:
    pickler, inline = _defined((obj,))
    met = pickler.meet()
    known = registry.key_of(obj)
    if known is not None and registry.definitions[known].body == pickler.result:
        registry.definitions[known].cells = tuple(met.cells)
        return known
    numbers = tuple(registry.new_number() for _ in inline)
    labels = (label or _label(obj), *map(_label, inline[1:]))
    return _register(pickler, inline, numbers, labels).keys[0]


def refresh(definition: Definition, generation: int) -> Definition:
    """The definition as it would be made now, under the same keys: a class may have been changed.

    A process that has it already keeps what it has, as it would after a fork.
    """
    definition.generation = generation
    inline = tuple(registry.resolve(key) for key in definition.keys)
    if not definition.body or registry.MISSING in inline:
        return definition  # not made here, or gone
    pickler, found = _defined(inline)
    if pickler.result == definition.body:
        return definition
    numbers = [number for _, number in definition.keys]
    numbers += [registry.new_number() for _ in found[len(inline) :]]
    labels = (*definition.labels, *map(_label, found[len(inline) :]))
    return _register(pickler, found, tuple(numbers), labels)


def _register(
    pickler: ValuePickler,
    inline: tuple[object, ...],
    numbers: tuple[int, ...],
    labels: tuple[str | None, ...],
) -> Definition:
    met = pickler.meet()
    definition = new_definition(DEFINE, met, numbers, labels, pickler.result, inline=inline)
    definition.body = pickler.result
    definition.cells = tuple(met.cells)
    definition.volatile = met.volatile
    for key, each, name in zip(definition.keys, inline, labels, strict=True):
        registry.remember(key, each, weakly=name is None)
        registry.definitions[key] = definition
    return definition


def _defined(inline: tuple[object, ...]) -> tuple[ValuePickler, tuple[object, ...]]:
    """Pickle objects by value, together with those that they are entangled with."""
    omitted: frozenset[tuple[int, str]] = frozenset()
    while True:
        try:
            return pickled(lambda p, objs=inline: p.dumps(objs), inline, omitted=omitted), inline  # type: ignore[misc]
        except RestartError as restart:
            inline = (*inline, restart.obj)
        except EntangledError:
            raise
        except Exception:
            refused = _refused_attributes(inline)
            if refused <= omitted:
                raise
            omitted = refused


def _refused_attributes(inline: tuple[object, ...]) -> frozenset[tuple[int, str]]:
    """The attributes of these classes that cannot be sent: a lock, say, that guards the instances."""
    pickler = ValuePickler(export, inline)
    _active.append(pickler)  # so that what refers to one of the classes is not led in circles
    try:
        return frozenset(
            (id(cls), name)
            for cls in inline
            if isinstance(cls, type)
            for name, value in _classes.attributes(cls).items()
            if refusal(value) is not None
        )
    finally:
        _active.pop()


def _label(obj: Any) -> str | None:
    """The name of `__main__` that an object has, if any."""
    name = getattr(obj, "__qualname__", None) or getattr(obj, "__name__", None)
    if getattr(obj, "__module__", None) != "__main__" or not isinstance(name, str) or "." in name:
        return None
    return name


def new_definition(
    kind: int,
    met: Met | None,
    numbers: tuple[int, ...],
    labels: tuple[str | None, ...],
    body: bytes,
    direct: tuple[Key, ...] = (),
    inline: tuple[object, ...] = (),
) -> Definition:
    origin = registry.origin()
    names = tuple(met.names) if met else ()
    direct = tuple(met.direct) if met else direct
    # Who was forked from this process, or this one from it, has what is named there already.
    common = bool(inline) and all(map(is_common, labels, inline))
    kin = (lineage(), tuple(map(id, inline))) if common else None
    blob = dumps((kind, origin, numbers, labels, names, direct, body, kin), 5)
    keys = tuple((origin, number) for number in numbers)
    definition = Definition(kind, blob, keys=keys, labels=labels, names=names, direct=direct)
    definition.spaces = tuple(met.main_spaces.values()) if met else ()
    return definition


def pickled(
    run: Callable[[ValuePickler], bytes], inline: tuple[object, ...] = (), **options: Any
) -> ValuePickler:
    """Pickle; annotations that cannot be sent are not worth failing for."""
    pickler = ValuePickler(export, inline, **options)
    if inline:
        _active.append(pickler)
    try:
        run(pickler)
    except (EntangledError, RestartError, RecursionError):
        raise
    except Exception:
        if pickler.met is None or not pickler.met.annotated:
            raise
    else:
        return pickler
    finally:
        if inline:
            _active.pop()
    return pickled(run, inline, annotations=False, **options)


def values_definition(values: dict[str, Any], space: dict[str, Any]) -> Definition:
    modules = {n: v.__name__ for n, v in values.items() if isinstance(v, ModuleType) and _is_loaded(v)}
    data = {n: v for n, v in values.items() if n not in modules}
    absent: dict[str, str] = {}
    try:
        pickler = pickled(lambda p: p.dumps(data))
    except Exception:  # leave out what cannot be sent, and say so when it is missed
        reasons = {name: refusal(value) for name, value in data.items()}
        absent = {name: f"{type(exc).__name__}: {exc}" for name, exc in reasons.items() if exc is not None}
        data = {name: value for name, value in data.items() if name not in absent}
        pickler = pickled(lambda p: p.dumps(data))
    body = dumps((modules, pickler.result, absent), 5)
    definition = new_definition(VALUES, pickler.met, (), (), body)
    definition.spaces = (*definition.spaces, space)
    return definition


def refusal(value: object) -> Exception | None:
    """Why a value cannot be sent; None if it can."""
    try:
        pickled(lambda p: p.dumps(value))
    except EntangledError:  # belongs to what is being defined
        return None
    except Exception as exc:
        return exc
    return None


def _is_loaded(module: ModuleType) -> bool:
    return sys.modules.get(module.__name__) is module
