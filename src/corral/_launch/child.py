"""Be a launched process: take over the parent's surroundings, run the entry, end with its exit code.

Role in the flow: `zygote` and `boot` call `serve`, `fork` calls `run_forked`; the entry belongs to whoever
called `launch`.
Runs in: child, main thread.
Invariants:
    INV-CHILD-1: nothing returns from here into the code of the process the child was forked from.
    INV-CHILD-2: the child dies with its parent from before the entry runs: by the kernel, or a thread that
        watches the parent's pidfd (`tree`); as a child of the zygote, by the line and the zygote (`line`).
    INV-CHILD-3: `__main__` is an empty module of the child's own, never the parent's program run again
        (with `fork` it is the parent's, as memory has it).
Failure: an exception of the entry is printed on standard error and becomes exit code 1; a parent that
closes the socket without a request, or dies, ends the child in silence.
"""

from __future__ import annotations

import atexit
import builtins
import marshal
import os
import sys

from corral._launch import exits, kin, line, neighbour, surroundings, tree, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any, NoReturn
else:
    # The built-in part alone: `signal` brings `enum` along, which costs a child more than its work.
    import _signal

__all__ = ["run_forked", "serve"]

Payload = bytes | memoryview

_replaced_main: list[object] = []
"""Keeps the module that `__main__` was before: its names would be cleared with it."""

STDERR_FD = 2


def serve(sock: wire.socket) -> NoReturn:
    """Wait for one launch request on `sock`, carry it out, and end."""
    try:
        head, payload, fds = wire.receive_parts(sock)
    except EOFError:
        os._exit(0)
    except KeyboardInterrupt:
        os._exit(-_signal.SIGINT & 0xFF)
    request = marshal.loads(head)  # noqa: S302  (our parent's message)
    about: dict[str, Any] = request["about"]

    def run() -> None:
        given = _take_fds(request["fds"], fds)
        if "parent" in given:
            sock.close()
            tree.follow_parent(given["parent"], request["creator"])
            tree.adopt_heap(given["heap"])
        else:
            line.hold(sock)
            _know_main_thread()
        if "tracker" in given:
            neighbour.share_tracker(given["tracker"])
        surroundings.apply(request["changes"])
        _mirror_main(request["main"])
        kin.be(about)
        entry = resolve(request["entry"])
        if not getattr(entry, "handles_interrupts", False):
            _handle_interrupts(request["interrupts"])
        entry(payload, fds)

    end(run, about["name"])


def rehearse() -> None:
    """Receive a request from oneself: a fork's memory is copied as it is touched, now rather than later."""
    ours, theirs = wire.pair()
    about = kin.describe("", identity=())
    sent = marshal.dumps({"entry": "", "about": about, "fds": ["1", "2"], "changes": {}, "main": {}})
    wire.send_parts(ours, sent, b"", [1, 2])
    ours.close()
    head, _, fds = wire.receive_parts(theirs)
    request = marshal.loads(head)  # noqa: S302  (our own message)
    wire.is_closed(theirs)
    _take_fds(request["fds"], fds)
    surroundings.apply(request["changes"])
    _mirror_main(request["main"])
    kin.be(request["about"])
    _handle_interrupts(False)
    theirs.close()


def run_forked(call: Callable[[], None], about: dict[str, Any], parent_fd: int, creator: int) -> NoReturn:
    """Run `call` in a process just forked from the parent, and end."""

    def run() -> None:
        # What the parent has registered isn't the child's to run; what launch itself needs is put back.
        atexit._clear()  # noqa: SLF001  (the interpreter's own way)
        exits.renew()
        tree.follow_parent(parent_fd, creator)
        _know_main_thread()
        _null_stdin()
        kin.be(about, forked=True)
        call()

    end(run, about["name"])


def resolve(entry: str) -> Callable[[Payload, list[int]], None]:
    """Find the function that an entry `package.module:function` names.

    If it has a true attribute `handles_interrupts`, it is called with SIGINT still held back.
    """
    module, _, function = entry.partition(":")
    __import__(module)
    found: Callable[[Payload, list[int]], None] = getattr(sys.modules[module], function)
    return found


