"""Exceptions on their way back: class, arguments, attributes, causes, notes, and the traceback as text.

An exception travels as a list of nodes, itself first, each twice: as its own pickle says, and as class,
arguments and attributes, for those whose constructor does not take what it is given back.
Role in the flow: the worker encodes what a task raised, the parent decodes it into its future.
Runs in: worker and parent, any thread.
Failure: neither way ever fails; what cannot be sent or rebuilt is described instead.
"""

from __future__ import annotations

from _pickle import dumps, loads

from corral._codec import _registry as registry
from corral._codec._frames import bundle, decode, encode_reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

MAX_NODES = 100


def encode_failure(exc: BaseException, phase: str) -> bytes:
    """Encode what a task raised; `phase` says what the worker was doing: decoding, running or encoding."""
    try:
        _explain_absence(exc)
        text = format_remote(exc)
        nodes = _Nodes()
        nodes.add(exc)
        return dumps((text, phase, nodes.items), 5)
    except Exception as trouble:
        text = f"{_describe(exc)}\n(and describing it failed: {_describe(trouble)})"
        return dumps((text, phase, [{"text": _describe(exc)}]), 5)


def decode_failure(data: bytes | memoryview) -> BaseException:
    """Rebuild what a task raised; its `__cause__` is the worker's traceback.

    An explicit cause, or a context, of the original is the cause of that traceback in turn.
    """
    from corral.errors import DecodeError, RemoteTraceback

    try:
        text, phase, nodes = loads(data)
        rebuilt = _rebuild(nodes)
    except Exception as trouble:
        return DecodeError(f"a task failed, and its exception cannot be rebuilt: {_describe(trouble)}")
    exc = rebuilt[0]
    if phase == "decoding" and not isinstance(exc, DecodeError):  # such as SystemExit
        exc = DecodeError(f"cannot rebuild what arrived: {_describe(exc)}")
    remote = RemoteTraceback(text)
    remote.__cause__ = exc.__cause__
    if phase != "running":
        exc.add_note(f"(while {phase})")
    exc.__cause__ = remote
    return exc


def format_remote(exc: BaseException) -> str:
    """The traceback as text, without the frames of corral that called the task."""
    import linecache
    import traceback

    for filename, lines in registry.sources.items():
        linecache.cache.setdefault(filename, (sum(map(len, lines)), None, lines, filename))
    return "".join(traceback.format_exception(type(exc), exc, _task_frames(exc.__traceback__)))


