"""The pickler: refers to definitions by key, writes them by value where they are being defined.

Role in the flow: `_groups` runs it, once per definition or payload; the builders it names are in `_install`.
Runs in: any process that sends.
Invariants: INV-CODEC-REF what is being defined in this very pickle is written by value, every other
definition is a reference and is listed in `direct`; so a pickle never contains a second copy of a class.
See: `_classes` for classes, `_names` for the globals of functions.
"""

from __future__ import annotations

import copyreg
import io
import sys
from _pickle import PickleBuffer, Pickler, PicklingError
from collections import OrderedDict
from marshal import dumps as dump_code
from types import (
    BuiltinFunctionType,
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    ModuleType,
)

from corral._codec import _classes, _names
from corral._codec import _install as build
from corral._codec import _registry as registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral._codec._registry import Key

    Reduced = Any  # what `__reduce__` may return, and NotImplemented

_NOTHING: set[int] = set()
_NONE: dict[str, Any] = {}
_BUILDERS = frozenset(obj for obj in vars(build).values() if type(obj) is FunctionType)
_ordinary: set[type] = set()  # kinds of objects that are written as pickle would
_MAX_ORDINARY = 1000

# Smaller buffers travel inside the pickle: a block of the heap for each would cost more than the copy.
MIN_BUFFER_BYTES = 16 * 1024

_ATOMS = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type(Ellipsis), range, type(NotImplemented)}
)
_DEFINED = (FunctionType, type, ModuleType, BuiltinFunctionType)


class EntangledError(Exception):
    """Two definitions refer to each other directly: they have to be defined in one pickle."""

    def __init__(self, pickler: ValuePickler) -> None:
        super().__init__()
        self.pickler = pickler


class RestartError(Exception):
    """Define this object too, in the same pickle, and begin again."""

    def __init__(self, obj: object) -> None:
        super().__init__()
        self.obj = obj


class Large:
    """Bytes too large to be copied into a pickle; what arrives are the bytes themselves."""

    __slots__ = ("content",)

    def __init__(self, content: bytes | bytearray) -> None:
        self.content = content


class Met:
    """What a pickle met on the way that needs more than the pickle: definitions, names, cells.

    `volatile` says that a function was among it whose cells hold what can change unseen, `loose_state` the
    same of its defaults and attributes, `annotated` that there are annotations one could do without.
    """

    __slots__ = (
        "annotated",
        "cells",
        "cells_met",
        "direct",
        "loose_state",
        "main_spaces",
        "names",
        "spaces",
        "volatile",
    )

    def __init__(self) -> None:
        self.direct: dict[Key, None] = {}
        self.names: dict[str, None] = {}
        self.main_spaces: dict[int, dict[str, Any]] = {}  # one, but under profilers and the like
        self.spaces: dict[int, dict[str, Any]] = {}
        self.cells: list[tuple[CellType, object]] = []
        self.cells_met: set[int] = set()
        self.volatile = False
        self.loose_state = False
        self.annotated = False


