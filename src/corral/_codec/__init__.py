"""Objects to frames and back: arguments, functions, buffers, failures.

    parent                                          worker
    define(fn) -> Group         -- once -->         install(number, blob) -> the function
    encode(args) -> Encoded     -- a frame -->      decode(payload, buffers) -> the arguments
    decode(...)                 <-- a frame --      encode_reply(result)
    decode_failure(data)        <-- a frame --      encode_failure(exception, phase)
    bundle(obj)                 -- anywhere -->     unbundle(data)

What can be imported travels by name. What cannot (all of `__main__`, lambdas, local functions and classes)
travels by value: functions and classes as definitions, once per worker, and a worker's `__main__` is the
mirror that they are bound in.

Role in the flow: `_engine` and `_worker` call it for tasks, `_launch`'s callers for process targets,
`_channel`'s for what is put into a queue or a connection.
Runs in: parent and worker, any thread. Receiving, and sending plain data, import next to nothing.
Invariants: INV-CODEC-KEY (`_registry`), INV-CODEC-REF (`_pickler`), INV-CODEC-FRESH and INV-CODEC-SNAPSHOT
(`_groups`), INV-CODEC-MIRROR (`_install`).
See: docs/explanation/main-mirror.md.
"""

from __future__ import annotations

from corral._codec._frames import Encoded as Encoded
from corral._codec._frames import bundle as bundle
from corral._codec._frames import decode as decode
from corral._codec._frames import encode as encode
from corral._codec._frames import encode_reply as encode_reply
from corral._codec._frames import unbundle as unbundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from corral._codec._failures import decode_failure as decode_failure
    from corral._codec._failures import encode_failure as encode_failure
    from corral._codec._groups import Snapshot as Snapshot
    from corral._codec._groups import define as define
    from corral._codec._install import install as install
    from corral._codec._registry import Group as Group

__all__ = [
    "Encoded",
    "Group",
    "Snapshot",
    "bundle",
    "decode",
    "decode_failure",
    "define",
    "encode",
    "encode_failure",
    "encode_reply",
    "install",
    "unbundle",
]

_ROOMS = {
    "Group": "_registry",
    "Snapshot": "_groups",
    "decode_failure": "_failures",
    "define": "_groups",
    "encode_failure": "_failures",
    "install": "_install",
}


def __getattr__(name: str) -> object:
    """Load a name from its room and keep it: a worker needs half of them, and most programs not all."""
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=__name__)
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{room}"), name)
    globals()[name] = value
    return value
