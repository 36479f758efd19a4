"""What exactly could not be pickled: the path from what was sent to the object that refuses.

Role in the flow: only after a pickle has failed; it may take its time.
Runs in: any process that sends.
"""

from __future__ import annotations

from functools import partial
from types import FunctionType, MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from corral.errors import EncodeError

MAX_DEPTH = 12
MAX_CHILDREN = 1000


class explained:  # noqa: N801 - reads as a word of the with statement
    """Turns what a pickle fails with into an EncodeError that names the culprit."""

    __slots__ = ("obj", "what")

    def __init__(self, obj: object, what: str = "") -> None:
        self.obj = obj
        self.what = what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, _: TracebackType | None
    ) -> None:
        from corral.errors import EncodeError

        if isinstance(exc, Exception) and not isinstance(exc, EncodeError):
            made = _error_like(type(exc), blame(self.obj, exc, self.what))
            made.exc = f"{type(exc).__name__}: {exc}"
            made.value = _describe(self.obj)
            raise made from exc


def _error_like(kind: type[Exception], message: str) -> EncodeError:
    """Make an EncodeError that is also caught by whom the original exception would be."""
    from corral.errors import EncodeError

    if issubclass(EncodeError, kind):
        return EncodeError(message)
    try:
        cls: type[EncodeError] = type(
            EncodeError.__name__,
            (EncodeError, kind),
            {
                "__doc__": EncodeError.__doc__,
                "__module__": EncodeError.__module__,
                "__reduce__": lambda self: (_error_like, (kind, message), self.__dict__),
            },
        )
        return cls(message)
    except Exception:  # two classes that don't mix
        return EncodeError(message)


def blame(obj: object, exc: Exception, what: str = "") -> str:
    """Say what cannot be sent, and where it is."""
    path, culprit, reason = what, obj, exc
    if not path:
        path, culprit, reason = _entrance(obj, exc)
    for _ in range(MAX_DEPTH):
        found = _refusing(culprit)
        if found is None:
            break
        step, culprit, reason = found
        path += step
    if path.endswith(" "):
        path = f"{path.rstrip()}s"  # all of them, as far as we can tell
    text = f"{type(reason).__name__}: {reason}" if not isinstance(reason, TypeError) else str(reason)
    return f"cannot send {path}, {_describe(culprit)}: {text}"


def _entrance(obj: object, exc: Exception) -> tuple[str, object, Exception]:
    """Where to begin: a payload is a call's arguments, with keywords or without, or a list of items."""
    match obj:
        case (tuple() as args, dict() as keywords):
            found = _refusing(keywords)
            if found is not None and found[0].startswith("["):
                return f"the argument {found[0][1:-1]}", found[1], found[2]
            return "the argument ", args, exc
        case tuple():
            return "the argument ", obj, exc
        case list():
            return "the item ", obj, exc
    return "an object", obj, exc


def _describe(obj: object) -> str:
    if isinstance(obj, FunctionType):
        return f"the function {obj.__module__}.{obj.__qualname__}"
    if isinstance(obj, type):
        return f"the class {obj.__module__}.{obj.__qualname__}"
    kind = type(obj)
    return f"an instance of {kind.__module__}.{kind.__qualname__}".replace(" builtins.", " ")


def _refusing(obj: object) -> tuple[str, object, Exception] | None:
    """The first part of an object that refuses by itself."""
    from corral._codec._definitions import refusal

    for count, (step, part) in enumerate(_parts(obj)):
        if count >= MAX_CHILDREN:
            break
        reason = refusal(part)
        if reason is not None:
            return step, part, reason
    return None


def _parts(obj: object) -> Iterator[tuple[str, object]]:
    """What an object consists of, with how one gets there."""
    if isinstance(obj, (tuple, list)):
        for index, item in enumerate(obj):
            yield f"[{index}]", item
    elif isinstance(obj, (set, frozenset)):
        for item in obj:
            yield "{...}", item
    elif isinstance(obj, dict):
        for key, value in obj.items():
            yield f"[{key!r:.40}]", value
            yield f" key {key!r:.40}", key
    elif isinstance(obj, partial):
        yield ".func", obj.func
        yield ".args", obj.args
        yield ".keywords", obj.keywords
    elif isinstance(obj, MethodType):
        yield ".__self__", obj.__self__
    elif isinstance(obj, FunctionType):
        yield from _parts_of_function(obj)
    else:
        yield from _attributes(obj)


def _parts_of_function(obj: FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(obj.__code__.co_freevars, obj.__closure__ or (), strict=True):
        try:
            yield f" variable {name!r}", cell.cell_contents
        except ValueError:  # not set yet
            continue
    yield ".__defaults__", obj.__defaults__
    yield ".__kwdefaults__", obj.__kwdefaults__
    yield ".__dict__", obj.__dict__


def _attributes(obj: object) -> Iterator[tuple[str, object]]:
    attributes = getattr(obj, "__dict__", None) or {}
    for name, value in attributes.items():
        yield f".{name}", value
    for cls in type(obj).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(obj, name):
                yield f".{name}", getattr(obj, name)
    if isinstance(obj, BaseException):
        yield ".args", obj.args
