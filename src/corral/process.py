"""Process objects: `multiprocessing.process` on corral's launch.

Role in the flow: a user, or `corral.context`, makes a process object; `start` encodes it with `_codec` and
has `_launch` run `enter` in the child, which decodes it and calls its `run`.
Runs in: parent (any thread) and child (main thread).
Invariants:
    INV-PROC-1: a process object belongs to the process that made it; others may only look at it.
    INV-PROC-2: at exit, daemonic children are terminated and all children joined, before launch lets its
        zygote go.
Failure: an object that cannot be sent raises in `start`, and nothing has been started.
"""

# ruff: noqa: SLF001  (process objects know each other, and the standard library's names are private ones)

from __future__ import annotations

import itertools
import marshal
import os
import sys

from corral import _launch
from corral._launch import kin, neighbour, passing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from corral._launch import Child

__all__ = ["BaseProcess", "active_children", "current_process", "parent_process"]

_PROCESS = "multiprocessing.process"
_UTIL = "multiprocessing.util"


def current_process() -> BaseProcess:
    """Return the object of the process that asks; the standard library's own in a process of its making."""
    theirs = neighbour.loaded(_PROCESS)
    return _state.current if theirs is None else _state.beside(theirs)


def parent_process() -> BaseProcess | None:
    """Return the object of the process that started this one; None in the main process."""
    current_process()
    return _state.parent


def active_children() -> list[BaseProcess]:
    """Return the living children of this process; those that have ended are joined on the way."""
    _cleanup()
    return list(_state.children)


