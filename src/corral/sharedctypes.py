"""Values and arrays of C types in shared memory: `multiprocessing.sharedctypes`.

Role in the flow: the contexts' `Value`, `Array`, `RawValue` and `RawArray` come here. Memory is a stretch of
the creator's heap; a ctypes object lies over it; the native `Cell` and `Cells` read and write its numbers
under the lock.
Runs in: parent and child, any thread.
Invariants:
    INV-VALUE-1: memory that a child was given is not used for anything else before the child has ended,
        though its creator has long dropped it.
    INV-VALUE-2: the wrappers touch the memory under their lock only; `get_obj()` and NumPy views take none.
Failure: if the process that holds the lock dies, the next one gets it (see `corral.synchronize`); each number
is stored at once, so none is half-written.
See: docs/reference/sharedctypes.md.
"""

# ruff: noqa: N802, SLF001  (the standard library's names; ctypes' own seams are private ones)

from __future__ import annotations

import copyreg
import ctypes
import operator
import sys
import weakref

from corral import _native
from corral._launch import heap, sharing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Array", "RawArray", "RawValue", "Value", "copy", "synchronized"]

typecode_to_type: dict[str, type[Any]] = {
    "c": ctypes.c_char,
    "u": ctypes.c_wchar,
    "b": ctypes.c_byte,
    "B": ctypes.c_ubyte,
    "h": ctypes.c_short,
    "H": ctypes.c_ushort,
    "i": ctypes.c_int,
    "I": ctypes.c_uint,
    "l": ctypes.c_long,
    "L": ctypes.c_ulong,
    "q": ctypes.c_longlong,
    "Q": ctypes.c_ulonglong,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}

# These very classes: a subclass means something of its own to ctypes, and so does another byte order.
_NATIVE_CODES: dict[type, str] = {
    **{kind: code for code, kind in typecode_to_type.items() if code != "u"},
    ctypes.c_bool: "?",
}


# --- memory ------------------------------------------------------------------------------------------


def _lay(kind: type[Any], stretch: _native.Stretch) -> Any:
    """Lay a ctypes object over memory; it keeps the memory."""
    _register(kind)
    obj = kind.from_buffer(stretch)
    obj._wrapper = stretch
    return obj


def _new(kind: type[Any]) -> Any:
    """Return a ctypes object, all zeros, over memory of this process's heap."""
    stretch = _native.Stretch.create(heap(), max(ctypes.sizeof(kind), 1))
    sharing.keep_on_fork(stretch)
    return _lay(kind, stretch)


def RawValue(typecode_or_type: str | type[Any], *args: Any) -> Any:
    """Return a ctypes object in shared memory, without a lock.

    Args:
        typecode_or_type: a ctypes type, or a type code as the `array` module has them ("c" is a char).
        args: what the type's constructor takes.

    Raises:
        TypeError: that is no ctypes type, or not what it is made of.
        MemoryError: no room.
    """
    obj = _new(_type_of(typecode_or_type))
    obj.__init__(*args)
    return obj


def RawArray(typecode_or_type: str | type[Any], size_or_initializer: Any) -> Any:
    """Return a ctypes array in shared memory, without a lock.

    Args:
        typecode_or_type: of the items, as for `RawValue`.
        size_or_initializer: how many items, all zero; or a sequence of them.

    Raises:
        TypeError: not a ctypes type, or items it is not made of.
        ValueError: a negative size.
        MemoryError: no room.
    """
    kind = _type_of(typecode_or_type)
    if hasattr(type(size_or_initializer), "__index__"):
        return _new(kind * operator.index(size_or_initializer))
    array = _new(kind * len(size_or_initializer))
    array.__init__(*size_or_initializer)
    return array


def copy(obj: Any) -> Any:
    """Return a copy of a ctypes object, in shared memory, without a lock."""
    made = _new(type(obj))
    ctypes.pointer(made)[0] = obj
    return made


