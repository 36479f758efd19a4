"""Tell the standard library's modules, in a launched process, which process this is.

`multiprocessing` keeps a process object of its own, `logging` asks it for a name. Neither is imported for
that: what is loaded is told at once, what is loaded later is told then.

Role in the flow: `kin` calls `introduce` in every child, and meets `multiprocessing` where that comes later.
Runs in: any process, any thread that imports.
Invariants:
    INV-NEXT-1: nothing of the standard library is imported here for its own sake.
    INV-NEXT-2: a module served under another's name (`corral run`) isn't taken for the original.
Failure: a module that cannot be found is none of this one's business; the import says so.
"""

from __future__ import annotations

import atexit
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = [
    "executed",
    "introduce",
    "loaded",
    "share_tracker",
    "tell_process",
    "tracker_fd",
    "when_loaded",
]

_ORDINARY = type(sys)
_waiting: dict[str, list[Callable[[Any], object]]] = {}


def loaded(name: str) -> Any:
    """Return the standard library's module of that name if it is loaded, else None."""
    alias = sys.modules.get("corral._alias")
    if alias is not None and (found := alias.loaded(name)) is not None:
        return found
    module = sys.modules.get(name)
    # Itself, not what `corral run` has in its place. (To ask every module for an attribute it lacks is slow.)
    return module if type(module) is _ORDINARY else getattr(module, "__corral_real__", module)


def when_loaded(name: str, call: Callable[[Any], object]) -> None:
    """Call `call` with the standard library's module of that name: now, or as soon as it has been loaded."""
    module = loaded(name)
    if module is not None:
        call(module)
        return
    calls = _waiting.setdefault(name, [])
    if call not in calls:
        calls.append(call)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def executed(name: str, module: ModuleType) -> None:
    """Call those who wait for the module, which has just been loaded."""
    for call in _waiting.pop(name, ()):
        call(module)


class _Finder:
    """Finds nothing itself: it sees that a module somebody waits for is about to be loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Have the callers told once the module, which another finder finds, has been executed."""
        if name not in _waiting:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: ModuleSpec | None = find(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    _tell_after(spec, name)
                return spec
        return None


_finder: Any = _Finder()


def _tell_after(spec: ModuleSpec, name: str) -> None:
    """Have the module's loader call those who wait after it has executed the module."""
    loader: Any = spec.loader
    execute = loader.exec_module

    def execute_and_tell(module: ModuleType) -> None:
        execute(module)
        executed(name, module)

    if isinstance(loader, type):
        # Of frozen modules, one loader for all.
        spec.loader = type(loader.__name__, (loader,), {"exec_module": staticmethod(execute_and_tell)})  # type: ignore[assignment]
        return
    try:
        loader.exec_module = execute_and_tell
    except AttributeError:
        # A loader without room for it: then nobody is told.
        return


def introduce(*, forked: bool) -> None:
    """Tell, in a child, who it is: those who are loaded now, and the others when they are."""
    when_loaded("multiprocessing.process", _introduce_process)
    when_loaded("logging", _introduce_logging)
    util = loaded("multiprocessing.util")
    if util is not None and forked:
        # What the parent had to end or to log is not the child's, as the standard library has it.
        util._finalizer_registry.clear()  # noqa: SLF001
        util._run_after_forkers()  # noqa: SLF001
        atexit.register(util._exit_function)  # noqa: SLF001


def tracker_fd() -> int | None:
    """Return the line to the standard library's resource tracker, if this process has one."""
    module = loaded("multiprocessing.resource_tracker")
    fd: int | None = None if module is None else module._resource_tracker._fd  # noqa: SLF001
    return fd


def share_tracker(fd: int) -> None:
    """Have the parent's resource tracker be this process's too, as among the standard library's processes.

    A tracker of its own would unlink at its exit the segments that it has merely opened.
    """

    def adopt(module: Any) -> None:
        module._resource_tracker._fd = fd  # noqa: SLF001

    when_loaded("multiprocessing.resource_tracker", adopt)


def tell_process() -> None:
    """Tell `multiprocessing`, if it is loaded, that this process is another object now."""
    theirs = loaded("multiprocessing.process")
    if theirs is not None:
        _introduce_process(theirs)


def _introduce_process(theirs: Any) -> None:
    """Have `multiprocessing.current_process()` and its kin be ours."""
    from itertools import count

    ours = _ours()
    theirs._current_process = ours.current_process()  # noqa: SLF001
    theirs._parent_process = ours.parent_process()  # noqa: SLF001
    theirs._children = set()  # noqa: SLF001
    theirs._process_counter = count(1)  # noqa: SLF001


def _introduce_logging(logging: Any) -> None:
    """Have log records bear this process's name, though nobody has loaded `multiprocessing`."""
    make = logging.getLogRecordFactory()

    def make_with_name(*args: Any, **kwargs: Any) -> Any:
        record = make(*args, **kwargs)
        if record.processName == "MainProcess" and "multiprocessing" not in sys.modules:
            record.processName = _ours().current_process().name
        return record

    if getattr(make, "__module__", "") != __name__:
        logging.setLogRecordFactory(make_with_name)


def _ours() -> Any:
    """Return `corral.process`, which lies above: by name, when it is needed."""
    __import__("corral.process")
    return sys.modules["corral.process"]