class AuthenticationString(bytes):
    """A key that may be handed to a child, ours or the standard library's, but leaves by no other pickle."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[AuthenticationString], tuple[bytes]]:
        if passing.current() is None and passing.foreign() is None:
            raise TypeError("Pickling an AuthenticationString object is disallowed for security reasons")
        return AuthenticationString, (bytes(self),)


class BaseProcess:
    """An activity in a process of its own, as `threading.Thread` is one in a thread.

    Not safe to use from a process other than the one that made it; its methods may be called from any thread.
    """

    _start_method: str | None = None

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] = {},
        *,
        daemon: bool | None = None,
    ) -> None:
        assert group is None, "group argument must be None for now"
        current = current_process()
        self._identity: tuple[int, ...] = next_identity()
        self._config: dict[str, Any] = current._config.copy()
        self._parent_pid: int | None = os.getpid()
        self._parent_name = current.name
        self._popen: Child | None = None
        self._closed = False
        self._target = target
        self._args = tuple(args)
        self._kwargs = dict(kwargs)
        self._name = name or f"{type(self).__name__}-{':'.join(map(str, self._identity))}"
        if daemon is not None:
            self.daemon = daemon

    def run(self) -> None:
        """Do the activity; a subclass may do something else."""
        if self._target:
            self._target(*self._args, **self._kwargs)

    def start(self) -> None:
        """Start the process.

        Raises:
            corral.errors.EncodeError: the object cannot be sent; the message says which part.
            OSError: there is no room for another process.
        """
        self._check_closed()
        assert self._popen is None, "cannot start a process twice"
        assert self._parent_pid == os.getpid(), "can only start a process object created by current process"
        _cleanup()
        _launch.at_exit(exit_function)
        self._popen = self._Popen(self)
        self._sentinel = self._popen.sentinel
        # What the target holds must not live as long as this object, which it may hold in turn.
        del self._target, self._args, self._kwargs
        _state.children.add(self)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._started().terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self._started().kill()

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does: KeyboardInterrupt is raised in the process."""
        self._started().interrupt()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the process has ended, at most `timeout` seconds.

        Blocking: without the GIL; no time-out means until it has ended.
        """
        self._check_closed()
        assert self._parent_pid == os.getpid(), "can only join a child process"
        assert self._popen is not None, "can only join a started process"
        if self._popen.wait(timeout) is not None:
            _state.children.discard(self)

    def is_alive(self) -> bool:
        """Tell whether the process runs."""
        self._check_closed()
        if self is current_process():
            return True
        assert self._parent_pid == os.getpid(), "can only test a child process"
        if self._popen is None:
            return False
        if self._popen.poll() is None:
            return True
        _state.children.discard(self)
        return False

    def close(self) -> None:
        """Give back what the object holds; it is of no use then.

        Raises:
            ValueError: the process still runs.
        """
        if self._popen is not None:
            if self._popen.poll() is None:
                raise ValueError(
                    "Cannot close a process while it is still running. "
                    "You should first call join() or terminate()."
                )
            self._popen.close()
            self._popen = None
            del self._sentinel
            _state.children.discard(self)
        self._closed = True

    @property
    def name(self) -> str:
        """The name, for messages only."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        assert isinstance(name, str), "name must be a string"
        self._name = name

    @property
    def daemon(self) -> bool:
        """Whether the process is terminated, not waited for, at its parent's exit."""
        return bool(self._config.get("daemon", False))

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        assert self._popen is None, "process has already started"
        self._config["daemon"] = daemonic

    @property
    def authkey(self) -> bytes:
        """The key with which processes of this tree know each other."""
        key: bytes = self._config["authkey"]
        return key

    @authkey.setter
    def authkey(self, authkey: bytes) -> None:
        self._config["authkey"] = AuthenticationString(authkey)

    @property
    def exitcode(self) -> int | None:
        """The exit code, negative for a signal; None while the process has not ended."""
        self._check_closed()
        return None if self._popen is None else self._popen.poll()

    @property
    def ident(self) -> int | None:
        """The process id; None before the start."""
        self._check_closed()
        if self is _state.current:
            return os.getpid()
        return None if self._popen is None else self._popen.pid

    pid = ident

    @property
    def sentinel(self) -> int:
        """A descriptor that is readable when the process has ended."""
        self._check_closed()
        try:
            return self._sentinel
        except AttributeError:
            raise ValueError("process not started") from None

    def __repr__(self) -> str:
        exitcode = None
        if self is _state.current:
            status = "started"
        elif self._closed:
            status = "closed"
        elif self._parent_pid != os.getpid():
            status = "unknown"
        elif self._popen is None:
            status = "initial"
        else:
            exitcode = self._popen.poll()
            status = "started" if exitcode is None else "stopped"
        words = [type(self).__name__, f"name={self._name!r}"]
        if self._popen is not None:
            words.append(f"pid={self._popen.pid}")
        words += [f"parent={self._parent_pid}", status]
        if exitcode is not None:
            words.append(f"exitcode={_exit_name(exitcode)}")
        if self.daemon:
            words.append("daemon")
        return f"<{' '.join(words)}>"

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError("process object is closed")

    def _started(self) -> Child:
        """Return the launched child, for a signal."""
        self._check_closed()
        if self._popen is None:
            raise AttributeError("the process has not been started", name="_popen", obj=self)
        return self._popen

    @staticmethod
    def _Popen(process_obj: BaseProcess) -> Child:  # noqa: N802  (the standard library's seam)
        """Launch the process; a context says by which method."""
        raise NotImplementedError

    def _bootstrap(self, default_method: str | None) -> None:
        """Be this process, in the child, and do the activity."""
        from corral import context

        if self._start_method is not None or default_method is not None:
            context._force_start_method(self._start_method or default_method)
        _state.become(self)
        neighbour.tell_process()
        _log("child process calling self.run()")
        self.run()


class _ParentProcess(BaseProcess):
    """The process that started this one."""

    def __init__(self, name: str, pid: int | None, sentinel: int) -> None:
        self._identity = ()
        self._name = name
        self._pid = pid
        self._parent_pid = None
        self._popen = None
        self._closed = False
        self._sentinel = sentinel
        self._config = {}

    def is_alive(self) -> bool:
        """Tell whether the parent runs: while it doesn't, this process is about to go too."""
        return not _is_readable(self._sentinel, 0)

    def join(self, timeout: float | None = None) -> None:
        """Wait for the parent to end."""
        _is_readable(self._sentinel, timeout)

    @property
    def ident(self) -> int | None:
        """The parent's process id."""
        return self._pid

    pid = ident