def _type_of(typecode_or_type: Any) -> type[Any]:
    if isinstance(typecode_or_type, str):
        return typecode_to_type.get(typecode_or_type, typecode_or_type)  # type: ignore[arg-type]
    return typecode_or_type  # type: ignore[no-any-return]


# --- sending -----------------------------------------------------------------------------------------


def _describe(kind: Any) -> Any:
    """Return what stands for a type in a pickle: arrays have no name to be found by."""
    item: Any = getattr(kind, "_type_", None)
    # Not a subclass of an array type: that one has a name.
    if issubclass(kind, ctypes.Array) and item is not None and item * kind._length_ is kind:
        return _describe(item), kind._length_
    return kind


def _type_described(description: Any) -> type[Any]:
    if isinstance(description, tuple):
        return _type_described(description[0]) * description[1]  # type: ignore[no-any-return]
    return description  # type: ignore[no-any-return]


def _arrived(description: Any, where: tuple[Any, int]) -> Any:
    """Find, in a child, the object that its parent was given or has made."""
    found, ref = sharing.arrive(where)
    return _lay(_type_described(description), _native.Stretch.attach(found, ref))


def reduce_stretch(stretch: _native.Stretch) -> tuple[Any, ...]:
    """Send the memory alone, during a launch, for the standard library's reducer of ctypes objects.

    That is asked about objects of ours too, once it has made one of the type.
    """
    if not sharing.is_launching():
        sharing.refuse(stretch)
    return _stretch_arrived, sharing.depart(stretch.heap, stretch.ref, stretch)


def _stretch_arrived(descriptor: Any, ref: int) -> _native.Stretch:
    found, ref = sharing.arrive((descriptor, ref))
    return _native.Stretch.attach(found, ref)


_SENDERS = frozenset({"corral._codec._pickler", "multiprocessing.reduction"})


def _reduce(obj: Any) -> Any:
    """Send a ctypes object, during a launch, as it is in shared memory; else copy what it holds."""
    stretch = getattr(obj, "_wrapper", None)
    if stretch is None:
        return obj.__reduce_ex__(2)
    if not sharing.is_launching():
        # From C the nearest frame is the pickler's user: whoever sends to a process gets no silent copy.
        if sys._getframe(1).f_globals.get("__name__") in _SENDERS:
            sharing.refuse(obj)
        build, (kind, (attributes, content)) = obj.__reduce_ex__(2)
        return build, (kind, ({**attributes, "_wrapper": None}, content))
    return _arrived, (_describe(type(obj)), sharing.depart(stretch.heap, stretch.ref, obj))


def _register(kind: type[Any]) -> None:
    """Have every pickler ask us about objects of this type."""
    if kind not in copyreg.dispatch_table:
        copyreg.pickle(kind, _reduce)


# --- under a lock ------------------------------------------------------------------------------------


def Value(typecode_or_type: str | type[Any], *args: Any, lock: Any = True, ctx: Any = None) -> Any:
    """Return a ctypes object in shared memory, with a lock around every access.

    Args:
        typecode_or_type: as for `RawValue`.
        args: what the type's constructor takes.
        lock: True makes an `RLock`; a lock of one's own; False is `RawValue`.
        ctx: the context that makes the lock.

    Raises:
        AttributeError: what was given as a lock has no method `acquire`.
        TypeError: not a ctypes type, or not what it is made of.
    """
    return _locked(RawValue(typecode_or_type, *args), lock, ctx)


def Array(
    typecode_or_type: str | type[Any], size_or_initializer: Any, *, lock: Any = True, ctx: Any = None
) -> Any:
    """Return a ctypes array in shared memory, with a lock around every access.

    Args:
        typecode_or_type: of the items, as for `RawValue`.
        size_or_initializer: as for `RawArray`.
        lock: as for `Value`.
        ctx: the context that makes the lock.

    Raises:
        AttributeError: what was given as a lock has no method `acquire`.
        TypeError: not a ctypes type, or items it is not made of.
    """
    return _locked(RawArray(typecode_or_type, size_or_initializer), lock, ctx)


