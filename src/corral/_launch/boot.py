"""Be the first code of an interpreter that corral starts: find corral, then run the zygote or the child.

Role in the flow: `spawn.start_interpreter` names `main` on the command line.
Runs in: zygote and spawned child, main thread.
Failure: what goes wrong here is printed by the interpreter; the parent sees the socket closed.
"""

from __future__ import annotations

import os
import sys

from corral._launch import wire

__all__ = ["main"]


def main() -> None:
    """Run the program that the command line asks for, on the socket it names."""
    program, fd = sys.argv[1:3]
    sock = wire.socket(fileno=int(fd))
    os.set_inheritable(sock.fileno(), False)
    for stray in sys.argv[4:]:
        os.close(int(stray))
    if program == "zygote":
        from corral._launch import zygote

        zygote.main(sock)
    else:
        from corral._launch import child

        child.serve(sock)
