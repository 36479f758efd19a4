"""Start a fresh interpreter: the command line, the descriptors it may see, and the launch request.

Role in the flow: `launch` for method "spawn"; `forkserver` starts its zygote with it.
Runs in: parent, any thread.
Invariants:
    INV-SPAWN-1: a started interpreter's programs see descriptors 0, 1, 2 and its socket, nothing else.
    INV-SPAWN-2: its standard input is /dev/null.
Failure: no interpreter to be found or no room for a process: `OSError`.
"""

from __future__ import annotations

import marshal
import os
import sys

from corral._launch import neighbour, surroundings, tree, wire
from corral._launch.ending import OwnChild

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence
    from typing import Any
else:
    # The built-in part alone: `signal` brings `enum` along, which costs a child more than its work.
    import _signal

__all__ = ["inheritable_fds", "launch_spawn", "send_request", "set_executable", "start_interpreter"]

_BOOT = (
    "import sys;sys.path[0]==''and sys.path.pop(0);"
    "sys.argv[3]in sys.path or sys.path.append(sys.argv[3]);"
    "from corral._launch.boot import main;main()"
)

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_executable: str | None = None


def set_executable(path: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None) -> None:
    """Use another interpreter than `sys.executable` for processes started from now on."""
    global _executable  # noqa: PLW0603  (the stdlib's setting is process-wide too)
    _executable = None if path is None else os.fsdecode(path)


def get_executable() -> str:
    """Return the interpreter that processes are started with."""
    found = _executable or sys.executable
    if not found:
        msg = "sys.executable is empty: name the Python interpreter with corral.set_executable()"
        raise RuntimeError(msg)
    return found


def interpreter_flags() -> list[str]:
    """Return the command line options which make an interpreter behave as this one."""
    flags = sys.flags
    options = [letter * int(getattr(flags, flag)) for flag, letter in _LETTERS if getattr(flags, flag)]
    if flags.isolated:
        # -I brings -E, -s and -P along.
        options = [option for option in options if option not in {"E", "s", "P"}] + ["I"]
    words = [f"-{option}" for option in options]
    words += [f"-W{option}" for option in sys.warnoptions if not _is_implied_warning(option)]
    for name, value in sys._xoptions.items():  # noqa: SLF001  (documented, for all its underscore)
        words += ["-X", name if value is True else f"{name}={value}"]
    return words


_LETTERS = (
    ("debug", "d"),
    ("optimize", "O"),
    ("dont_write_bytecode", "B"),
    ("no_user_site", "s"),
    ("no_site", "S"),
    ("ignore_environment", "E"),
    ("verbose", "v"),
    ("bytes_warning", "b"),
    ("safe_path", "P"),
)


def _is_implied_warning(option: str) -> bool:
    """Tell whether -X dev or -b puts the warning option there by itself."""
    if option == "default":
        return bool(sys.flags.dev_mode)
    return option in {"error::BytesWarning", "default::BytesWarning"} and bool(sys.flags.bytes_warning)


def start_interpreter(program: str, sock: wire.socket) -> int:
    """Start `boot` with `program` in a new interpreter that holds `sock`; return its process id."""
    fd = sock.fileno()
    executable = get_executable()
    closable, strays = inheritable_fds(fd)
    arguments = [executable, *interpreter_flags(), "-c", _BOOT, program, str(fd), _ROOT, *map(str, strays)]
    actions: list[tuple[object, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        # On itself: that makes it survive the exec.
        (os.POSIX_SPAWN_DUP2, fd, fd),
    ]
    out, err = surroundings.output_fds()
    if program == "zygote" or out < 0:
        # The zygote outlives what the parent's output is connected to; its children get theirs sent.
        actions.append((os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0))
    if err < 0:
        actions.append((os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0))
    actions += [(os.POSIX_SPAWN_CLOSE, other) for other in closable]
    return os.posix_spawn(
        executable,
        arguments,
        os.environ,
        file_actions=actions,
        # Held back until the new process can say what an interrupt means to it.
        setsigmask=[_signal.SIGINT],
        # A parent that ignores SIGCHLD means its own children; the new process has to learn how its own end.
        setsigdef=[_signal.SIGCHLD],
    )


def inheritable_fds(kept: int) -> tuple[list[int], list[int]]:
    """Return the descriptors above 2 that an exec would hand on: those it can close, and the strays.

    A stray was opened before the limit was lowered to its number or less. posix_spawn refuses to close
    it (EBADF), so the new interpreter has to.
    """
    closable: list[int] = []
    strays: list[int] = []
    limit = os.sysconf("SC_OPEN_MAX")
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            if fd > 2 and fd != kept and os.get_inheritable(fd):  # noqa: PLR2004
                (closable if limit < 0 or fd < limit else strays).append(fd)
        except OSError:
            # The descriptor of the listing itself, or one that another thread has closed.
            continue
    return closable, strays


def launch_spawn(entry: str, payload: bytes, fds: Sequence[int], about: dict[str, Any]) -> OwnChild:
    """Launch a process in a fresh interpreter."""
    extra = [("parent", tree.self_fd()), ("heap", tree.heap().fileno())]
    ours, theirs = wire.pair()
    child = None
    try:
        child = OwnChild(start_interpreter("child", theirs))
        changes = surroundings.capture()
        # An exec hands these on by itself.
        del changes["cwd"], changes["env"]
        send_request(ours, (entry, payload, fds, about), changes, extra)
    except BaseException:
        if child is not None:
            child.kill()
            child.wait()
        raise
    finally:
        theirs.close()
        ours.close()
    return child


def send_request(
    sock: wire.socket,
    call: tuple[str, bytes, Sequence[int], dict[str, Any]],
    changes: surroundings.Surroundings,
    extra: Sequence[tuple[str, int]] = (),
) -> None:
    """Tell a process that waits in `child.serve` what to run, and with what."""
    entry, payload, fds, about = call
    own = [("1", 1), ("2", 2), *extra]
    tracker = neighbour.tracker_fd()
    if tracker is not None:
        own.append(("tracker", tracker))
    if -1 in surroundings.output_fds():
        own = [item for item in own if item[1] in surroundings.output_fds() or item[0] not in {"1", "2"}]
    head = marshal.dumps(
        {
            "entry": entry,
            "about": about,
            "changes": changes,
            "main": _main_attributes(),
            "creator": tree.creator(),
            "interrupts": _signal.getsignal(_signal.SIGINT) != _signal.SIG_IGN,
            "fds": [kind for kind, _ in own],
        }
    )
    wire.send_parts(sock, head, payload, [*(fd for _, fd in own), *fds])


def _main_attributes() -> dict[str, object]:
    """Return what a child's `__main__` should say of itself: the file, for messages and `inspect`."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    attributes: dict[str, object] = {"__spec__": None}
    if type(path) is str:
        attributes["__file__"] = path
    return attributes
