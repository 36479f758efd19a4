"""What a task raises arrives whole, or described; never not at all."""

from __future__ import annotations

import threading
import traceback
from typing import Any

import pytest

from corral._codec import decode_failure, encode_failure
from corral.errors import DecodeError, EncodeError, RemoteTraceback


def raised(exc: BaseException, cause: BaseException | None = None) -> BaseException:
    """The exception as a task that raises it leaves it."""
    try:
        if cause is not None:
            raise exc from cause  # noqa: TRY301 - a task raises
        raise exc  # noqa: TRY301
    except BaseException as caught:
        return caught


def sent(exc: BaseException, phase: str = "running") -> Any:
    return decode_failure(encode_failure(exc, phase))


class TwoArguments(Exception):
    """Its constructor takes what `args` does not hold."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__()
        self.code = code


class Counting(Exception):
    made = 0

    def __init__(self, text: str) -> None:
        type(self).made += 1
        super().__init__(text)


class HoldsLock(Exception):
    def __init__(self) -> None:
        super().__init__("held")
        self.lock = threading.Lock()


class RefusesToLoad(Exception):
    def __reduce__(self) -> Any:
        return _explode, ("loading",)


class BadStr(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class NotAnException(Exception):
    def __reduce__(self) -> Any:
        return int, ()


class Family(ExceptionGroup):
    def derive(self, excs: Any) -> Family:
        return Family(self.message, excs)


def _explode(text: str) -> Any:
    raise RuntimeError(text)


def test_class_arguments_and_attributes_come_back() -> None:
    original = raised(OSError(2, "No such file", "name"))
    exc = sent(original)
    assert type(exc) is FileNotFoundError
    assert (exc.errno, exc.filename, exc.args) == (2, "name", (2, "No such file"))


def test_the_cause_is_the_workers_traceback() -> None:
    cause = sent(raised(ValueError("x"))).__cause__
    assert type(cause) is RemoteTraceback
    assert str(cause).startswith('\n"""\nTraceback (most recent call last):\n')
    assert str(cause).endswith('ValueError: x\n"""')
    assert "in raised" in str(cause)


def test_what_is_printed_shows_the_traceback_once() -> None:
    text = "".join(traceback.format_exception(sent(raised(ValueError("x"), KeyError("k")))))
    assert text.count("in raised") == 1
    assert text.count("direct cause") == 3


def test_constructors_need_not_take_what_args_hold() -> None:
    exc = sent(raised(TwoArguments(3, "no")))
    assert (type(exc), exc.code, exc.args) == (TwoArguments, 3, ("3: no",))
    exc = sent(raised(KeywordOnly(code=4)))
    assert (type(exc), exc.code) == (KeywordOnly, 4)


def test_an_exception_is_built_once_on_arrival() -> None:
    original = raised(Counting("x"))
    before = Counting.made
    data = encode_failure(original, "running")
    assert Counting.made == before
    decode_failure(data)
    assert Counting.made == before + 1


def test_notes_come_back() -> None:
    original = raised(ValueError("x"))
    original.add_note("a note")
    assert sent(original).__notes__ == ["a note"]


def test_causes_and_contexts_come_back_behind_the_traceback() -> None:
    exc = sent(raised(ValueError("x"), raised(TwoArguments(1, "why"), raised(KeyError("k")))))
    assert type(exc) is ValueError
    cause = exc.__cause__.__cause__
    assert (type(cause), cause.code) == (TwoArguments, 1)
    assert type(cause.__cause__) is KeyError
    try:
        try:
            raise KeyError("first")  # noqa: TRY301
        except KeyError:
            raise ValueError("second")  # noqa: B904 - the context is what is tried
    except ValueError as caught:
        exc = sent(caught)
    assert type(exc.__context__) is KeyError
    assert exc.__cause__.__cause__ is None


def test_cycles_of_causes_end() -> None:
    one, two = ValueError("1"), KeyError("2")
    one.__cause__, two.__cause__ = two, one
    exc = sent(one)
    assert exc.__cause__.__cause__.__cause__ is exc or type(exc.__cause__.__cause__) is KeyError


def test_what_cannot_be_sent_is_described() -> None:
    exc = sent(raised(HoldsLock()))
    assert type(exc) is EncodeError
    assert "HoldsLock: held" in str(exc)
    assert "cannot pickle '_thread.lock' object" in str(exc)
    assert "in raised" in str(exc.__cause__)


def test_what_cannot_be_rebuilt_from_its_pickle_is_rebuilt_from_its_parts() -> None:
    exc = sent(raised(RefusesToLoad("text")))
    assert (type(exc), exc.args) == (RefusesToLoad, ("text",))


def test_what_cannot_be_rebuilt_at_all_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_failure(raised(TwoArguments(1, "gone")), "running")
    monkeypatch.delattr(f"{__name__}.TwoArguments")
    exc = decode_failure(data)
    assert type(exc) is DecodeError
    assert "TwoArguments: 1: gone" in str(exc)
    assert "in raised" in str(exc.__cause__)


