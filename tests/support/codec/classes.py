# Run as a script, by -c and from standard input: everything below belongs to __main__.
# Written as users write: without annotations, with globals.
# ruff: noqa: ANN001, ANN003, ANN201, ANN202, ANN204, ANN205, ANN206, RUF012, UP045, PYI024, PLR0133
import abc
import collections
import dataclasses
import enum
import functools
import sys
import typing

from peer import Peer, check, report

FACTOR = 3


peer = Peer()


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


class Left:
    pass


class Right:
    left = Left


Left.right = Right


@dataclasses.dataclass(frozen=True, order=True)
class Record:
    x: int
    tags: list = dataclasses.field(default_factory=list, compare=False)
    kind: typing.ClassVar[str] = "record"
    point: "Point | None" = None

    def grown(self):
        return dataclasses.replace(self, x=self.x + 1)


@dataclasses.dataclass(slots=True)
class Slim:
    x: int


class Colour(enum.Enum):
    RED = 1
    GREEN = "g"

    def next(self):
        return Colour.GREEN if self is Colour.RED else Colour.RED


class Planet(enum.Enum):
    EARTH = (5.97, 6.37)
    MARS = (0.64, 3.39)

    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius


class Level(enum.IntEnum):
    LOW = enum.auto()
    HIGH = enum.auto()


class Bits(enum.Flag):
    A = enum.auto()
    B = enum.auto()
    AB = A | B


class Pair(typing.NamedTuple):
    a: int
    b: Point

    def swapped(self):
        return Pair(self.b.x, Point(self.a))


Old = collections.namedtuple("Old", "p q")


class Shape(abc.ABC):
    __slots__ = ()

    @abc.abstractmethod
    def area(self): ...


class Square(Shape):
    __slots__ = ("__side", "__weakref__")

    def __init__(self, side):
        self.__side = side

    def area(self):
        return self.__side**2


Shape.register(Point)


class Meta(type):
    registry = {}

    def __new__(meta, name, bases, space, tag="none"):
        cls = super().__new__(meta, name, bases, {**space, "tag": tag})
        meta.registry[name] = cls
        return cls

    def __init__(cls, name, bases, space, tag="none"):
        super().__init__(name, bases, space)

    def __getitem__(cls, n):
        return [cls.tag] * n


class Tagged(metaclass=Meta, tag="t"):
    def itself(self):
        return type(self)["2" == 1 or 2]


class Field:
    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, obj, owner=None):
        return self if obj is None else obj.__dict__[self.name]

    def __set__(self, obj, value):
        obj.__dict__[self.name] = value


class Strict:
    value = Field()

    def __init_subclass__(cls, /, required=None, **kwargs):
        super().__init_subclass__(**kwargs)
        cls.required = required

    def __init__(self, value):
        self.value = value


class Strictest(Strict, required=7):
    pass


T = typing.TypeVar("T")


Number = typing.NewType("Number", int)


class Box(typing.Generic[T]):
    def __init__(self, v: T) -> None:
        self.v = v

    def get(self) -> T:
        return self.v


class Movable(typing.Protocol):
    def moved(self, by): ...


def identity(x):
    return x


def is_instance(x, cls):
    return type(x) is cls


@check
def methods():
    p = Point(1)
    assert peer.call(p.moved, 2) == Point(7)
    assert peer.call(Point.at, 3) == Point(3)
    assert peer.call(Point.origin) == Point(0)
    assert peer.call(Point.moved, p, 1) == Point(4)
    assert peer.call(p, 3) == 4
    assert peer.call(Point3(1, 2).moved, 1).x == 4
    assert peer.call("abc".upper) == "ABC"
    p.x = 100
    assert peer.call(p.moved, 0) == Point(100)


@check
def classes_as_callables():
    assert type(peer.call(Point, 3)) is Point
    assert type(peer.call(Point.Inner, 3)) is Point.Inner
    assert peer.call(int, "3") == 3
    assert peer.call(len, "abc") == 3


@check
def instances_keep_their_class():
    for obj in (
        Point(1),
        Point3(1, 2),
        Point.Inner(2),
        Slim(1),
        Pair(1, Point(2)),
        Old(1, 2),
        Square(3),
        Tagged(),
        Strictest(4),
        Box[int](5),
        Record(1),
    ):
        back = peer.call(identity, obj)
        assert type(back) is type(obj), type(obj)
        assert peer.call(is_instance, obj, type(obj)), type(obj)