class ValuePickler(Pickler):
    """One pickle: of a payload (`inline` empty), or of the definitions that are `inline`.

    Not thread-safe; used once. `met` is there only if there was anything to meet.
    """

    def __init__(
        self,
        export: Callable[[object], Key],
        inline: tuple[object, ...] = (),
        *,
        out_of_band: bool = False,
        annotations: bool = True,
        omitted: frozenset[tuple[int, str]] = frozenset(),
    ) -> None:
        self._file = io.BytesIO()
        self.buffers: list[PickleBuffer] = []
        super().__init__(self._file, 5, buffer_callback=_collector(self.buffers) if out_of_band else None)
        if "multiprocessing.reduction" in sys.modules or "corral.reduction" in sys.modules:
            self.dispatch_table = _dispatch_table()  # without one, pickle takes copyreg's
        self._export = export
        self._annotations = annotations
        self._omitted = omitted  # attributes of the classes defined here that cannot be sent
        self.inline = {id(obj) for obj in inline} if inline else _NOTHING
        self.met: Met | None = None
        self.result = b""

    def dumps(self, obj: object) -> bytes:
        """Pickle one object."""
        try:
            self.dump(obj)
        finally:
            self.clear_memo()
        self.result = self._file.getvalue()
        return self.result

    def meet(self) -> Met:
        """What was met, from now on."""
        if self.met is None:
            self.met = Met()
        return self.met

    def reducer_override(self, obj: Any) -> Reduced:
        """Say how an object is written; NotImplemented means as pickle would."""
        kind = type(obj)
        if (kind in _ordinary and not self.inline) or (kind is FunctionType and obj in _BUILDERS):
            return NotImplemented
        if kind is FunctionType:
            return self._definition(obj, obj.__qualname__, self._function)
        if issubclass(kind, type):
            return self._class(obj)
        reduce = _SPECIAL.get(kind) or _LATE.get(kind.__module__, _NONE).get(kind.__name__)
        if reduce is not None:
            return reduce(self, obj)
        if id(kind) in self.inline and "_member_map_" in kind.__dict__:
            return _classes.reduce_member(obj)
        if "<locals>" not in kind.__qualname__ and len(_ordinary) < _MAX_ORDINARY:
            _ordinary.add(kind)
        return NotImplemented

    # --- definitions -------------------------------------------------------------------------------

    def _definition(self, obj: Any, name: str, by_value: Callable[[Any], Reduced]) -> Reduced:
        """By value if it belongs here, by name if others can import it, by key otherwise."""
        if id(obj) in self.inline:
            return by_value(obj)
        known = registry.key_of(obj) is not None
        if not known and _names.is_importable(obj, name):
            return NotImplemented
        top, path = (obj, "") if known else self._place(obj, name)
        if id(top) in self.inline or (top is None and by_value in {self._function, _reduce_lru_cache}):
            return by_value(obj)
        return self._reference(obj if top is None else top, path)

    def _place(self, obj: Any, name: str) -> tuple[object, str]:
        """Where in `__main__` an object is: a top-level object, and a path from there."""
        if getattr(obj, "__module__", None) != "__main__":
            return None, ""
        space = getattr(obj, "__globals__", None)
        if space is None or space.get("__name__") != "__main__":
            space = build.main_space()
        found, top = _names.look_up(space, name)
        return (top, name.partition(".")[2]) if found is obj else (None, "")

    def _reference(self, top: object, path: str) -> Reduced:
        try:
            key = self._export(top)
        except EntangledError as exc:
            if exc.pickler is self:
                raise RestartError(top) from None
            raise
        self.meet().direct[key] = None
        return build.ref, ((*key, path) if path else key)

    def _class(self, cls: Any) -> Reduced:
        key = registry.key_of(cls)
        if key is not None and id(cls) not in self.inline:
            self.meet().direct[key] = None
            return build.ref, key
        if cls.__module__ in {"builtins", "types"}:
            return _classes.reduce_builtin(cls)
        return self._definition(cls, cls.__qualname__, self._class_by_value)

    def _class_by_value(self, cls: type) -> Reduced:
        self.inline.add(id(cls))  # a class inside another one, too, is being defined here
        if _classes.is_foreign(type(cls)):
            return _classes.borrow_reduction(cls)
        return _classes.reduce(cls, frozenset(name for owner, name in self._omitted if owner == id(cls)))

    def _function(self, fn: FunctionType) -> Reduced:
        """A function by value: made with empty cells first, as what they hold may refer to it."""
        code = fn.__code__
        state: dict[str, Any] = {}
        names = _names.global_names(code)
        used = {name: fn.__globals__[name] for name in names if name in fn.__globals__}
        used.pop("__builtins__", None)
        space = self._space_of(fn, names)
        if isinstance(space, dict):
            state["globals"] = used
        met = self.meet()
        fresh = [cell for cell in fn.__closure__ or () if id(cell) not in met.cells_met]
        met.cells_met.update(map(id, fresh))
        filled = [(cell, cell.cell_contents) for cell in fresh if not _is_empty(cell)]
        met.cells += filled
        met.volatile = met.volatile or len(filled) < len(fresh) or not all(is_frozen(v) for _, v in filled)
        if filled:
            state["cells"] = filled
        source = _names.unfiled_source(code.co_filename)
        if source:
            state["source"] = source
        imports = _names.submodules([*used.values(), *(value for _, value in filled)], code)
        if imports:
            state["imports"] = imports
        self._attributes(fn, code, state)
        return (
            build.function,
            (dump_code(code), space, fn.__closure__),
            state or None,
            None,
            None,
            build.fill_function,
        )

    def _attributes(self, fn: Any, code: CodeType, state: dict[str, Any]) -> None:
        """Whatever differs from what the code object alone gives."""
        defaults = (fn.__defaults__, fn.__kwdefaults__, fn.__dict__)
        met = self.meet()
        met.loose_state = met.loose_state or not all(not v or is_frozen(v) for v in defaults)
        for name, plain in (
            ("__defaults__", None),
            ("__kwdefaults__", None),
            ("__dict__", {}),
            ("__name__", code.co_name),
            ("__qualname__", code.co_qualname),
            ("__module__", fn.__globals__.get("__name__")),
            ("__doc__", code.co_consts[0] if code.co_consts else None),
            ("__type_params__", ()),
        ):
            value = getattr(fn, name, plain)
            if value != plain:
                state[name] = value
        if self._annotations:
            try:
                annotations = fn.__annotations__
            except Exception:  # noqa: S110 - evaluated late (PEP 649), they may refer to what is not there
                pass
            else:
                if annotations:
                    state["__annotations__"] = annotations
                    met.annotated = True

    def _space_of(self, fn: FunctionType, names: set[str]) -> str | dict[str, Any]:
        """The globals a function is to have: `__main__`'s, a module's by name, or a dictionary to fill."""
        space = fn.__globals__
        module_name = space.get("__name__")
        if module_name == "__main__":
            self.meet().names.update(dict.fromkeys(sorted(names)))
            self.meet().main_spaces[id(space)] = space
            return "__main__"
        module = _names.importable_module(module_name or "")
        if module is not None and module.__dict__ is space:
            return module.__name__
        known = self.meet().spaces
        if id(space) not in known:
            known[id(space)] = {n: space[n] for n in ("__name__", "__package__", "__file__") if n in space}
        return known[id(space)]

    # --- kinds that pickle does not know, or knows in another way -----------------------------------

    def _cell(self, cell: CellType) -> Reduced:
        """Empty if a function of this pickle fills it, else with its contents."""
        if (self.met is not None and id(cell) in self.met.cells_met) or _is_empty(cell):
            return build.cell, ()
        return build.cell, (), (cell.cell_contents,), None, None, build.fill_cell

    def _lru_cache(self, obj: Any) -> Reduced:
        return self._definition(obj, obj.__qualname__, _reduce_lru_cache)

    def _cached_property(self, obj: Any) -> Reduced:
        return build.cached_property, (obj.func, obj.attrname)  # the one of Python 3.11 has a lock

    def _type_variable(self, obj: Any) -> Reduced:
        return self._definition(obj, obj.__name__, _classes.reduce_type_variable)

    def _sentinel(self, obj: Any) -> Reduced:
        """The constants of `dataclasses`, which are compared by identity."""
        dataclasses = sys.modules["dataclasses"]
        for name in (
            "MISSING",
            "_FIELD",
            "_FIELD_CLASSVAR",
            "_FIELD_INITVAR",
            "_HAS_DEFAULT_FACTORY",
            "KW_ONLY",
        ):
            if getattr(dataclasses, name) is obj:
                return getattr, (dataclasses, name)
        return NotImplemented

    def _weak_dictionary(self, obj: Any) -> Reduced:
        return type(obj), (dict(obj),)

    def _weak_set(self, obj: Any) -> Reduced:
        return type(obj), (list(obj),)

    def _code(self, code: CodeType) -> Reduced:
        return build.code, (dump_code(code),)

    def _module(self, module: ModuleType) -> Reduced:
        if sys.modules.get(module.__name__) is not module:
            raise PicklingError(f"cannot pickle {module!r}: it cannot be imported by that name")
        return build.module, (module.__name__,)

    def _wrapper(self, obj: Any) -> Reduced:
        return type(obj), (obj.__func__,)

    def _property(self, obj: property) -> Reduced:
        return type(obj), (obj.fget, obj.fset, obj.fdel, obj.__doc__)

    def _proxy(self, obj: MappingProxyType[Any, Any]) -> Reduced:
        return MappingProxyType, (dict(obj),)

    def _descriptor(self, obj: Any) -> Reduced:
        return getattr, (obj.__objclass__, obj.__name__)

    def _large(self, obj: Large) -> Reduced:
        return type(obj.content), (PickleBuffer(obj.content),)

    def _view(self, obj: memoryview) -> Reduced:
        # A copy: CPython crashes if a memoryview and a PickleBuffer of it die in one garbage collection.
        return build.view, (PickleBuffer(obj.tobytes()), obj.format, obj.shape)

    def _keys(self, obj: Any) -> Reduced:
        return build.keys_of, (dict.fromkeys(obj),)

    def _values(self, obj: Any) -> Reduced:
        return build.values_of, (list(obj),)

    def _items(self, obj: Any) -> Reduced:
        return build.items_of, (dict(obj),)

    def _socket(self, obj: Any) -> Reduced:
        """As a reducer says that somebody has registered, else `reduction`, which lies above: by name."""
        reduce = _dispatch_table().get(type(obj))
        if reduce is None or reduce.__module__ == "multiprocessing.reduction":
            __import__("corral.reduction")
            reduce = sys.modules["corral.reduction"].reduce_socket
        return reduce(obj)

    def _text_file(self, obj: io.TextIOWrapper) -> Reduced:
        for name in ("stdout", "stderr"):
            if obj is getattr(sys, name):
                return getattr, (sys, name)
        return NotImplemented