def _task_frames(tb: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins with the task's own frames; all of it where there are none."""
    own = tb
    while own is not None:
        if not str(own.tb_frame.f_globals.get("__name__", "")).startswith("corral."):
            return own
        own = own.tb_next
    return tb


def _explain_absence(exc: BaseException) -> None:
    """Say why a global or a class's attribute is not there, if it could not be sent."""
    if isinstance(exc, NameError) and exc.name in registry.absent:
        reason = registry.absent[exc.name]
        exc.add_note(f"The global {exc.name!r} of __main__ did not come along to this worker: {reason}")
    elif isinstance(exc, AttributeError) and exc.name is not None:
        cls = exc.obj if isinstance(exc.obj, type) else type(exc.obj)
        for each in cls.__mro__:
            reason = registry.absent.get(f"{each.__qualname__}.{exc.name}", "")
            if reason:
                exc.add_note(
                    f"The attribute {exc.name!r} of {each.__qualname__} did not come along: {reason}"
                )


def _describe(exc: BaseException) -> str:
    cls = type(exc)
    name = (
        cls.__qualname__
        if cls.__module__ in {"builtins", "__main__"}
        else f"{cls.__module__}.{cls.__qualname__}"
    )
    try:
        text = str(exc)
    except Exception:
        text = "(its __str__ fails)"
    return f"{name}: {text}" if text else name


class _Nodes:
    """Takes an exception and all that hangs on it apart."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._places: dict[int, int] = {}

    def add(self, exc: BaseException | None) -> int | None:
        """Take one exception in; returns its place."""
        if exc is None or (len(self.items) >= MAX_NODES and id(exc) not in self._places):
            return None
        if id(exc) in self._places:
            return self._places[id(exc)]
        place = self._places[id(exc)] = len(self.items)
        node: dict[str, Any] = {"text": _describe(exc), "notes": list(getattr(exc, "__notes__", ()))}
        self.items.append(node)
        if isinstance(exc, BaseExceptionGroup):
            node["group"] = self._group(exc)
        else:
            self._pickles(exc, node)
        node["cause"] = self.add(exc.__cause__)
        node["context"] = self.add(exc.__context__)
        node["suppress"] = exc.__suppress_context__
        return place

    def _group(self, exc: BaseExceptionGroup[Any]) -> tuple[bytes | None, str, list[int | None]]:
        try:
            cls = _whole(type(exc))
        except Exception:
            cls = None
        return cls, exc.message, [self.add(member) for member in exc.exceptions]

    def _pickles(self, exc: BaseException, node: dict[str, Any]) -> None:
        """Both ways to write an exception; only a reason where neither will do."""
        try:
            node["pickle"] = _whole(exc)
        except Exception as trouble:
            node["reason"] = _describe(trouble)
            return
        try:
            node["parts"] = _whole((type(exc), exc.args, dict(exc.__dict__)))
        except Exception:  # the pickle alone, then
            node["parts"] = None


def _whole(obj: object) -> bytes:
    """A reply in one piece."""
    payload, buffers, _ = encode_reply(obj)
    return bundle(obj) if buffers else payload


def _rebuild(nodes: list[dict[str, Any]]) -> list[BaseException]:
    rebuilt: list[BaseException | None] = [None] * len(nodes)
    for place in range(len(nodes) - 1, -1, -1):  # members come after their group
        rebuilt[place] = _rebuild_one(nodes[place], rebuilt)
    made = [exc for exc in rebuilt if exc is not None]
    for exc, node in zip(made, nodes, strict=True):
        if node.get("context") is not None:
            exc.__context__ = made[node["context"]]
        if node.get("cause") is not None:
            exc.__cause__ = made[node["cause"]]
        exc.__suppress_context__ = node.get("suppress", False)
        if node.get("notes") and getattr(exc, "__notes__", None) != node["notes"]:
            exc.__notes__ = node["notes"]
    return made


def _rebuild_one(node: dict[str, Any], rebuilt: list[BaseException | None]) -> BaseException:
    from corral.errors import DecodeError, EncodeError

    try:
        if "group" in node:
            return _rebuild_group(node["group"], rebuilt)
        if "pickle" not in node:
            reason = node.get("reason", "")
            return EncodeError(f"the task raised an exception that cannot be sent: {node['text']} ({reason})")
        try:
            exc = decode(node["pickle"])
        except Exception:
            if node["parts"] is None:
                raise
            exc = _assemble(*decode(node["parts"]))  # type: ignore[misc]
        if isinstance(exc, BaseException):
            return exc
        trouble: object = f"its pickle makes {type(exc).__qualname__}"
    except Exception as error:
        trouble = _describe(error.__cause__ or error)
    return DecodeError(f"the task raised an exception that cannot be rebuilt: {node['text']} ({trouble})")


def _assemble(cls: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    """An exception without its constructor, which may want other arguments than `args`."""
    exc = cls.__new__(cls, *args)
    exc.args = args
    exc.__dict__.update(attributes)
    return exc


def _rebuild_group(
    group: tuple[bytes | None, str, list[int | None]], rebuilt: list[BaseException | None]
) -> BaseException:
    data, message, places = group
    members = [exc for place in places if place is not None and (exc := rebuilt[place]) is not None]
    try:
        cls: Any = BaseExceptionGroup if data is None else decode(data)
        return cls(message, members)  # type: ignore[no-any-return]
    except Exception:
        return BaseExceptionGroup(message, members)
