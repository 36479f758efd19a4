"""`corral.Manager` and `corral.managers` are the standard library's, on corral's processes."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import corral
from corral import context
from corral.managers import BaseManager, BaseProxy, RemoteError, SyncManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

METHODS = ("fork", "forkserver", "spawn")
pytestmark = pytest.mark.slow


@pytest.fixture
def targets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of targets, importable by name in the children."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import world_targets

    return world_targets


@pytest.fixture(params=METHODS)
def ctx(request: pytest.FixtureRequest) -> context.BaseContext:
    return context.get_context(request.param)


@pytest.fixture
def one() -> context.BaseContext:
    """The default method's context, for what has nothing to do with how the server was started."""
    return context.get_context("forkserver")


@pytest.fixture
def manager(ctx: context.BaseContext) -> Iterator[SyncManager]:
    with ctx.Manager() as made:
        yield made


def run(ctx: context.BaseContext, target: Any, *args: object) -> None:
    process = ctx.Process(target=target, args=args)
    process.start()
    process.join()
    assert process.exitcode == 0


def custom(ctx: context.BaseContext, targets: ModuleType, **options: Any) -> BaseManager:
    """A manager, not started, with a type of the program's own."""

    class Own(BaseManager):
        pass

    Own.register("Counter", targets.Counter)
    Own.register("shared", callable=targets.Counter, exposed=("add",))
    return Own(ctx=ctx, **options)


def test_objects_are_shared_with_processes_and_tasks(
    ctx: context.BaseContext, manager: SyncManager, targets: ModuleType
) -> None:
    values, mapping = manager.list(["first"]), manager.dict()
    items, space = manager.Queue(), manager.Namespace()
    run(ctx, targets.fill, values, mapping, items, space)
    assert list(values) == ["first", "child"]
    assert mapping["pid"] != os.getpid()
    assert items.get(timeout=10) == "first"
    assert space.said == "hello"
    with ctx.Pool(2) as pool:
        names = pool.starmap(targets.get_into, [(mapping, "a"), (mapping, "b")])
    assert [mapping["a"], mapping["b"]] == names


def test_a_lock_of_the_manager_excludes(
    ctx: context.BaseContext, manager: SyncManager, targets: ModuleType
) -> None:
    total, lock = manager.Value("i", 0), manager.Lock()
    children = [ctx.Process(target=targets.count, args=(total, lock, 20)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert total.value == 40


def test_the_server_is_a_process_of_the_context(ctx: context.BaseContext, targets: ModuleType) -> None:
    with custom(ctx, targets) as manager:
        counter = manager.Counter(5)  # type: ignore[attr-defined]
        assert counter.add(3) == 8
        pid, name = counter.process()
        (server,) = [child for child in corral.active_children() if child.pid == pid]
        assert isinstance(server, ctx.Process)
        assert name == server.name
        assert name.startswith("Own-")
        assert not hasattr(counter, "_hidden")
        assert not hasattr(manager.shared(), "fail")  # type: ignore[attr-defined]
    assert not server.is_alive()
    assert server.exitcode == 0


def test_an_exception_in_the_server_is_raised_at_the_caller(
    one: context.BaseContext, targets: ModuleType
) -> None:
    with custom(one, targets) as own:
        counter = own.Counter()  # type: ignore[attr-defined]
        with pytest.raises(LookupError, match="not here"):
            counter.fail()
        with pytest.raises(RemoteError, match="Unserializable"):
            counter.give_what_cannot_be_sent()
        assert counter.add(1) == 1
    with one.Manager() as manager, pytest.raises(queue.Empty):
        manager.Queue().get_nowait()


def test_proxies_nest_and_print(one: context.BaseContext) -> None:
    with one.Manager() as manager:
        inner = manager.list([1, 2])
        outer = manager.list([inner])
        outer[0].append(3)
        assert list(inner) == [1, 2, 3]
        assert str(inner) == "[1, 2, 3]"
        assert isinstance(inner, BaseProxy)
        assert manager._number_of_objects() == 2  # type: ignore[attr-defined]
        del outer
        assert manager._number_of_objects() == 1  # type: ignore[attr-defined]


PROGRAM = """
import sys
import corral
from corral.managers import BaseManager

class Point:
    def __init__(self, x):
        self.x = x

class Maker:
    def make(self, x):
        return Point(x)
    def call(self, function, *args):
        return function(*args)

def move(points):
    points.append(Point(points[0].x + 1))
    return points[-1]

class Own(BaseManager):
    pass

Own.register("Maker", Maker)
ctx = corral.get_context(sys.argv[1])
with ctx.Manager() as manager, ctx.Pool(1) as pool, Own(ctx=ctx) as own:
    points = manager.list([Point(1)])
    assert type(points[0]) is Point
    moved = pool.apply(move, (points,))
    assert type(moved) is Point
    assert [point.x for point in points] == [1, 2]
    assert {type(point) for point in points} == {Point}
    maker = own.Maker()
    assert type(maker.make(5)) is Point
    assert maker.call(lambda x, y: x + y, 3, 4) == 7
print("done")
"""


def test_what_belongs_to_main_is_shared(ctx: context.BaseContext, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), ctx.get_start_method() or ""]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "done\n"


def test_another_program_connects_with_the_key(one: context.BaseContext, targets: ModuleType) -> None:
    from multiprocessing.managers import BaseManager as TheirManager

    with custom(one, targets, authkey=b"key") as manager:
        counter = manager.Counter()  # type: ignore[attr-defined]
        for kind in (BaseManager, TheirManager):

            class Remote(kind):  # type: ignore[misc, valid-type]
                pass

            Remote.register("shared")
            remote = Remote(address=manager.address, authkey=b"key")
            remote.connect()
            assert remote.shared().add(2) == 2
            with pytest.raises(corral.AuthenticationError):
                Remote(address=manager.address, authkey=b"no key").connect()
        assert counter.add(1) == 1


def test_a_killed_server_is_an_error_not_a_hang(one: context.BaseContext) -> None:
    manager = one.Manager()
    values = manager.list()
    pid = manager._process.pid  # type: ignore[attr-defined]
    os.kill(pid, signal.SIGKILL)
    manager._process.join()  # type: ignore[attr-defined]
    with pytest.raises((EOFError, OSError)):
        values.append(1)
    manager.shutdown()


def test_misuse_is_refused(targets: ModuleType) -> None:
    manager = custom(corral.get_context("forkserver"), targets)
    with pytest.raises(AssertionError, match="server not yet started"):
        manager.Counter()  # type: ignore[attr-defined]
    manager.start()
    with pytest.raises(corral.ProcessError, match="Already started server"):
        manager.start()
    manager.shutdown()
    with pytest.raises(corral.ProcessError, match="Manager has shut down"):
        manager.start()


def test_a_server_that_is_forgotten_ends(one: context.BaseContext) -> None:
    manager = one.Manager()
    server = manager._process  # type: ignore[attr-defined]
    assert manager.list([1])[0] == 1
    del manager
    server.join()
    assert server.exitcode == 0


def test_a_shared_memory_manager_unlinks_what_it_made(ctx: context.BaseContext) -> None:
    from corral.managers import SharedMemoryManager
    from corral.shared_memory import SharedMemory

    class Own(SharedMemoryManager):
        def __init__(self) -> None:
            super().__init__(ctx=ctx)

    with Own() as manager:
        segment = manager.SharedMemory(size=100)
        listing = manager.ShareableList([1, 2])
        assert isinstance(segment, SharedMemory)
        assert listing[1] == 2
        name = segment.name
        segment.close()
        listing.shm.close()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)
