"""`multiprocessing.managers` on corral: objects in a server process, reached through proxies.

Borrowed on purpose: the standard library's module, run on corral's contexts, processes and connections.
Role in the flow: `corral.Manager()` starts a `SyncManager`, whose server is a process of the context's.
Runs in: any process that holds a manager or a proxy; the server in a child.
Failure: a server that is gone is a ConnectionError, EOFError or BrokenPipeError for who calls a proxy.
See: docs/decisions/0016-borrowed-modules-run-on-ours.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.managers import BaseListProxy as BaseListProxy
    from multiprocessing.managers import BaseManager as BaseManager
    from multiprocessing.managers import BaseProxy as BaseProxy
    from multiprocessing.managers import DictProxy as DictProxy
    from multiprocessing.managers import ListProxy as ListProxy
    from multiprocessing.managers import Namespace as Namespace
    from multiprocessing.managers import RemoteError as RemoteError
    from multiprocessing.managers import Server as Server
    from multiprocessing.managers import SharedMemoryManager as SharedMemoryManager
    from multiprocessing.managers import SyncManager as SyncManager
    from multiprocessing.managers import Token as Token
    from multiprocessing.managers import ValueProxy as ValueProxy
else:
    from corral._borrowed import run_as

    run_as(globals(), "managers")


def all_methods(obj: object) -> list[str]:
    """Return the names of an object's methods: what has no value yet, such as a slot, is none."""
    return [name for name in dir(obj) if callable(getattr(obj, name, None))]
