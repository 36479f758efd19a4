"""The receiving side of definitions: builds functions and classes, and binds them in `__main__`.

Role in the flow: the worker calls `install` for each group, once, before the first task that needs it;
pickles name the builders below.
Runs in: the worker (and the parent, for definitions that a worker sends back), any thread.
Invariants: INV-CODEC-MIRROR a function of `__main__` gets this process's `__main__.__dict__` as its
globals, so what an initializer sets is seen by every later task; a data global that already has a value
keeps it.
Failure: a group that cannot be loaded raises what loading it raised; nothing of it is registered.
"""

from __future__ import annotations

import sys
from _pickle import loads
from marshal import loads as load_code
from types import CellType, FunctionType

from corral._codec import _registry as registry
from corral._codec._registry import BIND, CALLABLE, DEFINE, MISSING, VALUES, Definition
from corral._launch.tree import is_common, lineage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral._codec._registry import Key


def install(number: int, blob: bytes | memoryview) -> object:  # noqa: ARG001 - the caller's
    """Load a group that the process which started this one sent; returns its function or class."""
    return load(bytes(blob), upstream=True)


def load(blob: bytes, *, upstream: bool) -> object:
    """Load one blob; what is known already is not built again.

    Names are bound for good when the parent says so (upstream); what merely passes by (a queue's item, a
    result) must not replace what a name means here.
    """
    kind, origin, numbers, labels, names, direct, body, kin = loads(blob)
    if kind == DEFINE:
        keys = tuple((origin, number) for number in numbers)
        if kin is not None and registry.resolve(keys[0]) is MISSING:
            _know_inherited(keys, labels, *kin)
        return _load_definition(blob, keys, labels, names, direct, body, upstream=upstream)
    if kind == VALUES:
        _load_values(*loads(body), upstream=upstream)
    elif kind == BIND:
        return _bind(*loads(body), replace=upstream)
    elif kind == CALLABLE:
        return loads(body)
    return None


def after_prelude(message: bytes | memoryview, *, upstream: bool) -> memoryview:
    """Load the definitions that a self-contained message carries; returns the payload that follows them."""
    whole = memoryview(message)
    end = 9 + int.from_bytes(whole[1:9], "little")
    with registry.lock:
        for blob in loads(whole[9:end]):
            load(blob, upstream=upstream)
    return whole[end:]


def _load_definition(
    blob: bytes,
    keys: tuple[Key, ...],
    labels: tuple[str | None, ...],
    names: tuple[str, ...],
    direct: tuple[Key, ...],
    body: bytes,
    *,
    upstream: bool,
) -> object:
    with registry.lock:
        root = registry.resolve(keys[0])
        if root is MISSING:
            built: tuple[object, ...] = loads(body)
            for key, obj in zip(keys, built, strict=True):
                registry.remember(key, obj)
            root = built[0]
        definition = registry.definitions.get(keys[0])
        if definition is None:
            definition = Definition(DEFINE, blob, keys=keys, labels=labels, names=names, direct=direct)
            for key in keys:
                registry.definitions[key] = definition
        definition.upstream = definition.upstream or upstream
    return root


def _know_inherited(
    keys: tuple[Key, ...],
    labels: tuple[str | None, ...],
    origins: tuple[int, ...],
    addresses: tuple[int, ...],
) -> None:
    """Take for an object of a forked relative's `__main__` the one that is here, if it is the very same."""
    if not set(origins).intersection(lineage()):
        return
    space = main_space()
    found = [
        space[label]
        if label is not None and id(space.get(label)) == address and is_common(label, space[label])
        else MISSING
        for label, address in zip(labels, addresses, strict=True)
    ]
    if MISSING in found:
        # They are built together, and refer to each other: all of them, or none.
        return
    with registry.lock:
        for key, obj in zip(keys, found, strict=True):
            registry.objects.setdefault(key, obj)
            registry.keys.setdefault(id(obj), key)


def _load_values(modules: dict[str, str], values: bytes, absent: dict[str, str], *, upstream: bool) -> None:
    space = main_space()
    for name, module_name in modules.items():
        if name not in space:
            reason = _try_import(module_name)
            if reason:
                registry.absent[name] = reason
            else:
                space[name] = sys.modules[module_name]
    data: dict[str, object] = loads(values)
    for name, value in data.items():
        space.setdefault(name, value)
    if upstream:
        registry.given.update(modules, data)
    for name, reason in absent.items():
        registry.absent.setdefault(name, reason)


def _bind(bindings: dict[str, Key], root: Key | None, *, replace: bool) -> object:
    space = main_space()
    for name, key in bindings.items():
        obj = registry.resolve(key)
        if obj is not MISSING and (replace or name not in space):
            space[name] = obj
    return None if root is None else ref(*root)


def _try_import(name: str) -> str:
    """Import a module; the reason in words where that fails."""
    try:
        __import__(name)
    except Exception as exc:  # a module that does not import must stop only what uses it
        return f"importing {name} failed: {type(exc).__name__}: {exc}"
    return ""


