# Run as a script, by -c and from standard input: everything below belongs to __main__.
# Written as users write: without annotations, with globals.
# ruff: noqa: ANN001, ANN002, ANN206, PLW0108, ANN201, ANN202, ANN204, RUF012, PT017, PLW0603
import enum
import linecache
import sys
import threading

from peer import Peer, check, report

peer = Peer()


class Guarded:
    _lock = threading.Lock()
    limit = 3

    class Kind(enum.Enum):
        A = 1
        B = 2

        def other(self):
            return Guarded.Kind.B if self is Guarded.Kind.A else Guarded.Kind.A

    def get(self):
        return self.limit

    def locked(self):
        with self._lock:
            return 1

    @classmethod
    def named(cls):
        return super().__name__ if False else cls.__name__


class Node:
    def __init__(self, value, *children):
        self.value = value
        self.children = children
        for child in children:
            child.parent = self


class Slow:
    """Refers to itself and to functions that refer to it."""

    instances = []

    def __init__(self):
        Slow.instances.append(self)


def helper(x):
    return Caller.times * x


class Caller:
    times = 2
    help = helper
    table = {"helper": helper}

    def call(self, x):
        return self.table["helper"](x)


helper.owner = Caller


def identity(x):
    return x


@check
def class_attributes_that_cannot_be_sent_are_left_out_and_explained():
    assert peer.call(lambda: Guarded().get()) == 3
    assert peer.call(Guarded.named) == "Guarded"
    try:
        peer.call(Guarded().locked)
    except AttributeError as exc:
        assert "_lock" in exc.__notes__[0]
        assert "Guarded" in exc.__notes__[0]
    else:
        raise AssertionError


@check
def nested_enums():
    assert peer.call(identity, Guarded.Kind.A) is Guarded.Kind.A
    assert peer.call(lambda: Guarded.Kind.A.other()) is Guarded.Kind.B
    assert peer.call(lambda: [k.value for k in Guarded.Kind]) == [1, 2]


@check
def object_graphs():
    tree = Node(1, Node(2), Node(3, Node(4)))
    back = peer.call(identity, tree)
    assert back.children[1].children[0].parent is back.children[1]
    assert back.children[1].parent is back


@check
def classes_that_hold_their_instances():
    Slow()
    back = peer.call(lambda: (len(Slow.instances), type(Slow.instances[0]) is Slow))
    assert back == (1, True)


@check
def functions_and_classes_entangled():
    assert peer.call(helper, 2) == 4
    assert peer.call(lambda: Caller().call(3)) == 6
    assert peer.call(lambda: helper.owner is Caller and Caller.help is helper)
    with Peer() as other:
        assert type(other.call(Caller)) is Caller


@check
def cells_of_a_notebook():
    source = "def cell_function():\n    return 1 / 0  # a cell's line\n"
    linecache.cache["<cell 1>"] = (len(source), None, source.splitlines(keepends=True), "<cell 1>")
    exec(compile(source, "<cell 1>", "exec"), globals())
    try:
        peer.call(cell_function)  # noqa: F821
    except ZeroDivisionError as exc:
        assert "return 1 / 0  # a cell's line" in str(exc.__cause__), exc.__cause__
    else:
        raise AssertionError


@check
def modules_made_at_run_time():
    module = type(sys)("made_here")
    exec(
        "BASE = 5\ndef job(x):\n    return inner(x) + BASE\ndef inner(x):\n    return x * 2", module.__dict__
    )
    sys.modules["made_here"] = module
    assert peer.call(module.job, 1) == 7


@check
def generic_syntax():
    if sys.version_info < (3, 12):
        return
    source = """
type Numbers[X] = list[X]
class Stack[T]:
    def __init__(self): self.items: list[T] = []
    def push(self, item: T) -> T:
        self.items.append(item)
        return item
def first[T](items: Numbers[T]) -> T:
    return items[0]
"""
    exec(source, globals())
    assert peer.call(lambda: first([1, 2])) == 1  # noqa: F821
    assert peer.call(first, [3]) == 3  # noqa: F821
    assert peer.call(lambda: Stack().push(3)) == 3  # noqa: F821
    assert type(peer.call(identity, Stack[int]())) is Stack  # noqa: F821
    assert peer.call(lambda: Stack.__type_params__[0].__name__) == "T"  # noqa: F821
    assert peer.call(lambda: Numbers.__name__) == "Numbers"  # noqa: F821


@check
def annotations_that_cannot_be_sent():
    def f(x: threading.Lock()):
        return x

    assert peer.call(f, 1) == 1


@check
def classes_with_a_metaclass_in_c():
    import ctypes

    class Pair(ctypes.Structure):
        _fields_ = [("a", ctypes.c_int), ("b", ctypes.c_int)]

        def total(self):
            return self.a + self.b

    assert peer.call(lambda: Pair(1, 2).total()) == 3

    class Either(ctypes.Union):
        _anonymous_ = ["pair"]
        _fields_ = [("pair", Pair), ("both", ctypes.c_int64)]

        def itself(self):
            return __class__ is Either

    assert peer.call(lambda: (Either(Pair(1, 0)).both, Either().itself(), Either(Pair(3, 4)).b)) == (
        1,
        True,
        4,
    )


@check
def nested_peers_share_definitions():
    def nested(node):
        from peer import Peer

        with Peer() as inner:
            return inner.call(lambda n: (n, type(n) is Node, FACTOR), node)

    global FACTOR
    FACTOR = 9
    back = peer.call(nested, Node(1))
    assert type(back[0]) is Node
    assert back[1:] == (True, 9)


@check
def changed_cells_of_named_functions():
    def outer():
        count = 0

        def named():
            return count

        def up():
            nonlocal count
            count += 1

        named.__qualname__ = "named"
        return named, up

    global named
    named, up = outer()
    assert peer.call(named) == 0
    assert peer.call(lambda: named()) == 0
    up()
    assert peer.call(named) == 1
    assert peer.call(lambda: named()) == 1


@check
def forked_children_share_what_was_known():
    import os

    from corral import _codec as codec

    codec.bundle(Node(0))
    read, write = os.pipe()
    child = os.fork()
    if not child:
        made = type("Made", (), {"__module__": "__main__", "x": 5})
        with os.fdopen(write, "wb") as out:
            out.write(codec.encode_reply((Node(1), made(), lambda: made.x)).payload)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as source:
        data = source.read()
    os.waitpid(child, 0)
    node, thing, call = codec.decode(data)
    assert type(node) is Node
    assert b"Node.__init__" not in data  # the class was not sent again
    assert thing.x == call() == 5


try:
    report()
finally:
    peer.__exit__()