def test_a_pickle_of_something_else_is_described() -> None:
    assert type(sent(raised(NotAnException("x")))) is DecodeError


def test_an_unprintable_exception_arrives() -> None:
    exc = sent(raised(BadStr(1)))
    assert type(exc) is BadStr
    assert exc.args == (1,)


def test_groups_come_back_with_their_members() -> None:
    inner = raised(TwoArguments(1, "a"), KeyError("why"))
    inner.add_note("a note")
    exc = sent(raised(Family("several", [inner, ExceptionGroup("nested", [ValueError("b")])])))
    assert type(exc) is Family
    assert exc.message == "several"
    first, second = exc.exceptions
    assert (type(first), first.code, first.__notes__) == (TwoArguments, 1, ["a note"])
    assert type(first.__cause__) is KeyError
    assert type(second) is ExceptionGroup
    assert type(second.exceptions[0]) is ValueError


def test_a_group_keeps_its_other_members_if_one_cannot_be_sent() -> None:
    exc = sent(raised(ExceptionGroup("several", [ValueError("a"), HoldsLock()])))
    assert [type(member) for member in exc.exceptions] == [ValueError, EncodeError]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration])
def test_every_base_exception_arrives(kind: type[BaseException]) -> None:
    exc = sent(raised(kind(3)))
    assert (type(exc), exc.args) == (kind, (3,))


def test_the_phase_is_told_unless_it_is_the_task_itself() -> None:
    assert sent(raised(ValueError("x")), "decoding").__notes__ == ["(while decoding)"]
    assert not hasattr(sent(raised(ValueError("x"))), "__notes__")


def test_frames_of_corral_that_called_the_task_are_left_out() -> None:
    space = {"__name__": "corral._worker.loop", "raised": raised, "ValueError": ValueError}
    code = (
        "def call():\n    try:\n        raise ValueError('in corral')\n    except ValueError as e: return e\n"
    )
    exec(code, space)
    assert "in call" in str(sent(space["call"]()).__cause__)  # type: ignore[operator] # nothing but corral's
    code = "def call(task):\n    try:\n        task()\n    except ValueError as e: return e\n"
    exec(code, space)

    def task() -> None:
        raise ValueError("in the task")

    text = str(sent(space["call"](task)).__cause__)  # type: ignore[operator]
    assert "in task" in text
    assert "in call" not in text


def test_a_long_chain_is_cut() -> None:
    exc: BaseException = ValueError("0")
    for number in range(300):
        exc = raised(ValueError(str(number)), exc)
    assert type(sent(exc)) is ValueError


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"\x80\x05N.", encode_failure(ValueError(), "running")[:-9]]
)
def test_damaged_failures_are_described(data: bytes) -> None:
    assert type(decode_failure(data)) is DecodeError


def test_a_nested_workers_traceback_is_kept() -> None:
    exc = sent(raised(sent(raised(ValueError("deep")))))
    assert type(exc) is ValueError
    inner = exc.__cause__.__cause__
    assert type(inner) is RemoteTraceback
    assert "deep" in str(inner)


def test_describing_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral._codec._failures.format_remote", _explode)
    exc = sent(raised(BadStr(1)))
    assert "BadStr: (its __str__ fails)" in str(exc)
    assert "describing it failed" in str(exc.__cause__)


def test_a_group_whose_class_cannot_be_sent_is_a_plain_group(monkeypatch: pytest.MonkeyPatch) -> None:
    from corral._codec import _failures

    whole = _failures._whole
    monkeypatch.setattr(_failures, "_whole", lambda obj: _explode("x") if obj is Family else whole(obj))
    exc = sent(raised(Family("several", [ValueError("a")])))
    assert type(exc) is ExceptionGroup
    assert type(exc.exceptions[0]) is ValueError


def test_a_group_that_cannot_be_rebuilt_is_a_plain_group(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_failure(raised(Family("several", [ValueError("a")])), "running")
    monkeypatch.delattr(f"{__name__}.Family")
    exc: Any = decode_failure(data)
    assert type(exc) is ExceptionGroup
    assert exc.message == "several"


class OddDict(Exception):
    """Its attributes cannot be sent, its own pickle can."""

    def __reduce__(self) -> Any:
        return OddDict, self.args


def test_its_own_pickle_alone_will_do() -> None:
    original = raised(OddDict("x"))
    original.lock = threading.Lock()  # type: ignore[attr-defined]
    exc = sent(original)
    assert (type(exc), exc.args) == (OddDict, ("x",))


def test_its_own_pickle_alone_may_not_do(monkeypatch: pytest.MonkeyPatch) -> None:
    original = raised(OddDict("x"))
    original.lock = threading.Lock()  # type: ignore[attr-defined]
    data = encode_failure(original, "running")
    monkeypatch.setattr(OddDict, "__init__", _explode)
    assert type(decode_failure(data)) is DecodeError


def test_large_exceptions_arrive_in_one_piece() -> None:
    exc = sent(raised(ValueError(bytearray(1 << 20))))
    assert len(exc.args[0]) == 1 << 20
