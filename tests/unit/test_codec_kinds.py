"""Every kind of object that the codec writes in its own way, built again as a stranger would build it."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import sys
import types
import typing
import weakref
from typing import Any

import pytest

from corral import _codec as codec
from corral._codec import _classes, _registry
from corral.errors import EncodeError


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Send an object, and receive it as a process that knows none of its definitions."""

    def send(obj: object) -> Any:
        data = codec.bundle(obj)
        with monkeypatch.context() as patch:
            for name in ("objects", "weak_objects", "keys", "definitions", "absent", "sources"):
                patch.setattr(_registry, name, {})
            return codec.unbundle(data)

    return send


class Text(str, enum.Enum):  # noqa: UP042 - as users write
    A = "a"


def test_classes_are_built_again(elsewhere: Any) -> None:
    class Local:
        value = 5

        def get(self) -> int:
            return self.value

        @staticmethod
        def static() -> int:
            return 1

        @classmethod
        def named(cls) -> str:
            return cls.__name__

        @property
        def double(self) -> int:
            return 2 * self.value

        @functools.cached_property
        def triple(self) -> int:
            return 3 * self.value

        def __class_getitem__(cls, item: object) -> object:
            return item

    made = elsewhere(Local)
    assert made is not Local
    thing = made()
    assert (thing.get(), thing.static(), thing.named(), thing.double, thing.triple) == (5, 1, "Local", 10, 15)
    assert made[3] == 3
    assert made.__module__ == Local.__module__
    assert made.__qualname__ == Local.__qualname__


def test_super_without_arguments(elsewhere: Any) -> None:
    class Base:
        def who(self) -> list[str]:
            return ["base"]

    class Derived(Base):
        def who(self) -> list[str]:
            return [*super().who(), __class__.__name__]  # type: ignore[name-defined]

    assert elsewhere(Derived)().who() == ["base", "Derived"]


@pytest.mark.parametrize("mixin", [str, int, float, bytes])
def test_enums_with_a_mixin(mixin: type, elsewhere: Any) -> None:
    class Kind(mixin, enum.Enum):  # type: ignore[misc]
        A = mixin(b"1") if mixin is bytes else mixin(1)

    made = elsewhere(Kind)
    assert isinstance(made.A, mixin)
    assert Kind.A.value == made.A
    assert made(Kind.A.value) is made.A
    assert [member.name for member in made] == ["A"]


def test_enums_with_a_tuple_and_with_a_class_of_its_own(elsewhere: Any) -> None:
    class Pair(tuple, enum.Enum):  # noqa: SLOT001
        A = (1, 2)

    assert elsewhere(Pair).A == (1, 2)

    class Fraction(complex, enum.Enum):
        A = 1j

    assert elsewhere(Fraction).A == 1j

    class Bad(complex, enum.Enum):
        A = 1j

    Bad.A._value_ = "not what the member is made of"
    with pytest.raises(EncodeError):
        codec.bundle(Bad)


def test_abstract_classes(elsewhere: Any) -> None:
    class Shape(abc.ABC):
        @property
        @abc.abstractmethod
        def area(self) -> int: ...

        @abc.abstractmethod
        def draw(self) -> None: ...

    class Other:
        pass

    Shape.register(Other)
    made, other = elsewhere((Shape, Other()))
    assert made.__abstractmethods__ == {"area", "draw"}
    assert isinstance(other, made)
    with pytest.raises(TypeError):
        made()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_abstract_descriptors(elsewhere: Any) -> None:
    class Shape(abc.ABC):
        @abc.abstractproperty
        def area(self) -> int: ...

        @abc.abstractclassmethod
        def make(cls) -> None: ...

        @abc.abstractstaticmethod
        def look() -> None: ...

    assert elsewhere(Shape).__abstractmethods__ == {"area", "make", "look"}


def test_slots(elsewhere: Any) -> None:
    class One:
        __slots__ = "x"  # noqa: PLC0205 - a string is allowed

    class Two(One):
        __slots__ = ["__private", "y"]

        def __init__(self) -> None:
            self.x, self.y, self.__private = 1, 2, 3  # type: ignore[misc]

        def all(self) -> tuple[int, int, int]:
            return self.x, self.y, self.__private  # type: ignore[attr-defined]

    made = elsewhere(Two)()
    assert made.all() == (1, 2, 3)
    assert not hasattr(made, "__dict__")
    assert elsewhere(Two()).all() == (1, 2, 3)
    assert elsewhere([Two.y])[0].__name__ == "y"


def test_dataclasses(elsewhere: Any) -> None:
    @dataclasses.dataclass
    class Record:
        x: int
        y: list[int] = dataclasses.field(default_factory=list)
        z: dataclasses.InitVar[int] = 3
        w: int = dataclasses.field(default=4, kw_only=True)

    made = elsewhere(Record)
    assert [(f.name, f.default is dataclasses.MISSING) for f in dataclasses.fields(made)] == [
        ("x", True),
        ("y", True),
        ("w", False),
    ]
    assert dataclasses.asdict(made(1)) == {"x": 1, "y": [], "w": 4}
    assert dataclasses.replace(made(1), x=2, z=1).x == 2


