"""`multiprocessing.dummy.connection` on corral: pipes and listeners between threads.

Borrowed on purpose: the standard library's module.
See: docs/decisions/0016-borrowed-modules-run-on-ours.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing.dummy.connection import Client as Client
    from multiprocessing.dummy.connection import Connection as Connection
    from multiprocessing.dummy.connection import Listener as Listener
    from multiprocessing.dummy.connection import Pipe as Pipe
else:
    from corral._borrowed import run_as

    run_as(globals(), "dummy.connection")
