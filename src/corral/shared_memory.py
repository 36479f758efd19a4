"""Named shared memory that any program can open: `multiprocessing.shared_memory`.

Role in the flow: users make segments here, and pass their names, or the objects, to other processes;
`_launch.segments` sees to it that none outlives the process tree that has made it.
Runs in: parent and child, any thread; other programs, corral's or not, may open the same segments.
Invariants:
    INV-SHM-1: a segment appears under its name whole, with its size; never half-made.
    INV-SHM-2: opening a segment never makes anybody responsible for it: only the tree that has created it
        unlinks it at its end, and only if it still is the one it has created.
Failure: a process killed at any instant leaves no segment that would outlive its tree, unless `track=False`.
See: docs/reference/shared_memory.md, docs/decisions/0014-named-segments-have-a-keeper.md.
"""

from __future__ import annotations

import _posixshmem  # type: ignore[import-not-found]
import errno
import mmap
import os
import sys
from functools import partial
from types import GenericAlias

from corral._codec import _listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["ShareableList", "SharedMemory"]

_FOLDER = "/dev/shm"  # noqa: S108  (where Linux has the segments)
_SHM_NAME_PREFIX = "/psm_"
_USE_POSIX = True
RANDOM_BYTES = 4
NAME_LIMIT_BYTES = 255


def _make_filename() -> str:
    """Return a name, with its slash, that is likely to be free."""
    return _SHM_NAME_PREFIX + os.urandom(RANDOM_BYTES).hex()


class SharedMemory:
    """A segment of shared memory that has a name.

    Attributes:
        buf: the segment's bytes, as a writable memoryview; None after `close`.
        name: what other processes open it by.
        size: in bytes.

    The object is this process's access to the segment; `close` ends the access, `unlink` takes the name
    away, and the memory is freed when the last process that has it open lets go. A segment that nobody has
    unlinked is unlinked when the process tree that has created it ends, be it by SIGKILL; one of
    `track=False` is not.

    Use by several threads or processes at once is not synchronised.
    """

    _mode = 0o600

    def __init__(
        self, name: str | None = None, create: bool = False, size: int = 0, *, track: bool = True
    ) -> None:
        """Create a segment, or open the one that is called `name`.

        Args:
            name: the segment's name; None has one made up, which needs `create`.
            create: create a segment rather than open one.
            size: of a new segment in bytes; without `create` it is ignored.
            track: have a new segment unlinked when this process tree ends. Of no meaning without `create`.

        Raises:
            ValueError: the size is not positive, or there is nothing to open.
            FileExistsError: a segment of this name is there already.
            FileNotFoundError: there is no segment of this name.
            OSError: no room in /dev/shm (ENOSPC), or no right to open it.

        Blocking: for a tree's first tracked segment, some tens of milliseconds, while its keeper starts.
        """
        self._name = ""
        self._mmap: mmap.mmap | None = None
        self._buf: memoryview | None = None
        self._track = track
        if size < 0:
            raise ValueError("'size' must be a positive integer")
        if create:
            if size == 0:
                raise ValueError("'size' must be a positive number different from zero")
            fd = self._create(name, size)
        elif name is None:
            raise ValueError("'name' can only be None if create=True")
        else:
            self._name = f"/{name}"
            fd = _posixshmem.shm_open(self._name, os.O_RDWR, mode=self._mode)
        try:
            self._size = os.fstat(fd).st_size
            self._mmap = mmap.mmap(fd, self._size)
        except BaseException:
            if create:
                _unlink(self._name)
            raise
        finally:
            os.close(fd)
        self._buf = memoryview(self._mmap)

    def _create(self, name: str | None, size: int) -> int:
        """Create a segment of `size` bytes, and give it the name; return its descriptor."""
        while True:
            self._name = _make_filename() if name is None else f"/{name}"
            try:
                return _create_file(self._name, size, self._mode, track=self._track)
            except FileExistsError:
                if name is not None:
                    raise

    def __reduce__(self) -> tuple[type[SharedMemory], tuple[str, bool, int]]:
        return type(self), (self.name, False, self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, size={self.size})"

    @property
    def buf(self) -> memoryview:
        """The segment's bytes; None after `close`."""
        return self._buf  # type: ignore[return-value]  # as everybody has it: closed segments are not read

    @property
    def name(self) -> str:
        """What other processes open it by."""
        return self._name[1:]

    @property
    def size(self) -> int:
        """The segment's size in bytes."""
        return self._size

    def close(self) -> None:
        """End this object's access; the segment stays.

        Views of `buf`, and arrays over it, that are still in use stay valid: the memory is unmapped with the
        last of them.
        """
        # Not `release`: an array may lie over the memory without the view knowing it (`ndarray(buffer=)`).
        self._buf = None
        self._mmap = None

    def unlink(self) -> None:
        """Take the name away: nobody can open the segment any more; its memory goes with the last access.

        Raises:
            FileNotFoundError: somebody has unlinked it already.
        """
        _unlink(self._name)


