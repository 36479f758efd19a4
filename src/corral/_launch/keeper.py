"""Be the keeper: a process that unlinks a tree's named memory segments when the tree has ended.

Role in the flow: `segments` starts this file as a program of its own, and tells it what to keep.
Runs in: the keeper, one thread only.
Invariants:
    INV-KEEP-1: a segment is unlinked only if its name still means the file that was told.
    INV-KEEP-2: what is acknowledged is kept; whoever gets no acknowledgement has to ask another keeper.
    INV-KEEP-3: it ends when the root has (its pidfd), or has said goodbye, and nobody has a line to it.
Failure: however the tree ends, all that is kept is unlinked. If the keeper itself is killed, the root unlinks
what it has made, at its exit.
See: docs/decisions/0014-named-segments-have-a-keeper.md.

Only built-in modules are imported, and nothing of corral: it has to start fast and stay small.
"""

from __future__ import annotations

import os
import resource
import select
import sys
from _socket import SO_PEERCRED, SOL_SOCKET, socket

__all__ = ["GOODBYE", "MESSAGE_BYTES", "main", "unlink_if_same"]

GOODBYE = b"!"
KEPT = b"k"
MESSAGE_BYTES = 8192
PRUNE_ABOVE = 1024

TYPE_CHECKING = False
if TYPE_CHECKING:
    Segment = tuple[bytes, int, int]  # path, device and inode


def unlink_if_same(segment: Segment) -> None:
    """Unlink a segment if it is still the one that was meant."""
    if is_same(segment):
        try:
            os.unlink(segment[0])
        except OSError:
            return


def is_same(segment: Segment) -> bool:
    """Tell whether a path still leads to the segment that was meant."""
    path, device, inode = segment
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (device, inode)


class _Keeper:
    """What is kept, and who may say so: processes of the same user."""

    def __init__(self, server: socket, root_fd: int) -> None:
        self.server = server
        self.root_fd = root_fd
        self.kept: set[Segment] = set()
        self.prune_above = PRUNE_ABOVE
        self.root_gone = False
        self.lines: dict[int, socket] = {}
        # What a line has told last may still be about to get its name.
        self.latest: dict[int, Segment] = {}
        self.poller = select.poll()
        for fd in (server.fileno(), root_fd):
            self.poller.register(fd, select.POLLIN)

    def serve(self) -> None:
        """Keep what is told until the tree has ended, then unlink it.

        Nobody who has a line to us may be alive then: he may be about to give a segment its name.
        """
        while self.lines or not self.root_gone:
            for fd, _ in self.poller.poll():
                if fd == self.root_fd:
                    self.poller.unregister(fd)
                    self.root_gone = True
                elif fd == self.server.fileno():
                    self.accept()
                else:
                    self.attend(fd)
        self.sweep()

    def attend(self, fd: int) -> None:
        """Take one message, or the end, of a line."""
        line = self.lines[fd]
        try:
            message = line.recv(MESSAGE_BYTES)
            if message == GOODBYE:
                self.root_gone = True
                if len(self.lines) == 1:
                    self.sweep()
                    line.send(GOODBYE)
            elif message:
                self.keep(fd, message)
                line.send(KEPT)
                return
        except (OSError, ValueError):
            # Gone, without an acknowledgement or in no need of one; or not one of ours.
            pass
        self.poller.unregister(fd)
        del self.lines[fd]
        self.latest.pop(fd, None)
        line.close()

    def sweep(self) -> None:
        """Unlink all that is kept."""
        while self.kept:
            unlink_if_same(self.kept.pop())

    def accept(self) -> None:
        """Take a new line, if it is from a process of this user."""
        fd, _ = self.server._accept()  # type: ignore[attr-defined]  # noqa: SLF001  (`socket` would cost an import)
        line = socket(fileno=fd)
        peer = line.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
        if int.from_bytes(peer[4:8], sys.byteorder) != os.getuid():
            line.close()
            return
        # Nobody may keep us waiting: an acknowledgement that finds no room goes to one who does not read it.
        line.setblocking(False)
        self.lines[fd] = line
        self.poller.register(fd, select.POLLIN)

    def keep(self, fd: int, message: bytes) -> None:
        """Keep the segment that a message tells: device, inode, path."""
        device, inode, path = message.split(b" ", 2)
        segment = (path, int(device), int(inode))
        self.kept.add(segment)
        self.latest[fd] = segment
        if len(self.kept) > self.prune_above:
            unborn = set(self.latest.values())
            self.kept = {segment for segment in self.kept if segment in unborn or is_same(segment)}
            self.prune_above = max(PRUNE_ABOVE, 2 * len(self.kept))


def main(server_fd: int, root_fd: int) -> None:
    """Keep segments until the process behind pidfd `root_fd` has ended or takes leave."""
    os.chdir("/")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _Keeper(socket(fileno=server_fd), root_fd).serve()


if __name__ == "__main__":
    for stray in sys.argv[3:]:
        os.close(int(stray))
    main(int(sys.argv[1]), int(sys.argv[2]))