def _locked(obj: Any, lock: Any, ctx: Any) -> Any:
    if lock is False:
        return obj
    if lock is True:
        lock = None
    elif lock is not None and not hasattr(lock, "acquire"):
        raise AttributeError(f"{lock!r} has no method 'acquire'")
    return synchronized(obj, lock, ctx)


def synchronized(obj: Any, lock: Any = None, ctx: Any = None) -> SynchronizedBase:
    """Return a wrapper of a ctypes object, in shared memory or not, that takes a lock around every access.

    Args:
        obj: the object; what has fields gets a wrapper that has them.
        lock: None makes an `RLock`.
        ctx: the context that makes the lock.
    """
    assert not isinstance(obj, SynchronizedBase), "object already synchronized"
    kind: type[SynchronizedBase]
    if isinstance(obj, ctypes._SimpleCData):
        kind = Synchronized
    elif isinstance(obj, ctypes.Array):
        kind = SynchronizedString if obj._type_ is ctypes.c_char else SynchronizedArray
    else:
        kind = _class_for(type(obj))
    return kind(obj, lock, ctx)


class SynchronizedBase(_native.Guarded):
    """A ctypes object with a lock. Given to processes that are being started, and pickled at no other time.

    A context manager: `with value:` holds the lock.
    """

    def __new__(cls, obj: Any, lock: Any = None, ctx: Any = None) -> SynchronizedBase:  # noqa: PYI034
        return super().__new__(cls, obj, lock or _new_lock(ctx))

    def __reduce__(self) -> tuple[Any, ...]:
        if not sharing.is_launching():
            sharing.refuse(self)
        return synchronized, (self._obj, self._lock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} wrapper for {self._obj}>"


class Synchronized(_native.Cell, SynchronizedBase):
    """A number, or another simple ctypes object, with a lock.

    Attributes:
        value: read and written under the lock.
    """

    def __new__(cls, obj: Any, lock: Any = None, ctx: Any = None) -> Synchronized:  # noqa: PYI034
        code = _NATIVE_CODES.get(type(obj), "")
        return _native.Cell.__new__(cls, obj, lock or _new_lock(ctx), code)


class SynchronizedArray(_native.Cells, SynchronizedBase):
    """A ctypes array with a lock; each access by index or slice is one under the lock."""

    def __new__(cls, obj: Any, lock: Any = None, ctx: Any = None) -> SynchronizedArray:  # noqa: PYI034
        code = _NATIVE_CODES.get(obj._type_, "")
        return _native.Cells.__new__(cls, obj, lock or _new_lock(ctx), code)


def _new_lock(ctx: Any) -> Any:
    if ctx is None:
        from corral.context import get_context

        ctx = get_context()
    return ctx.RLock()


def _field(name: str) -> property:
    """Return a property that reads and writes an attribute of the object under the lock."""

    def get(self: SynchronizedBase) -> Any:
        self.acquire()
        try:
            return getattr(self._obj, name)
        finally:
            self.release()

    def put(self: SynchronizedBase, value: Any) -> None:
        self.acquire()
        try:
            setattr(self._obj, name, value)
        finally:
            self.release()

    return property(get, put)


class SynchronizedString(SynchronizedArray):
    """An array of chars with a lock.

    Attributes:
        value: the bytes up to the first that is zero.
        raw: all the bytes.
    """

    value = _field("value")
    raw = _field("raw")


_classes: weakref.WeakKeyDictionary[type[Any], type[SynchronizedBase]] = weakref.WeakKeyDictionary()


def _class_for(kind: type[Any]) -> type[SynchronizedBase]:
    """Return the wrapper for structures, or unions, of a type: it has their fields."""
    found = _classes.get(kind)
    if found is None:
        fields = {
            field[0]: _field(field[0])
            for base in reversed(kind.__mro__)
            for field in base.__dict__.get("_fields_", ())
        }
        found = _classes[kind] = type(f"Synchronized{kind.__name__}", (SynchronizedBase,), fields)
    return found
