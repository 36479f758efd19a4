"""Serve `multiprocessing`, all of it, and `concurrent.futures.process` by corral in this process.

Role in the flow: `corral run` has `install` called before the program's first line, and launch has it called
in each of its children. The names of the standard library then mean stand-in modules, which look attributes
up when asked: in corral's module of that name, and what corral does not have in the standard library's own.
Runs in: any process, any thread.
Invariants:
    INV-ALIAS-1: who asks decides. corral itself, the standard library's own modules and the engines that
        are built on private parts of it (`_INSIDERS`) get the standard library's, all others corral's: so
        a borrowed class is the one it was, and there is one of it.
    INV-ALIAS-2: the standard library's modules are executed once, under their own names, when asked for.
Failure: what neither corral nor the standard library has is the AttributeError or ImportError it always was.
See: docs/decisions/0017-run-by-startup-hook.md.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib import ModuleSpec, module_from_spec
from _frozen_importlib_external import PathFinder
from _thread import RLock
from types import ModuleType

from corral._launch import neighbour

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["default_start_method", "install", "real"]

_PACKAGE = "multiprocessing"
_EXECUTOR = "concurrent.futures.process"
_FACES = {_PACKAGE: "corral", _EXECUTOR: "corral.futures"}

_INSIDERS = ("corral", _PACKAGE, _EXECUTOR, "loky", "joblib.externals.loky")
"""Who gets the standard library's own: loky is an engine too, made of private parts of it."""
_INSIDE = tuple(f"{name}." for name in _INSIDERS)

_IMPORTER = frozenset({"__cached__", "__file__", "__loader__", "__package__", "__path__", "__spec__"})
"""What the import system sets, where it is not there yet."""

_real: dict[str, ModuleType] = {}
_half: dict[str, ModuleType] = {}
"""What is being executed: for the thread that does so, which has the lock."""
_specs: dict[str, ModuleSpec | None] = {}
_faces: dict[str, ModuleType | None] = {}
_lock = RLock()


def default_start_method() -> str:
    """Return the start method that this interpreter's own `multiprocessing` has by default."""
    return "forkserver" if sys.version_info >= (3, 14) else "fork"


def install(settings: dict[str, Any] | None = None) -> None:
    """Serve the names by corral from now on, in this process and in those that corral launches.

    Modules of the standard library that are loaded already stay what they are for who holds them.

    Args:
        settings: Plain values. "start_method" is the one to use whatever the program chooses; without it, it
            is the program's choice, or else the interpreter's default. "workers" is how many CPUs there are
            to be.
    """
    settings = settings or {}
    if not any(type(finder) is _Finder for finder in sys.meta_path):
        for name in [name for name in sys.modules if _is_aliased(name)]:
            _real[name] = sys.modules.pop(name)
        sys.meta_path.insert(0, _Finder())
        _forget_executor()
    from corral import context
    from corral._launch import cpus, surroundings

    context._set_default(default_start_method(), settings.get("start_method"))  # noqa: SLF001
    cpus.tell(settings.get("workers"))
    surroundings.carry(f"{__name__}:install", settings)


def real(name: str) -> ModuleType:
    """Return the standard library's own module of this name.

    Raises:
        ModuleNotFoundError: it has none.
    """
    found = _real.get(name)
    if found is not None:
        return found
    with _lock:
        parent = name.rpartition(".")[0]
        if _is_aliased(parent):
            # Executing the package may execute the module.
            real(parent)
        return _real.get(name) or _half.get(name) or _execute(name)


def loaded(name: str) -> ModuleType | None:
    """Return the standard library's own module of this name if `real` has loaded it."""
    return _real.get(name)


def _execute(name: str) -> ModuleType:
    """Execute a module of the standard library, outside of `sys.modules`, where its stand-in is."""
    spec = _real_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    module = module_from_spec(spec)
    _half[name] = module
    try:
        spec.loader.exec_module(module)
        _real[name] = module
    finally:
        del _half[name]
    neighbour.executed(name, module)
    parent, _, last = name.rpartition(".")
    package = _real.get(parent) or _half.get(parent)
    if package is not None:
        package.__dict__[last] = module
    return module


def _real_spec(name: str) -> ModuleSpec | None:
    """Find a module in the standard library's folder; each is looked for once."""
    if name not in _specs:
        parts = name.split(".")[:-1]
        _specs[name] = PathFinder.find_spec(name, [os.path.join(os.path.dirname(os.__file__), *parts)])
    return _specs[name]


def _is_aliased(name: str) -> bool:
    return name in _FACES or name.startswith(f"{_PACKAGE}.")