def test_type_variables(elsewhere: Any) -> None:
    one = typing.TypeVar("one", bound=int, covariant=True)  # noqa: PLC0105
    two = typing.TypeVar("two", int, str)
    spec = typing.ParamSpec("spec")
    many = typing.TypeVarTuple("many")
    new = typing.NewType("new", int)
    made = elsewhere((one, two, spec, many, new))
    assert (made[0].__name__, made[0].__bound__, made[0].__covariant__) == ("one", int, True)
    assert made[1].__constraints__ == (int, str)
    assert [str(each) for each in made[2:4]] == ["~spec", "many"] or made[2].__name__ == "spec"
    assert (made[4].__supertype__, made[4](5)) == (int, 5)

    class Box(typing.Generic[one]):
        pass

    made_box = elsewhere(Box)
    assert made_box[int].__args__ == (int,)
    assert elsewhere(Box[int]).__args__ == (int,)


def test_functions_with_everything(elsewhere: Any) -> None:
    def fn(a: int, b: str = "b", *, c: float = 1.5) -> tuple[int, str, float]:
        """Say it."""
        return a, b, c

    fn.attribute = 5  # type: ignore[attr-defined]
    made = elsewhere(fn)
    assert made is not fn
    assert made(1) == (1, "b", 1.5)
    for name in ("__name__", "__qualname__", "__doc__", "__module__", "__defaults__", "__kwdefaults__"):
        assert getattr(made, name) == getattr(fn, name)
    assert made.__annotations__ == fn.__annotations__
    assert made.attribute == 5
    assert made.__globals__ is globals()


def test_renamed_functions(elsewhere: Any) -> None:
    def fn() -> None: ...

    fn.__name__, fn.__qualname__, fn.__module__, fn.__doc__ = "other", "some.other", "elsewhere", "text"
    made = elsewhere(fn)
    assert (made.__name__, made.__qualname__, made.__module__, made.__doc__) == (
        "other",
        "some.other",
        "elsewhere",
        "text",
    )


def test_cells(elsewhere: Any) -> None:
    full, empty = types.CellType(5), types.CellType()
    made = elsewhere([full, empty])
    assert made[0].cell_contents == 5
    with pytest.raises(ValueError, match="empty"):
        _ = made[1].cell_contents

    def later() -> int:
        return value

    made_later = elsewhere(later)
    with pytest.raises(NameError):
        made_later()
    value = 3
    assert elsewhere(later)() == value


def test_code_and_descriptors(elsewhere: Any) -> None:
    assert eval(elsewhere(compile("1 + 2", "<x>", "eval"))) == 3
    assert elsewhere([types.FunctionType.__code__])[0] is types.FunctionType.__code__
    assert elsewhere(types.MappingProxyType({"a": 1}))["a"] == 1
    assert elsewhere([staticmethod(len)])[0].__func__ is len
    assert elsewhere([property(len)])[0].fget is len


def test_views_of_dictionaries(elsewhere: Any) -> None:
    for content in ({"a": 1}, collections.OrderedDict(a=1)):
        assert list(elsewhere(content.keys())) == ["a"]
        assert list(elsewhere(content.values())) == [1]
        assert list(elsewhere(content.items())) == [("a", 1)]


def test_weak_containers(elsewhere: Any) -> None:
    class Key:
        pass

    key = Key()
    made, kept = elsewhere((weakref.WeakKeyDictionary({key: 1}), key))
    assert made[kept] == 1
    made, kept = elsewhere((weakref.WeakSet([key]), key))
    assert kept in made
    made, kept = elsewhere((weakref.WeakValueDictionary({"k": key}), key))
    assert made["k"] is kept


def test_lru_caches(elsewhere: Any) -> None:
    @functools.lru_cache(maxsize=3, typed=True)
    def square(x: int) -> int:
        return x * x

    square(2)
    made = elsewhere(square)
    assert made(3) == 9
    assert made.cache_parameters() == {"maxsize": 3, "typed": True}
    assert made.cache_info().currsize == 1


def test_a_metaclass_that_only_c_can_make_a_class_of_is_left_to_cloudpickle(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Any
) -> None:
    class Local:
        value = 5

    monkeypatch.setattr(_classes, "is_foreign", lambda meta: True)
    assert elsewhere(Local).value == 5
    assert "cloudpickle" in sys.modules


def test_modules_that_do_not_import_stop_only_what_uses_them(
    monkeypatch: pytest.MonkeyPatch, elsewhere: Any
) -> None:
    package, inner = types.ModuleType("gone_package"), types.ModuleType("gone_package.inner")
    package.__path__ = []
    package.inner = inner  # type: ignore[attr-defined]
    for module in (package, inner):
        module.__file__ = "somewhere"
        monkeypatch.setitem(sys.modules, module.__name__, module)
    space: dict[str, Any] = {"__name__": "made_up", "gone_package": package}
    exec("def fn(x):\n    return gone_package.inner if x else 1", space)
    data = codec.bundle(space["fn"])
    monkeypatch.delitem(sys.modules, "gone_package.inner")
    call: Any = codec.unbundle(data)
    assert call(False) == 1


def test_unknown_interpreter_types_are_found_in_types(elsewhere: Any) -> None:
    for kind in (
        types.FunctionType,
        types.CodeType,
        types.CellType,
        types.GenericAlias,
        type(None),
        type(...),
    ):
        assert elsewhere([kind])[0] is kind
    with pytest.raises(EncodeError):
        codec.bundle([type(iter([]))])


def test_instances_of_many_classes(elsewhere: Any) -> None:
    """More kinds than the pickler cares to remember."""
    from corral._codec import _pickler

    before = set(_pickler._ordinary)
    try:
        _pickler._ordinary.update(type(f"K{n}", (), {}) for n in range(_pickler._MAX_ORDINARY))
        assert elsewhere([Text.A, types.SimpleNamespace(a=1)])[1].a == 1
    finally:
        _pickler._ordinary.clear()
        _pickler._ordinary.update(before)
