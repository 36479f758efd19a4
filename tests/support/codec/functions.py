# Run as a script, by -c and from standard input: everything below belongs to __main__.
# Written as users write: without annotations, with globals.
# ruff: noqa: ANN001, ANN002, ANN201, ANN202, UP033
import asyncio
import functools
import sys
import weakref

from peer import Peer, check, report

FACTOR = 3


peer = Peer()


def twice(x):
    return 2 * x


def scaled(x, by=FACTOR, *, plus=0):
    "Scales."
    return x * by + plus


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def even(n):
    return True if n == 0 else odd(n - 1)


def odd(n):
    return False if n == 0 else even(n - 1)


def adder(n):
    def add(x):
        return x + n

    return add


def counter():
    count = 0

    def value():
        return count

    def up():
        nonlocal count
        count += 1

    return value, up


def shouting(fn):
    @functools.wraps(fn)
    def inner(*args):
        return str(fn(*args)).upper()

    return inner


@shouting
def greeting(name):
    return f"hello {name}"


@functools.lru_cache(maxsize=None)
def cached(n):
    return n if n < 2 else cached(n - 1) + cached(n - 2)


@functools.singledispatch
def describe(x):
    return "something"


@describe.register
def _(x: int):
    return "a number"


def numbers(n):
    yield from range(n)


def listed(n):
    return list(numbers(n))


async def later(x):
    await asyncio.sleep(0)
    return x + FACTOR


def awaited(x):
    return asyncio.run(later(x))


double = lambda x: 2 * x  # noqa: E731


def uses_lambda(x):
    return double(x)


def identity(x):
    return x


@check
def module_level():
    assert peer.call(twice, 4) == 8
    assert peer.call(scaled, 4, plus=1) == 13


@check
def docs_and_names():
    def look(fn):
        return fn.__name__, fn.__qualname__, fn.__doc__, fn.__module__, fn.__kwdefaults__, fn.__defaults__

    assert peer.call(look, scaled) == look(scaled)
    assert peer.call(look, greeting) == look(greeting)


@check
def lambdas():
    assert peer.call(lambda x: x + FACTOR, 1) == 4
    assert peer.call(double, 4) == 8
    assert peer.call(uses_lambda, 4) == 8
    assert peer.call(identity, lambda: 5)() == 5


@check
def recursion():
    assert peer.call(fibonacci, 10) == 55
    assert peer.call(even, 10) is True
    assert peer.call(odd, 10) is False

    def local(n):
        return 1 if n == 0 else n * local(n - 1)

    assert peer.call(local, 5) == 120


@check
def mutual_recursion_of_closures():
    def ping(n):
        return n if n <= 0 else pong(n - 1)

    def pong(n):
        return n if n <= 0 else ping(n - 2)

    assert peer.call(ping, 5) == ping(5)


@check
def closures():
    assert peer.call(adder(5), 1) == 6
    assert peer.call(adder(6), 1) == 7


@check
def changing_cells_are_never_stale():
    value, up = counter()
    assert peer.call(value) == 0
    up()
    assert peer.call(value) == 1
    box = [1]
    assert peer.call(lambda: box[0]) == 1
    read = lambda: box[0]  # noqa: E731
    assert peer.call(read) == 1
    box[0] = 2
    assert peer.call(read) == 2


@check
def shared_cells_stay_shared():
    def run(pair):
        get, increase = pair
        increase()
        increase()
        return get()

    assert peer.call(run, counter()) == 2


@check
def decorated():
    assert peer.call(greeting, "you") == "HELLO YOU"
    assert peer.call(greeting.__wrapped__, "you") == "hello you"


@check
def caches():
    assert peer.call(cached, 30) == 832040
    assert peer.call(lambda: cached(20)) == 6765


@check
def single_dispatch():
    assert peer.call(describe, 1) == "a number"
    assert peer.call(describe, "1") == "something"


@check
def generators_and_coroutines():
    assert peer.call(listed, 3) == [0, 1, 2]
    assert peer.call(awaited, 1) == 4


@check
def partials():
    assert peer.call(functools.partial(scaled, by=2), 4) == 8
    data = [1, 2]
    total = functools.partial(sum, data)
    assert peer.call(total) == 3
    data.append(3)
    assert peer.call(total) == 6


@check
def closures_made_in_the_worker_come_back():
    assert peer.call(adder, 3)(4) == 7
    assert peer.call(lambda: lambda x: x + FACTOR)(1) == 4


@check
def standard_kinds():
    import types

    for obj in (
        types.FunctionType,
        type(None),
        type(...),
        types.SimpleNamespace(a=1),
        range(3),
        ...,
        NotImplemented,
    ):
        assert peer.call(identity, obj) == obj
    assert list(peer.call(identity, {"a": 1}.keys())) == ["a"]
    assert list(peer.call(identity, {"a": 1}.values())) == [1]
    assert bytes(peer.call(identity, memoryview(b"abc"))) == b"abc"
    assert peer.call(identity, types.MappingProxyType({"a": 1}))["a"] == 1
    assert peer.call(identity, sys) is sys
    assert peer.call(lambda f: f.write("") == 0, sys.stderr)
    assert dict(peer.call(identity, weakref.WeakValueDictionary())) == {}


@check
def no_cloudpickle():
    assert "cloudpickle" not in sys.modules
    assert peer.evaluate("'cloudpickle' in sys.modules") is False


try:
    report()
finally:
    peer.__exit__()
