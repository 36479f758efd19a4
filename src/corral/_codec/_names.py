"""Which globals a function uses, and by which name an object is known to its module.

Role in the flow: `_pickler` asks, to know what must travel along with a function.
Runs in: any process that sends.
"""

from __future__ import annotations

import sys
from types import CodeType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_OPERATIONS = ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
_shifts: dict[int, int] = {}  # opcode -> how far its argument is shifted left of the name's index
_extended = 0


def _learn_opcodes() -> None:
    """Look the opcodes up in `opcode`: `dis` would cost a millisecond more."""
    global _extended  # noqa: PLW0603 - a constant of the interpreter, looked up late
    from opcode import EXTENDED_ARG, opmap

    _extended = EXTENDED_ARG
    for name in _OPERATIONS:
        if name in opmap:
            _shifts[opmap[name]] = 1 if name == "LOAD_GLOBAL" else 0


def nested_code(code: CodeType) -> Iterator[CodeType]:
    """A code object and all that are defined inside it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from nested_code(const)


def global_names(code: CodeType) -> set[str]:
    """The names that a function and what is defined inside it look up outside of it.

    Attribute names, which `co_names` holds too, are not among them: a global that happens to be called as
    an attribute is must not be sent along.
    """
    if not _shifts:
        _learn_opcodes()
    found = set()
    for each in nested_code(code):
        names = each.co_names
        argument = 0
        raw = each.co_code
        for at in range(0, len(raw), 2):
            operation = raw[at]
            argument |= raw[at + 1]
            if operation == _extended:
                argument <<= 8
                continue
            if operation in _shifts:
                found.add(names[argument >> _shifts[operation]])
            argument = 0
    return found


def submodules(values: Iterable[object], code: CodeType) -> list[str]:
    """The loaded submodules that a function reaches through the packages among `values`.

    `import a.b` binds only `a`; a function that says `a.b.c` needs `a.b` imported as well.
    """
    packages = [v.__name__ for v in values if isinstance(v, ModuleType) and hasattr(v, "__path__")]
    if not packages:
        return []
    found = []
    attributes = {name for each in nested_code(code) for name in each.co_names}
    while packages:
        package = packages.pop()
        for attribute in attributes:
            name = f"{package}.{attribute}"
            if sys.modules.get(name) is not None:
                found.append(name)
                packages.append(name)
    return found


def unfiled_source(filename: str) -> tuple[str, list[str]] | None:
    """The source of a notebook's cell, which is in no file, so that a worker's traceback can show it."""
    linecache = sys.modules.get("linecache")
    entry = linecache.cache.get(filename) if linecache is not None else None
    if entry is None or len(entry) < 4 or entry[1] is not None:  # noqa: PLR2004 - not read yet, or read from a file
        return None
    return filename, entry[2]


def look_up(space: dict[str, Any], path: str) -> tuple[object, object]:
    """What a dotted path leads to in a namespace, and its first step; (None, None) where it leads nowhere."""
    first, _, rest = path.partition(".")
    top = obj = space.get(first)
    if rest:
        for part in rest.split("."):
            if part == "<locals>" or not isinstance(obj, type):
                return None, None
            obj = getattr(obj, part, None)
    return obj, top


def importable_module(name: str) -> ModuleType | None:
    """A loaded module that another process can import: not one that was made at run time."""
    module = sys.modules.get(name)
    if module is None or (getattr(module, "__spec__", None) is None and not hasattr(module, "__file__")):
        return None
    return module


def is_importable(obj: Any, name: str) -> bool:
    """Whether another process finds this very object by its module and name."""
    module_name = getattr(obj, "__module__", None)
    if module_name is None or module_name in {"__main__", "__mp_main__"}:
        return False
    module = importable_module(module_name)
    if module is None:
        return False
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is obj