def main_space() -> dict[str, Any]:
    """The globals of this process's `__main__`."""
    return sys.modules["__main__"].__dict__


# --- named in pickles: renaming one of these changes the wire format -------------------------------


def ref(origin: int, number: int, path: str = "") -> object:
    """The object of a key, or what `path` leads to from there."""
    obj = registry.resolve((origin, number))
    if obj is MISSING:
        from corral.errors import DecodeError

        raise DecodeError(f"definition {number} of {origin:x} is not known in this process")
    if path:
        for part in path.split("."):
            obj = getattr(obj, part)
    return obj


def module(name: str) -> object:
    """A module, by name."""
    __import__(name)
    return sys.modules[name]


def function(code: bytes, space: str | dict[str, Any], cells: tuple[CellType, ...] | None) -> FunctionType:
    """A function without its state, whose cells are still empty: it may refer to itself."""
    if isinstance(space, str):
        if space == "__main__":
            space = main_space()
        else:
            __import__(space)
            space = sys.modules[space].__dict__
    return FunctionType(load_code(code), space, None, None, cells)  # noqa: S302 - as S301


def fill_function(obj: FunctionType, state: dict[str, Any]) -> None:
    """Give a function its state."""
    for module_name in state.pop("imports", ()):
        _try_import(module_name)
    source = state.pop("source", None)
    if source is not None:
        registry.sources[source[0]] = source[1]
    for cell_, content in state.pop("cells", ()):
        cell_.cell_contents = content
    for name, value in state.pop("globals", {}).items():
        obj.__globals__.setdefault(name, value)
    obj.__dict__.update(state.pop("__dict__", {}))
    for name, value in state.items():
        setattr(obj, name, value)


def cell() -> CellType:
    """An empty cell."""
    return CellType()


def fill_cell(obj: CellType, state: tuple[object]) -> None:
    """Give a cell its contents."""
    obj.cell_contents = state[0]


def code(data: bytes) -> object:
    """A code object."""
    return load_code(data)  # noqa: S302 - as S301


def class_(meta: type | None, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> type:
    """A class without its attributes: they may refer to it.

    A metaclass written in Python is not run: what it made of the class is in the attributes that follow. With
    None it is that of the bases, and is run.
    """
    if meta is None:
        return type(name, bases, space)
    make: Callable[..., type] = type.__new__
    abc = sys.modules.get("abc")
    if abc is not None and issubclass(meta, abc.ABCMeta):
        make = abc.ABCMeta.__new__
    return make(meta, name, bases, space)


def fill_class(obj: type, state: dict[str, Any]) -> None:
    """Give a class its attributes, past whatever its metaclass has to say about that."""
    registered = state.pop("registered", ())
    for name in state.pop("omitted", ()):
        registry.absent[f"{obj.__qualname__}.{name}"] = "it cannot be pickled"
    put: Callable[[type, str, object], None] = type.__setattr__
    if type(obj).__module__ == "_ctypes":  # Python does not let us past a metaclass written in C
        put = setattr
    for name, value in state.items():
        put(obj, name, value)
    for other in registered:
        obj.register(other)  # type: ignore[attr-defined] # an ABC


def member(enum: type, kind: type, value: object) -> object:
    """A member of an enum that is being built, before its class can be asked for it."""
    if kind is object:
        return object.__new__(enum)
    return kind.__new__(enum, value)


def fill_object(obj: object, state: dict[str, Any]) -> None:
    """Give an object its attributes, past any `__setattr__`."""
    obj.__dict__.update(state)


def lru_cache(wrapped: Callable[..., object], maxsize: int | None, typed: bool) -> object:
    """A cached function; its cache starts empty."""
    import functools

    return functools.lru_cache(maxsize, typed)(wrapped)


def cached_property(wrapped: Callable[..., object], name: str | None) -> object:
    """A cached property; on Python 3.11 it has a lock, which does not travel."""
    import functools

    made = functools.cached_property(wrapped)
    made.attrname = name
    return made


def type_variable(kind: type, name: str, args: tuple[object, ...], options: dict[str, Any]) -> object:
    """A TypeVar, ParamSpec, NewType or the like."""
    return kind(name, *args, **options)


def view(buffer: memoryview, layout: str, shape: tuple[int, ...]) -> memoryview:
    """A memoryview on data that arrived."""
    flat = memoryview(buffer).cast("B")
    if layout == "B" and len(shape) == 1:
        return flat
    return flat.cast(layout, shape)  # type: ignore[call-overload, no-any-return]


def keys_of(content: dict[Any, Any]) -> object:
    """A dictionary's keys, as such."""
    return content.keys()


def values_of(content: list[Any]) -> object:
    """A dictionary's values, as such."""
    return dict(enumerate(content)).values()


def items_of(content: dict[Any, Any]) -> object:
    """A dictionary's items, as such."""
    return content.items()


def fill_attributes(obj: object, state: dict[str, Any]) -> None:
    """Give an object its attributes, where it lets them be set."""
    for name, value in state.items():
        try:
            setattr(obj, name, value)
        except (AttributeError, TypeError):  # type aliases are what they are
            continue