@check
def instances_have_their_behaviour():
    assert peer.call(lambda: Point3(1, 2).moved(1).far) is False
    assert peer.call(lambda: Point.best(1, 2).x) == 1
    assert peer.call(lambda: Left.right.left is Left) is True
    assert peer.call(lambda: Point(4).slow) == 8
    assert peer.call(lambda: Square(3).area()) == 9
    assert peer.call(lambda: isinstance(Point(1), Shape)) is True
    assert peer.call(lambda: Pair(1, Point(2)).swapped()) == Pair(2, Point(1))
    assert peer.call(lambda: Old(1, 2)._asdict()) == {"p": 1, "q": 2}
    assert peer.call(lambda: (Tagged()).itself()) == ["t", "t"]
    assert peer.call(lambda: (Strictest(4).value, Strictest.required, Strict.value.name)) == (4, 7, "value")
    assert peer.call(lambda: Box[int](5).get()) == 5


@check
def slots_hold():
    def refuses(obj):
        try:
            obj.other = 1
        except AttributeError:
            return True
        return False

    assert peer.call(refuses, Square(3))
    assert peer.call(refuses, Slim(3))


@check
def abstract_classes_stay_abstract():
    def refuses():
        try:
            Shape()
        except TypeError:
            return True
        return False

    assert peer.call(refuses)


@check
def dataclasses_are_whole():
    def look(r):
        return (
            [f.name for f in dataclasses.fields(r)],
            dataclasses.asdict(r),
            r.grown(),
            r < r.grown(),
            Record.kind,
        )

    r = Record(1, ["t"])
    assert peer.call(look, r) == look(r)
    assert peer.call(lambda: [f.default is dataclasses.MISSING for f in dataclasses.fields(Record)]) == [
        True,
        True,
        False,
    ]
    assert peer.call(lambda: Record(2).tags) == []


@check
def enums_are_singletons():
    assert peer.call(identity, Colour.RED) is Colour.RED
    assert peer.call(Colour.RED.next) is Colour.GREEN
    assert peer.call(lambda c: c is Colour.RED, Colour.RED)
    assert peer.call(lambda: Colour("g")) is Colour.GREEN
    assert peer.call(lambda: Colour["RED"]) is Colour.RED
    assert peer.call(lambda: [p.mass for p in Planet]) == [5.97, 0.64]
    assert peer.call(lambda: Level.LOW + 1) == 2
    assert peer.call(identity, Level.HIGH) is Level.HIGH
    assert peer.call(lambda: Bits.A | Bits.B) is Bits.AB
    assert peer.call(lambda: [m.name for m in Colour]) == ["RED", "GREEN"]


@check
def local_classes():
    class Local:
        def __init__(self, v):
            self.v = v

        def grown(self):
            return Local(self.v + 1)

    class Sub(Local):
        def grown(self):
            return Sub(super().grown().v)

    assert type(peer.call(identity, Local(1))) is Local
    back = peer.call(lambda: Sub(1).grown())
    assert type(back) is Sub
    assert back.v == 2
    assert type(peer.call(Sub, 1)) is Sub


@check
def classes_made_in_the_worker_come_back():
    def make():
        class Made:
            factor = 2

            def get(self):
                return self.factor * FACTOR

        return Made()

    made = peer.call(make)
    assert made.get() == 6
    assert type(peer.call(identity, made)) is type(made)


@check
def typing_objects():
    assert peer.call(lambda t: t is T, T)
    assert peer.call(identity, T) is T
    assert peer.call(identity, Number) is Number
    assert peer.call(identity, list[int]) == list[int]
    assert peer.call(identity, typing.Optional[int]) == typing.Optional[int]
    assert peer.call(identity, Box[int]) == Box[int]
    assert peer.call(lambda: Box[int].__args__) == (int,)
    assert peer.call(lambda: isinstance(Point(1), Movable) if False else Movable._is_protocol)


@check
def no_cloudpickle():
    assert "cloudpickle" not in sys.modules
    assert peer.evaluate("'cloudpickle' in sys.modules") is False


try:
    report()
finally:
    peer.__exit__()
