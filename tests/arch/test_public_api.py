"""The public names and their signatures, against `public_api.txt`: no change goes unseen.

After a change that is meant: `make api`.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path

SNAPSHOT = Path(__file__).with_name("public_api.txt")
PACKAGE = Path(__file__).parents[2] / "src" / "corral"


# Their code is the interpreter's, and so are the signatures: only the names are ours to keep.
BORROWED = {"corral.dummy", "corral.dummy.connection", "corral.managers"}


def faces() -> list[str]:
    """Return the modules that a user may import: no part of their name is private."""
    found = {"corral"}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if not any(part.startswith("_") for part in parts if part != "__init__"):
            found.add(".".join(part for part in parts if part != "__init__"))
    return sorted(found)


def describe() -> str:
    lines = []
    for module_name in faces():
        module = importlib.import_module(module_name)
        for name in sorted(getattr(module, "__all__", ())):
            if module_name in BORROWED:
                lines.append(f"{module_name}.{name}")
                continue
            lines.extend(entries(f"{module_name}.{name}", getattr(module, name)))
    return "\n".join(lines) + "\n"


def entries(path: str, value: object) -> list[str]:
    if inspect.isclass(value):
        if f"{value.__module__}.{value.__qualname__}" != path:
            return [f"{path} = {value.__module__}.{value.__qualname__}"]
        bases = ", ".join(base.__qualname__ for base in value.__bases__)
        members = [
            line
            for name, member in sorted(vars(value).items())
            if not name.startswith("_") or name in {"__enter__", "__exit__", "__init__"}
            for line in entries(f"  .{name}", member)
        ]
        return [f"{path}: class({bases})", *members]
    if isinstance(value, property):
        return [f"{path}: property"]
    if callable(value) or isinstance(value, staticmethod | classmethod):
        return [f"{path}{signature(value)}"]
    if inspect.ismodule(value):
        return [f"{path}: module {value.__name__}"]
    return [f"{path}: {type(value).__name__}"]


def signature(value: object) -> str:
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    try:
        text = str(inspect.signature(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return "(...)"
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def test_the_public_api_is_the_one_written_down() -> None:
    assert describe() == SNAPSHOT.read_text(), "the public API changed; if it is meant: make api"


def test_every_public_name_can_be_had() -> None:
    import corral

    assert [name for name in corral.__all__ if not hasattr(corral, name)] == []
    assert set(corral.__all__) <= set(dir(corral))


if __name__ == "__main__":
    SNAPSHOT.write_text(describe())
    sys.stdout.write(f"wrote {SNAPSHOT.name}\n")