class _MainProcess(BaseProcess):
    """The process that nobody of this tree has started."""

    def __init__(self) -> None:
        self._identity = ()
        self._name = "MainProcess"
        self._parent_pid = None
        self._popen = None
        self._closed = False

    @property
    def _config(self) -> dict[str, Any]:  # type: ignore[override]
        """What the descendants inherit; one with the standard library's, whichever was loaded first."""
        return _with_key(kin.config())

    def close(self) -> None:
        """Do nothing: the main process stays."""


class _LaunchedProcess(BaseProcess):
    """The process that was launched, as its parent has described it: a worker, or not unpickled yet."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._identity = tuple(told["identity"])
        self._name = told["name"]
        self._parent_name, self._parent_pid = told["parent"]
        self._config = _with_key(told["config"])
        self._popen = None
        self._closed = False

    def close(self) -> None:
        """Do nothing: this process stays."""


def _with_key(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration after making its key one that isn't pickled by chance."""
    if type(config["authkey"]) is bytes:
        config["authkey"] = AuthenticationString(config["authkey"])
    return config


class _State:
    """What this process knows of itself and its relatives."""

    __slots__ = ("children", "counter", "current", "exiting", "neighbour", "parent")

    def __init__(self, current: BaseProcess) -> None:
        self.current = current
        self.parent: BaseProcess | None = None
        self.children: set[BaseProcess] = set()
        self.counter = itertools.count(1)
        self.exiting = False
        self.neighbour: object = None
        """The standard library's object for the main process, which has said all it knows."""

    def become(self, process: BaseProcess) -> None:
        """Be `process`, in a child, with no children yet."""
        self.parent = _ParentProcess(process._parent_name, process._parent_pid, _launch.parent_fd())
        self.begin(process)

    def begin(self, process: BaseProcess) -> None:
        """Be a process with no children yet."""
        self.current = process
        self.children = set()
        self.counter = itertools.count(1)
        self.exiting = False

    def beside(self, theirs: Any) -> BaseProcess:
        """Return who this is; if the standard library has launched it, as that knows."""
        found: Any = getattr(theirs, "_current_process", None)
        if found is None or found is self.current or found is self.neighbour:
            return self.current
        if isinstance(found, BaseProcess):
            # Told by a parent of ours, before a fork: about to be told otherwise.
            return self.current
        if type(found).__name__ == "_MainProcess":
            self.neighbour = found
        else:
            self.parent = theirs.parent_process()
            self.begin(found)
        return self.current


def be_told(told: dict[str, Any]) -> None:
    """Be the process that `kin` was told it is."""
    _state.become(_LaunchedProcess(told))


_state = _State(_MainProcess())
_told = kin.about()
if _told is not None:
    be_told(_told)


def launch_by(method: str, process: BaseProcess) -> Child:
    """Launch a process object by a start method."""
    about = kin.describe(process.name, identity=process._identity, settings=process._config)
    if method == "fork":
        return _launch.launch(
            "fork", "", b"", call=lambda: process._bootstrap(_default_method()), about=about
        )
    _launch.begin(method)
    plain = _encode_plain(process)
    if plain is not None:
        return _launch.launch(method, f"{__name__}:enter_plain", plain, about=about)
    from corral._codec import bundle

    with passing.Passing() as passed:
        payload = bundle((process, _default_method()))
    child = _launch.launch(method, f"{__name__}:enter", payload, fds=passed.fds, about=about)
    child.kept = passed.keepers
    return child


def _encode_plain(process: BaseProcess) -> bytes | None:
    """Encode a process whose target has a name and whose arguments are plain; None for any other.

    A fresh interpreter that needs no pickle starts a fifth faster.
    """
    state = process.__dict__.copy()
    target: Any = state.pop("_target")
    if type(process).__module__ != "corral.context" or not _is_plain(state["_args"], state["_kwargs"]):
        return None
    where = None
    if target is not None:
        from corral._codec._names import is_importable

        if type(target) not in _FUNCTIONS or not is_importable(target, target.__qualname__):
            return None
        where = (target.__module__, target.__qualname__)
    config = state["_config"] = process._config.copy()
    config["authkey"] = bytes(config["authkey"])
    if not _is_plain((), config) or state.keys() != _ATTRIBUTES:
        return None
    return marshal.dumps((type(process).__name__, where, state, _default_method()))