def _forget_executor() -> None:
    """Have `concurrent.futures` look its executor up again."""
    futures = sys.modules.get("concurrent.futures")
    if futures is not None:
        for name in ("ProcessPoolExecutor", "process"):
            futures.__dict__.pop(name, None)


class _Alias(ModuleType):
    """What stands in `sys.modules` for a module of the standard library.

    Its own dictionary holds nothing but what the import system puts there, so each look-up comes to
    `__getattr__`. What is set or deleted is so in the module that has the attribute.
    """

    @property
    def __corral_real__(self) -> ModuleType | None:
        """The standard library's own module, if it is loaded."""
        return _real.get(self.__name__)

    def __getattr__(self, name: str) -> Any:
        if name in _IMPORTER:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)
        if not _asked_from_inside() and not _is_dunder(name):
            submodule = _submodule(self, name)
            if submodule is not None:
                return submodule
            face = _face(self.__name__)
            if face is not None:
                try:
                    return getattr(face, name)
                except AttributeError:
                    pass
        return _real_attribute(self.__name__, name)

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, _Alias) or _is_dunder(name):
            super().__setattr__(name, value)
            return
        home = self._home(name) if not _asked_from_inside() else real(self.__name__)
        originals: dict[str, object] = self.__dict__.setdefault("__corral_originals__", {})
        if hasattr(home, name):
            originals.setdefault(name, getattr(home, name))
        setattr(home, name, value)

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__:
            super().__delattr__(name)
            return
        home = self._home(name) if not _asked_from_inside() else real(self.__name__)
        originals = self.__dict__.get("__corral_originals__", {})
        if name in originals:
            # Who deletes what was set wants back what was there before, as `mock.patch` does.
            setattr(home, name, originals.pop(name))
        else:
            delattr(home, name)

    def __dir__(self) -> list[str]:
        face = _face(self.__name__)
        return sorted({*self.__dict__, *dir(real(self.__name__)), *(dir(face) if face is not None else ())})

    def _home(self, name: str) -> ModuleType:
        """Return the module that has an attribute, or ought to."""
        face = _face(self.__name__)
        theirs = real(self.__name__)
        if face is None or (not hasattr(face, name) and hasattr(theirs, name)):
            return theirs
        return face


class _Finder:
    """Finds a stand-in for each module that is aliased and exists."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """Return the spec of a stand-in; None for what is not ours, or not there."""
        del path, target
        if not _is_aliased(name):
            return None
        found = _real_spec(name)
        if found is None:
            return None
        loader: Any = _Loader()  # a loader by its methods
        spec = ModuleSpec(name, loader, origin=found.origin)
        spec.submodule_search_locations = found.submodule_search_locations
        spec.has_location = True
        return spec


class _Loader:
    """Makes stand-ins."""

    @staticmethod
    def create_module(spec: ModuleSpec) -> ModuleType:
        """Return an empty stand-in."""
        return _Alias(spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Do nothing: what a stand-in has it looks up when asked."""


def _asked_from_inside() -> bool:
    """Tell whether the code that uses a stand-in's attribute is one that gets the standard library's."""
    name = sys._getframe(2).f_globals.get("__name__")  # noqa: SLF001
    return type(name) is str and (name in _INSIDERS or name.startswith(_INSIDE))


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _face(name: str) -> ModuleType | None:
    """Return corral's module for one of the standard library's, if there is one."""
    if name not in _faces:
        ours = _FACES.get(name) or f"corral{name.removeprefix(_PACKAGE)}"
        try:
            __import__(ours)
        except ModuleNotFoundError as error:
            if error.name != ours:
                raise
            _faces[name] = None
        else:
            _faces[name] = sys.modules[ours]
    return _faces[name]


def _real_attribute(module: str, name: str) -> Any:
    """Return an attribute of the standard library's own module; a submodule is loaded for it."""
    found = real(module)
    try:
        return getattr(found, name)
    except AttributeError:
        if not hasattr(found, "__path__") or _is_dunder(name) or _real_spec(f"{module}.{name}") is None:
            raise
    return real(f"{module}.{name}")


def _submodule(package: _Alias, name: str) -> ModuleType | None:
    """Return a package's submodule, importing it: the standard library's are there once anything was used."""
    if "__path__" not in package.__dict__:
        return None
    full = f"{package.__name__}.{name}"
    if _real_spec(full) is None:
        return None
    __import__(full)
    return sys.modules[full]


# Another thread may have held it.
os.register_at_fork(after_in_child=_lock._at_fork_reinit)  # type: ignore[attr-defined]  # noqa: SLF001
