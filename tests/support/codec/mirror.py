# Run as a script, by -c and from standard input: everything below belongs to __main__.
# Written as users write: without annotations, with globals.
# ruff: noqa: ANN001, ANN201, ANN202, ANN204, ANN205, ANN206, PT017, PLW0603, RUF012, RUF021
import concurrent
import concurrent.futures
import dataclasses
import enum
import functools
import sys
import threading
import typing

from peer import Peer, check, report

from corral import _codec as codec

FACTOR = 3


TABLE = {"a": 1}


LOCK = threading.Lock()


peer = Peer()


def twice(x):
    return 2 * x


def uses_submodule():
    return concurrent.futures.Future.__name__


def uses_lock():
    with LOCK:
        return 1


def uses_table():
    return TABLE["a"]


class Point:
    unit = FACTOR
    made = []

    class Inner:
        def __init__(self, v):
            self.v = v

    def __init__(self, x=0):
        self.x = x

    def moved(self, by):
        return Point(self.x + by * FACTOR)

    @property
    def far(self):
        return self.x > 10

    @classmethod
    def at(cls, x):
        return cls(x)

    @staticmethod
    def origin():
        return Point(0)

    def __call__(self, x):
        return self.x + x

    def __eq__(self, other):
        return type(other) is type(self) and other.x == self.x

    __hash__ = None

    @functools.cached_property
    def slow(self):
        return self.x * 2


class Point3(Point):
    def __init__(self, x, z):
        super().__init__(x)
        self.z = z

    def moved(self, by):
        return Point3(super().moved(by).x, self.z)


Point.best = Point3  # a class that refers to its own subclass


@dataclasses.dataclass(frozen=True, order=True)
class Record:
    x: int
    tags: list = dataclasses.field(default_factory=list, compare=False)
    kind: typing.ClassVar[str] = "record"
    point: "Point | None" = None

    def grown(self):
        return dataclasses.replace(self, x=self.x + 1)


class Colour(enum.Enum):
    RED = 1
    GREEN = "g"

    def next(self):
        return Colour.GREEN if self is Colour.RED else Colour.RED


