"""The names of `multiprocessing`, and corral's own few, on corral's engine.

Role in the flow: `import corral as mp` is the whole migration. Each name is loaded from its room when it
is first used, so that importing corral costs next to nothing.
See: ARCHITECTURE.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral.errors import CorralError as CorralError

__version__ = "0.1.0"

__all__ = ["CorralError"]

# name -> the module that defines it, or "module:attribute" where the name differs there
_ROOMS = {
    "CorralError": "corral.errors",
}


def __getattr__(name: str) -> object:
    """Load a public name from its room and keep it."""
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'corral' has no attribute {name!r}", name=name, obj=__name__)
    import importlib

    module, _, attribute = room.partition(":")
    value: object = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
