"""Send home what a worker's tasks say: logging records, warnings and prints, for the parent to show.

Role in the flow: the worker's entry calls `begin`; from then on each thing said is a frame ahead of the
outcome of the task that said it. `corral._engine.messages` shows them in the parent.
Runs in: the worker, any thread.
Invariants:
    INV-FORWARD-1: nothing is imported that the tasks have not imported: what logging and warnings need is
        put in place when they are.
    INV-FORWARD-2: a program that sets up logging in its workers by itself gets what it has set up, and
        nothing is sent home twice.
Failure: what cannot be sent is said here, on the worker's own standard error.
"""

from __future__ import annotations

import os
import sys
from _pickle import dumps
from _thread import _local

from corral._channel import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from typing import Any, TextIO

__all__ = ["begin"]

_MAX_LINE = 1 << 16
_saying = _local()


def begin(say: Callable[[int, bytes], None], wants: Mapping[str, Any]) -> None:
    """Begin to send home what `wants` names.

    Args:
        say: sends a frame, of a kind and with a body; may be called by any thread.
        wants: the worker's "name"; "logging" with the parent's levels, "warnings" with its filters, "prints".
    """
    forwarder = _Forwarder(say, wants)
    for module, set_up in (("logging", forwarder.set_up_logging), ("warnings", forwarder.set_up_warnings)):
        if module in wants:
            _once_imported(module, set_up)
    if "prints" in wants:
        sys.stdout = _Lines(forwarder, "stdout")
        sys.stderr = _Lines(forwarder, "stderr")


class _Forwarder:
    """What turns things said into frames."""

    def __init__(self, say: Callable[[int, bytes], None], wants: Mapping[str, Any]) -> None:
        self._say = say
        self.name: str = wants["name"]
        self._wants = wants
        self._owner = os.getpid()

    def say(self, kind: int, *content: object) -> bool:
        """Send one thing home; False if it cannot be sent, or is said while another is being sent.

        A process that a task has forked has no line home: what it says is its own.
        """
        if getattr(_saying, "now", False) or os.getpid() != self._owner:
            return False
        _saying.now = True
        try:
            self._say(kind, dumps(content, 5))
        except Exception:
            return False
        finally:
            _saying.now = False
        return True

    def set_up_logging(self, module: Any) -> None:
        """Have records that no handler of this process takes go home; inherited handlers are the parent's."""
        module.lastResort = _make_handler(module, self, module.lastResort)
        loggers = [module.root, *module.root.manager.loggerDict.values()]
        for logger in loggers:
            if isinstance(logger, module.Logger):
                logger.handlers[:] = []
        for name, (level, disabled) in self._wants["logging"].items():
            logger = module.getLogger(name or None)
            logger.setLevel(level)
            logger.disabled = disabled

    def set_up_warnings(self, module: Any) -> None:
        """Have warnings that pass the parent's filters shown there."""
        filters = self._wants["warnings"]
        if filters is not None:
            module.filters[:] = filters
            module._filters_mutated() if hasattr(module, "_filters_mutated") else None  # noqa: SLF001
        here = module.showwarning

        def show(message: Any, category: Any, filename: str, lineno: int, *rest: Any, **named: Any) -> None:
            if any(rest) or any(named.values()) or not self._warn(message, category, filename, lineno):
                here(message, category, filename, lineno, *rest, **named)

        module.showwarning = show

    def _warn(self, message: Any, category: Any, filename: str, lineno: int) -> bool:
        from corral._codec import encode_reply

        try:
            payload, buffers, _ = encode_reply((message, category))
        except Exception:
            payload, buffers, _ = encode_reply((f"{category.__name__}: {message}", UserWarning))
        return not buffers and self.say(wire.WARNING, payload, filename, lineno)


def _make_handler(module: Any, forwarder: _Forwarder, fallback: Any) -> logging.Handler:
    """Make the handler of last resort, of a class that exists only where logging does."""

    class Home(module.Handler):  # type: ignore[misc]
        """Sends records home."""

        def emit(self, record: logging.LogRecord) -> None:
            sent = forwarder.say(wire.RECORD, _portable(module, record, forwarder.name))
            if not sent and fallback is not None and record.levelno >= fallback.level:
                fallback.handle(record)

    handler: logging.Handler = Home()
    return handler


def _portable(module: Any, record: logging.LogRecord, name: str) -> dict[str, Any]:
    """The record's attributes as any process can read them: text where there were objects."""
    attributes = dict(record.__dict__)
    attributes["msg"] = record.getMessage()
    attributes["args"] = None
    if record.exc_info:
        attributes["exc_text"] = record.exc_text or module.Formatter().formatException(record.exc_info)
        attributes["exc_info"] = None
    attributes["processName"] = name
    for key, value in attributes.items():
        if type(value) not in _PLAIN:
            attributes[key] = _sendable(value)
    return attributes


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _sendable(value: object) -> object:
    try:
        dumps(value, 5)
    except Exception:
        return repr(value)
    return value


class _Lines:
    """A text stream whose lines go home, whole where they can be."""

    encoding = "utf-8"
    errors = "backslashreplace"
    newlines = None
    closed = False

    def __init__(self, forwarder: _Forwarder, name: str) -> None:
        self._forwarder = forwarder
        self._stream: TextIO = getattr(sys, name)
        self._name = name
        self._begun: list[str] = []

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._begun.append(text)
        if "\n" in text or len(text) > _MAX_LINE:
            self.flush()
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        begun, self._begun = self._begun, []
        text = "".join(begun)
        if text and not self._forwarder.say(wire.PRINTED, self._name, text):
            self._stream.write(text)
            self._stream.flush()

    def isatty(self) -> bool:
        return False

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Watch:
    """Stands in the import system until a module has been imported."""

    def __init__(self, name: str, then: Callable[[Any], None]) -> None:
        self._name = name
        self._then = then

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _Loader(spec.loader, self._then)  # type: ignore[assignment]
                return spec
        return None


class _Loader:
    """Loads as another loader does, and then says so."""

    def __init__(self, loader: Any, then: Callable[[Any], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._then(module)


def _once_imported(name: str, then: Callable[[Any], None]) -> None:
    """Call `then` with the module, now or when it has been imported."""
    if name in sys.modules:
        then(sys.modules[name])
    else:
        sys.meta_path.insert(0, _Watch(name, then))
