"""Classes by value: how one is taken apart so that `_install` can build it again.

A class travels as an empty one with its bases, then its attributes, as those may refer to it. What cannot be
rebuilt that way (metaclasses written in C, such as those of ctypes) is left to cloudpickle.
Role in the flow: called by `_pickler`.
Runs in: any process that sends.
"""

from __future__ import annotations

import builtins
import sys
import types
from _pickle import PicklingError

from corral._codec import _install as build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Reduced = Any  # what `__reduce__` may return, and NotImplemented

# Made anew by whoever makes the class.
_LEFT_OUT = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__module__",
        "__qualname__",
        "__slots__",
        "__orig_bases__",
        "_abc_impl",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
    }
)


# What a class must have from the start; ctypes makes its layout of the latter.
_NEEDED_AT_ONCE = (
    "__slots__",
    "__orig_bases__",
    "_fields_",
    "_pack_",
    "_align_",
    "_layout_",
    "_anonymous_",
    "_type_",
    "_length_",
)


def is_foreign(meta: type) -> bool:
    """Whether a metaclass has a constructor of its own in C that is not known here."""
    return _has_constructor_in_c(meta) and meta.__module__ != "_ctypes"


def _has_constructor_in_c(meta: type) -> bool:
    make = meta.__new__
    return isinstance(make, types.BuiltinFunctionType) and make is not type.__new__


def borrow_reduction(cls: type) -> Reduced:
    """Let cloudpickle take a class apart."""
    import io

    import cloudpickle

    return cloudpickle.CloudPickler(io.BytesIO()).reducer_override(cls)


def reduce_builtin(cls: type) -> Reduced:
    """A class of the interpreter, some of which only `types` has a name for."""
    if getattr(builtins, cls.__name__, None) is cls or cls in {type(None), type(...), type(NotImplemented)}:
        return NotImplemented
    for name in types.__all__:
        if getattr(types, name) is cls:
            return getattr, (types, name)
    return NotImplemented


def attributes(cls: Any) -> dict[str, Any]:
    """The attributes of a class that travel."""
    state = {name: value for name, value in cls.__dict__.items() if _belongs(cls, name, value)}
    if "__annotate_func__" in cls.__dict__:  # Python 3.14
        try:
            state["__annotations__"] = cls.__annotations__
        except Exception:  # evaluated late (PEP 649), they may refer to what is not there
            state.pop("__annotations__", None)
    return state


def reduce(cls: Any, omitted: frozenset[str]) -> Reduced:
    """A class by value, without the attributes that cannot be sent."""
    space = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    at_once = _NEEDED_AT_ONCE if type(cls).__module__ == "_ctypes" else _NEEDED_AT_ONCE[:2]
    for name in at_once:
        if name in cls.__dict__:
            space[name] = cls.__dict__[name]
    if "__slots__" in space and not isinstance(space["__slots__"], str):
        space["__slots__"] = tuple(space["__slots__"])
    state = {name: value for name, value in attributes(cls).items() if name not in omitted}
    if omitted:
        state["omitted"] = sorted(omitted)
    registered = _registered(cls)
    if registered:
        state["registered"] = registered
    meta = (
        None if type(cls).__module__ == "_ctypes" else type(cls)
    )  # ctypes' own have no name to call them by
    return build.class_, (meta, cls.__name__, cls.__bases__, space), state, None, None, build.fill_class


def _belongs(cls: type, name: str, value: object) -> bool:
    """Whether an attribute must travel: not what the interpreter makes for each class by itself."""
    if name in _LEFT_OUT or (type(value).__module__ == "_ctypes" and type(value).__name__ == "CField"):
        return False
    if name in _NEEDED_AT_ONCE and type(cls).__module__ == "_ctypes":
        return False
    if isinstance(value, (types.MemberDescriptorType, types.GetSetDescriptorType)):
        return value.__objclass__ is not cls
    return True


def _registered(cls: type) -> list[type]:
    """The virtual subclasses of an ABC."""
    if "_abc_impl" not in cls.__dict__:
        return []
    from _abc import _get_dump  # type: ignore[import-not-found]

    return [found for reference in _get_dump(cls)[0] if (found := reference()) is not None]


def reduce_member(obj: Any) -> Reduced:
    """A member of the enum that is being defined: `Colour.RED` cannot be asked for yet."""
    enum = type(obj)
    kind = enum._member_type_
    value = None if kind is object else _plain(kind, obj)
    return build.member, (enum, kind, value), obj.__dict__, None, None, build.fill_object


def _plain(kind: type, obj: Any) -> object:
    """The value of the type that a member is mixed with."""
    if kind is str:
        return str.__str__(obj)
    if kind in {int, float, bytes, tuple}:
        return kind(obj)
    if isinstance(obj._value_, kind):
        return obj._value_
    raise PicklingError(
        f"cannot pickle the enum {type(obj).__qualname__}: its members are {kind.__qualname__}s"
    )


def reduce_type_variable(obj: Any) -> Reduced:
    """A TypeVar, ParamSpec, TypeVarTuple, NewType or type alias by value."""
    kind = type(obj)
    name = kind.__name__
    args: tuple[object, ...] = ()
    options: dict[str, Any] = {}
    if name == "TypeVar":
        args = obj.__constraints__
        options = {"covariant": obj.__covariant__, "contravariant": obj.__contravariant__}
        if obj.__bound__ is not None:
            options["bound"] = obj.__bound__
        if sys.version_info >= (3, 12):
            options["infer_variance"] = obj.__infer_variance__
    elif name == "NewType":
        args = (obj.__supertype__,)
    elif name == "TypeAliasType":
        args, options = (obj.__value__,), {"type_params": obj.__type_params__}
    return (
        build.type_variable,
        (kind, obj.__name__, args, options),
        {"__module__": obj.__module__},
        None,
        None,
        build.fill_attributes,
    )
