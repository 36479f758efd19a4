"""The first thing that every interpreter of the stage does: serve `multiprocessing` by corral.

Read by a `.pth` file: nothing here may cost much, or go wrong.
"""

from __future__ import annotations

import os

DUMP_SIGNAL = 64  # SIGRTMAX: no test uses it
MARK = "CORRAL_COMPAT_MARK"
SUBJECT = "CORRAL_COMPAT_SUBJECT"


def start() -> None:
    """Serve corral, unless the standard library itself is the subject; show all stacks when asked to."""
    import faulthandler

    faulthandler.register(DUMP_SIGNAL, file=2, all_threads=True)
    if os.environ.get(SUBJECT) == "stdlib":
        return
    from corral import _alias

    _alias.install()


if __name__ == "boot":
    start()