def _create_file(name: str, size: int, mode: int, *, track: bool) -> int:
    """Create a segment and return its descriptor.

    It is made without a name, which it gets when it has all else: its size, and somebody who keeps it.
    """
    if "\0" in name:
        raise ValueError("embedded null character")
    _check_room(size)
    path = f"{_FOLDER}/{name.lstrip('/')}"
    fd = _open_nameless(path, mode)
    named = fd < 0
    if named:
        # Not a name, and the system says so best; or it cannot: then a kill in the next microseconds
        # leaves an empty segment.
        fd = _posixshmem.shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode=mode)

    def give_name() -> None:
        if not named:
            # With a `src_dir_fd`, or the link itself would be linked.
            os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)

    try:
        os.ftruncate(fd, size)
        if track:
            from corral._launch import segments

            segments.keep(os.fsencode(path), fd, give_name)
        else:
            give_name()
    except BaseException as error:
        os.close(fd)
        if named:
            _posixshmem.shm_unlink(name)
        if isinstance(error, FileExistsError):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        raise
    return fd


def _open_nameless(path: str, mode: int) -> int:
    """Open a new file that can be given the name `path`; return -1 if that cannot be."""
    name = path.removeprefix(f"{_FOLDER}/")
    if not name or "/" in name or name in {".", ".."} or len(os.fsencode(name)) > NAME_LIMIT_BYTES:
        return -1
    try:
        return os.open(_FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
    except OSError:
        return -1


def _check_room(size: int) -> None:
    """Refuse what /dev/shm has no room for: it would be a SIGBUS when it is filled."""
    try:
        found = os.statvfs(_FOLDER)
    except OSError:
        return
    room = found.f_bavail * found.f_frsize
    if found.f_blocks and size > room:
        raise OSError(errno.ENOSPC, f"no room in {_FOLDER} for a segment of {size} bytes: {room} are free")


def _unlink(name: str) -> None:
    """Take a segment's name away, and strike it off what this process keeps account of."""
    _posixshmem.shm_unlink(name)
    segments = sys.modules.get("corral._launch.segments")
    if segments is not None:
        segments.forget(os.fsencode(f"{_FOLDER}/{name.lstrip('/')}"))
    # The standard library's own account, if it has one here: objects of both worlds may open one segment. It
    # complains of names it does not know, so it is told the name first.
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    account = getattr(tracker, "_resource_tracker", None)
    if account is not None and getattr(account, "_fd", None) is not None:
        account.register(name, "shared_memory")
        account.unregister(name, "shared_memory")


class ShareableList:
    """A list of fixed length in a segment of shared memory, of numbers, truths, texts, bytes and None.

    An item may be replaced by any other that needs no more room than it was given; texts and bytes lose
    their trailing zero bytes. What one process sets the others see at once; nothing is synchronised.

    Attributes:
        shm: the segment; close and unlink it when done.
    """

    def __init__(self, sequence: Iterable[Any] | None = None, *, name: str | None = None) -> None:
        """Make a list of the items of `sequence`, or open the one that is called `name`.

        Raises:
            KeyError: an item of another type.
            struct.error: an integer of more than 64 bits.
            ValueError: the segment of this name holds no such list.
        """
        if sequence is None and name is not None:
            self.shm = SharedMemory(name)
            try:
                self._layout = _listing.read_layout(self.shm.buf)
            except BaseException:
                self.shm.close()
                raise
            return
        packed, self._layout = _listing.pack(() if sequence is None else sequence)
        self.shm = SharedMemory(name, create=True, size=len(packed))
        self.shm.buf[: len(packed)] = packed

    def __getitem__(self, position: int) -> Any:
        return self._layout.get(self.shm.buf, self._index(position, "index out of range"))

    def __setitem__(self, position: int, value: Any) -> None:
        index = self._index(position, "assignment index out of range")
        self._layout.set(self.shm.buf, index, value)

    def _index(self, position: int, message: str) -> int:
        count = self._layout.count
        index = position + count if position < 0 else position
        if not 0 <= index < count:
            raise IndexError(message)
        return index

    def __reduce__(self) -> tuple[Callable[[], ShareableList], tuple[()]]:
        return partial(type(self), name=self.shm.name), ()

    def __len__(self) -> int:
        return self._layout.count

    def __iter__(self) -> Iterator[Any]:
        for index in range(self._layout.count):
            yield self[index]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)}, name={self.shm.name!r})"

    @property
    def format(self) -> str:
        """How the items are packed, in the notation of `struct`."""
        return "".join(map(self._get_packing_format, range(len(self))))

    def _get_packing_format(self, position: int) -> str:
        index = self._index(position, "Requested position out of range.")
        return self._layout.format(self.shm.buf, index)

    def count(self, value: Any) -> int:
        """Return how many items equal `value`."""
        return sum(item == value for item in self)

    def index(self, value: Any) -> int:
        """Return the position of the first item that equals `value`.

        Raises:
            ValueError: there is none.
        """
        for position, item in enumerate(self):
            if item == value:
                return position
        raise ValueError(f"{value!r} not in this container")

    __class_getitem__: Any = classmethod(GenericAlias)