def end(call: Callable[[], None], name: str) -> NoReturn:
    """Run `call` and end the process with the exit code its outcome means."""
    code = 1
    try:
        code = _outcome(call, name)
        code = _outcome(_leave, name) or code
    finally:
        line.tell_exit_code(code & 0xFF)
        os._exit(code & 0xFF)


def _outcome(call: Callable[[], None], name: str) -> int:
    """Run `call`; return the exit code that its end means, after printing what has to be printed."""
    try:
        call()
    except SystemExit as exit_:
        return _exit_code(exit_.code)
    except BaseException as error:
        _print_failure(error, name)
        return 1
    return 0


def _exit_code(code: object) -> int:
    """Return the number for a `SystemExit` code: none is success, text is printed and means 1."""
    if code is None:
        return 0
    if isinstance(code, int):
        return code
    _write_stderr(f"{code}\n")
    return 1


def _leave() -> None:
    """Do what an interpreter does at its end as far as others can see it."""
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()  # noqa: SLF001  (as at an interpreter's end)
    atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            # Closed, replaced or nobody there to read: not this process's failure.
            continue


def _print_failure(error: BaseException, name: str) -> None:
    """Print the traceback of what ended the process, without the frames of corral itself."""
    import traceback

    lines = traceback.format_exception(type(error), error, _own_frames(error.__traceback__))
    _write_stderr(f"Process {name}:\n{''.join(lines)}")


def _own_frames(tb: TracebackType | None) -> TracebackType | None:
    """Skip the leading frames that belong to corral; all of them if there is nothing else."""
    package = os.path.dirname(os.path.dirname(__file__)) + os.sep
    at = tb
    while at is not None and at.tb_frame.f_code.co_filename.startswith(package):
        at = at.tb_next
    return at or tb


def _write_stderr(text: str) -> None:
    """Write to standard error, whatever has become of the stream."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (AttributeError, ValueError, OSError):
        try:
            os.write(STDERR_FD, text.encode(errors="backslashreplace"))
        except OSError:
            return


def _take_fds(kinds: list[str], fds: list[int]) -> dict[str, int]:
    """Take the descriptors that are launch's own off the front of `fds`; put the output where it belongs."""
    given: dict[str, int] = {}
    for kind in kinds:
        fd = fds.pop(0)
        if kind in {"1", "2"}:
            os.dup2(fd, int(kind))
            os.close(fd)
        else:
            given[kind] = fd
    return given


def _mirror_main(attributes: dict[str, object]) -> None:
    """Give this process a `__main__` of its own, in which `_codec` installs what is sent."""
    _replaced_main.append(sys.modules.get("__main__"))
    main = type(sys)("__main__")
    main.__dict__.update(attributes, __builtins__=builtins)
    sys.modules["__main__"] = main


def _handle_interrupts(handle: bool) -> None:
    """Let SIGINT raise KeyboardInterrupt, unless the parent ignores it; until now it was held back."""
    _signal.signal(_signal.SIGINT, _signal.default_int_handler if handle else _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGINT])


def _know_main_thread() -> None:
    """Have `threading` tell the thread's id in this process, which it has copied from the one that forked."""
    threading = sys.modules.get("threading")
    if threading is not None and getattr(threading, "_HAVE_THREAD_NATIVE_ID", False):
        threading.main_thread()._set_native_id()  # noqa: SLF001  (as the standard library does)


def _null_stdin() -> None:
    """Put /dev/null in the place of standard input, which stays the parent's."""
    try:  # noqa: SIM105  (contextlib costs an import)
        sys.stdin.close()
    except (AttributeError, OSError, ValueError):
        # None, already closed, or somebody's object that can't be.
        pass
    try:
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        if fd != 0:
            os.dup2(fd, 0)
            os.close(fd)
        else:
            os.set_inheritable(0, True)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  (lives as long as the process)
    except (OSError, ValueError):
        # No descriptor left: then there is no standard input.
        sys.stdin = None
