"""Run a module of the standard library's `multiprocessing` as one of corral's own.

Its relative imports then find corral's modules: managers run on our contexts, processes and connections
without a line of theirs copied or patched.

Role in the flow: a face whose contents are borrowed on purpose calls `run_as`; which may is listed, with
reasons, in tests/arch/test_confinement.py.
Runs in: any process, once per face.
Failure: an interpreter without the module raises ImportError, as importing it would.
See: docs/decisions/0016-borrowed-modules-run-on-ours.md.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

__all__ = ["run_as"]


def run_as(namespace: dict[str, Any], module: str) -> None:
    """Run the standard library's `multiprocessing.<module>` in the namespace of the face that calls.

    Args:
        namespace: the face's `globals()`; its `__name__` and `__package__` become the module's.
        module: the module's name below `multiprocessing`, such as "managers".

    Raises:
        ImportError: this interpreter has no such module.
    """
    doc = namespace.get("__doc__")
    exec(_code_of(module), namespace)  # noqa: S102  (the interpreter's own code, as an import would run it)
    namespace["__doc__"] = doc


def _code_of(module: str) -> CodeType:
    """Find the module's code in the standard library's folder, without importing the package around it."""
    from importlib.machinery import PathFinder

    where = [os.path.dirname(os.__file__)]
    name = ""
    for part in ("multiprocessing", *module.split(".")):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, where)
        where = list((spec and spec.submodule_search_locations) or ())
    loader: Any = spec.loader if spec is not None else None
    code: CodeType | None = loader.get_code(name) if hasattr(loader, "get_code") else None
    if code is None:
        raise ImportError(f"this interpreter has no {name}", name=name)
    return code