def _is_plain(args: tuple[object, ...], kwargs: dict[str, object]) -> bool:
    """Tell whether all values are of types that marshal gives back as they were."""
    return all(type(value) in _SCALARS for value in (*args, *kwargs.values()))


_SCALARS = frozenset({bool, bytes, complex, float, int, str, type(None)})
_FUNCTIONS = frozenset({type(lambda: None), type(len)})
_ATTRIBUTES = frozenset(
    ["_identity", "_config", "_parent_pid", "_parent_name", "_popen", "_closed", "_args", "_kwargs", "_name"]
)


def enter_plain(payload: bytes | memoryview, fds: list[int]) -> None:
    """Rebuild, in the child, what `_encode_plain` encoded, and be it."""
    from corral import context

    del fds
    kind, where, state, default_method = marshal.loads(payload)  # noqa: S302  (our parent's message)
    cls: type[BaseProcess] = getattr(context, kind)
    process = cls.__new__(cls)
    process.__dict__.update(state)
    process.authkey = state["_config"]["authkey"]
    target: Any = None
    if where is not None:
        module, path = where
        __import__(module)
        target = sys.modules[module]
        for name in path.split("."):
            target = getattr(target, name)
    process._target = target
    process._bootstrap(default_method)


def enter(payload: bytes | memoryview, fds: list[int]) -> None:
    """Decode, in the child, the process object that was launched, and be it."""
    from corral._codec import unbundle

    passing.receive(fds)
    launched: Any = unbundle(payload)
    process, default_method = launched
    process._bootstrap(default_method)


def _prepare_rehearsal() -> Callable[[], None]:
    """Return what a child of the zygote does before a request comes: be launched with nothing to do."""
    from corral import context
    from corral._codec import bundle

    with passing.Passing():
        nothing = bundle((context.ForkServerProcess(), "forkserver"))
    return lambda: enter(nothing, [])


def _default_method() -> str | None:
    """Return the start method that a child inherits as its default."""
    context = sys.modules.get("corral.context")
    return None if context is None else context._default_context.get_start_method(allow_none=True)


def _cleanup() -> None:
    """Forget the children that have ended."""
    for process in list(_state.children):
        child = process._popen
        if child is not None and child.poll() is not None:
            _state.children.discard(process)


def exit_function() -> None:
    """Run finalizers, terminate daemonic children, wait for all, run what finalizers there are left.

    The standard library's finalizers too: a manager of theirs must have shut its server down before a
    process of ours, which may be that server, is waited for.
    """
    _state.exiting = True
    _log("process shutting down")
    _run_finalizers(0)
    for process in active_children():
        if process.daemon:
            process.terminate()
    for process in active_children():
        process.join()
    _run_finalizers(None)


def next_identity() -> tuple[int, ...]:
    """Return the place among its relatives of the next process that this one launches."""
    return (*current_process()._identity, next(_state.counter))


def is_exiting() -> bool:
    """Tell whether this process is shutting down."""
    return _state.exiting


def _run_finalizers(min_priority: int | None) -> None:
    """Run the finalizers of `util` and of the standard library's, where they are loaded."""
    for name in ("corral.util", _UTIL):
        util = neighbour.loaded(name)
        if util is not None:
            util._run_finalizers(min_priority)


def _log(message: str) -> None:
    """Say to corral's logger what happens, if anybody has asked for it."""
    util = sys.modules.get("corral.util")
    if util is not None:
        util.info(message)


def _is_readable(fd: int, timeout_s: float | None) -> bool:
    from corral._launch.ending import is_readable

    return is_readable(fd, timeout_s)


def _exit_name(code: int) -> str:
    """Return an exit code as people say it: a signal by its name."""
    if code < 0:
        import signal

        try:
            return f"-{signal.Signals(-code).name}"
        except ValueError:
            return str(code)
    return str(code)


# The children of a process that forks by its own means stay its own.
os.register_at_fork(after_in_child=lambda: setattr(_state, "children", set()))