_SPECIAL: dict[type, Callable[[ValuePickler, Any], Reduced]] = {
    CellType: ValuePickler._cell,  # noqa: SLF001 - its own table
    CodeType: ValuePickler._code,  # noqa: SLF001
    ModuleType: ValuePickler._module,  # noqa: SLF001
    staticmethod: ValuePickler._wrapper,  # noqa: SLF001
    classmethod: ValuePickler._wrapper,  # noqa: SLF001
    property: ValuePickler._property,  # noqa: SLF001
    MappingProxyType: ValuePickler._proxy,  # noqa: SLF001
    MemberDescriptorType: ValuePickler._descriptor,  # noqa: SLF001
    GetSetDescriptorType: ValuePickler._descriptor,  # noqa: SLF001
    memoryview: ValuePickler._view,  # noqa: SLF001
    Large: ValuePickler._large,  # noqa: SLF001
    type({}.keys()): ValuePickler._keys,  # noqa: SLF001
    type({}.values()): ValuePickler._values,  # noqa: SLF001
    type({}.items()): ValuePickler._items,  # noqa: SLF001
    type(OrderedDict().keys()): ValuePickler._keys,  # noqa: SLF001
    type(OrderedDict().values()): ValuePickler._values,  # noqa: SLF001
    type(OrderedDict().items()): ValuePickler._items,  # noqa: SLF001
    io.TextIOWrapper: ValuePickler._text_file,  # noqa: SLF001
}
# As above, of modules that need not be loaded: by name.
_LATE: dict[str, dict[str, Callable[[ValuePickler, Any], Reduced]]] = {
    "abc": {
        "abstractclassmethod": ValuePickler._wrapper,  # noqa: SLF001
        "abstractstaticmethod": ValuePickler._wrapper,  # noqa: SLF001
        "abstractproperty": ValuePickler._property,  # noqa: SLF001
    },
    "dataclasses": {
        "_MISSING_TYPE": ValuePickler._sentinel,  # noqa: SLF001
        "_FIELD_BASE": ValuePickler._sentinel,  # noqa: SLF001
        "_HAS_DEFAULT_FACTORY_CLASS": ValuePickler._sentinel,  # noqa: SLF001
        "_KW_ONLY_TYPE": ValuePickler._sentinel,  # noqa: SLF001
    },
    "functools": {
        "_lru_cache_wrapper": ValuePickler._lru_cache,  # noqa: SLF001
        "cached_property": ValuePickler._cached_property,  # noqa: SLF001
    },
    "socket": {"socket": ValuePickler._socket},  # noqa: SLF001
    "typing": dict.fromkeys(
        ("TypeVar", "ParamSpec", "TypeVarTuple", "NewType", "TypeAliasType"),
        ValuePickler._type_variable,  # noqa: SLF001
    ),
    "weakref": dict.fromkeys(
        ("WeakKeyDictionary", "WeakValueDictionary"),
        ValuePickler._weak_dictionary,  # noqa: SLF001
    ),
    "_weakrefset": {"WeakSet": ValuePickler._weak_set},  # noqa: SLF001
}