class Wrong(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


def identity(x):
    return x


@check
def submodules_are_imported():
    assert peer.call(uses_submodule) == "Future"
    assert peer.call(lambda: concurrent.futures.Future.__name__) == "Future"


@check
def data_globals():
    assert peer.call(uses_table) == 1


@check
def initializers_set_globals():
    def initialize(value):
        global SETTING, TABLE
        SETTING = value
        TABLE = {"a": value}

    def setting():
        return SETTING

    with Peer() as other:
        other.call(initialize, 42)
        assert other.call(setting) == 42
        assert other.call(uses_table) == 42
        assert other.call(lambda: (SETTING, TABLE["a"])) == (42, 42)
    assert TABLE == {"a": 1}


@check
def main_is_a_mirror():
    def same():
        import __main__

        return __main__.__dict__ is globals() and __main__.FACTOR == FACTOR

    assert peer.call(same)


@check
def what_cannot_be_sent_is_left_out_and_explained():
    assert peer.call(lambda f: f and 1 or LOCK, 1) == 1
    try:
        peer.call(uses_lock)
    except NameError as exc:
        assert "LOCK" in str(exc)
        assert "cannot pickle '_thread.lock' object" in exc.__notes__[0], exc.__notes__
        assert "LOCK" in exc.__notes__[0]
        assert "cannot pickle" in str(exc.__cause__)
    else:
        raise AssertionError


@check
def a_function_is_sent_once():
    peer.call(twice, 1)
    before = peer.sent_bytes
    peer.call(twice, 1)
    assert peer.sent_bytes - before < 40
    assert codec.define(twice, peer.snapshot) is codec.define(twice, peer.snapshot)


@check
def instances_are_small():
    peer.call(identity, Point(1))
    before = peer.sent_bytes
    peer.call(identity, Point(1))
    assert peer.sent_bytes - before < 150


@check
def redefinition():
    space = {}
    exec("def helper(): return 1\ndef job(): return helper()", globals(), space)
    globals().update(space)
    job, first = space["job"], space["helper"]
    assert peer.call(job) == 1
    exec("def helper(): return 2", globals())
    assert peer.call(job) == 2
    globals()["helper"] = first
    assert peer.call(job) == 1
    with Peer() as other:
        assert other.call(job) == 1


@check
def redefined_class():
    exec("class Cell:\n    def get(self): return 1", globals())
    old = Cell()  # noqa: F821
    assert peer.call(lambda: Cell().get()) == 1  # noqa: F821
    exec("class Cell:\n    def get(self): return 2", globals())
    assert peer.call(lambda: Cell().get()) == 2  # noqa: F821
    assert peer.call(lambda c: c.get(), old) == 1
    assert type(peer.call(identity, old)) is type(old)
    assert peer.call(lambda: Cell().get()) == 2  # noqa: F821


@check
def a_new_pool_sees_new_values():
    global SETTING_OF_PARENT
    SETTING_OF_PARENT = 1

    def read():
        return SETTING_OF_PARENT

    with Peer() as one, Peer() as two:
        assert one.call(read) == 1
        SETTING_OF_PARENT = 2
        assert one.call(read) == 1  # as a forked worker would
        assert two.call(read) == 2


class Config:
    level = 1
    inner = None


def configured(extra=0):
    return Config.level, Config.inner is Twin, configured.calls, extra


class Twin:
    config = Config


Config.inner = Twin
configured.calls = 0


@check
def a_new_pool_sees_changed_classes_and_functions():
    with Peer() as one, Peer() as two:
        assert one.call(configured) == (1, True, 0, 0)
        keep = Config()
        Config.level = 2
        configured.calls = 5
        configured.__defaults__ = (7,)
        assert one.call(configured) == (1, True, 0, 0)  # as a forked worker would
        assert two.call(configured) == (1, True, 0, 0)  # belongs to a pool that was there before
        with Peer() as three:
            assert three.call(configured) == (2, True, 5, 7)
            assert type(three.call(identity, keep)) is Config
            assert three.call(lambda: Twin.config is Config and Config.inner is Twin)
        assert type(one.call(identity, keep)) is Config
    assert codec.unbundle(codec.bundle(keep)).level == 2


@check
def bundles_carry_all():
    with Peer() as other:
        back = other.pass_on((Point3(1, 2), twice, Colour.RED, lambda: FACTOR, Record(3)))
    assert type(back[0]) is Point3
    assert back[1] is twice
    assert back[2] is Colour.RED
    assert back[3]() == 3
    assert back[4] == Record(3)


@check
def nested_workers_keep_classes():
    def middle(data):
        from corral import _codec as codec

        assert type(codec.unbundle(data)) is Point
        return codec.bundle(codec.unbundle(data))

    with Peer() as other:
        data = codec.bundle(Point(5))
        assert type(codec.unbundle(other.call(middle, data))) is Point


@check
def custom_namespaces():
    space = {"__name__": "somewhere", "base": 10}
    exec("def f(x): return g(x) + base\ndef g(x): return x * 2", space)
    assert peer.call(space["f"], 1) == 12
    space = {"__name__": "__main__", "base": 10}  # what profilers make of a script
    exec("def f(x): return g(x) + base\ndef g(x): return x * 2", space)
    with Peer() as other:
        assert other.call(space["f"], 1) == 12


@check
def failures():
    def fail():
        raise Wrong(3, "no")

    try:
        peer.call(fail)
    except Wrong as exc:
        assert exc.code == 3
        assert exc.args == ("3: no",)
        assert "in fail" in str(exc.__cause__)
        assert str(exc.__cause__).startswith('\n"""\nTraceback')
        assert "_codec" not in str(exc.__cause__)
    else:
        raise AssertionError


@check
def no_cloudpickle():
    assert "cloudpickle" not in sys.modules
    assert peer.evaluate("'cloudpickle' in sys.modules") is False


try:
    report()
finally:
    peer.__exit__()