def _reduce_lru_cache(obj: Any) -> Reduced:
    parameters = obj.cache_parameters()
    return build.lru_cache, (obj.__wrapped__, parameters["maxsize"], parameters["typed"])


def _collector(buffers: list[PickleBuffer]) -> Callable[[PickleBuffer], bool]:
    """A callback that keeps large buffers out of the pickle; not a method, which would be a cycle."""

    def take(buffer: PickleBuffer) -> bool:
        if buffer.raw().nbytes < MIN_BUFFER_BYTES:
            return True  # stays inside
        buffers.append(buffer)
        return False

    return take


def _is_empty(cell: CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - raises if there is nothing
    except ValueError:
        return True
    return False


def is_frozen(value: object) -> bool:
    """Whether a value cannot change while it stays the same object."""
    kind = type(value)
    if kind in _ATOMS or isinstance(value, type):
        return True
    if kind is FunctionType:
        return not value.__closure__  # type: ignore[attr-defined]
    if kind in {tuple, frozenset}:
        return all(is_frozen(item) for item in value)  # type: ignore[attr-defined]
    return isinstance(value, _DEFINED)


def _dispatch_table() -> dict[type, Callable[[Any], Reduced]]:
    """The reducers that others registered with copyreg and with either ForkingPickler."""
    table: dict[type, Callable[[Any], Reduced]] = copyreg.dispatch_table
    for name in ("multiprocessing.reduction", "corral.reduction"):
        extra = getattr(getattr(sys.modules.get(name), "ForkingPickler", None), "_extra_reducers", None)
        if extra:
            table = {**table, **extra}
    return table
