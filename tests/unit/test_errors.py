from __future__ import annotations

import concurrent.futures.process
import multiprocessing
import pickle
import queue
import subprocess
import sys

import pytest

import corral
from corral import errors

CLASSES = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]


@pytest.mark.parametrize("name", CLASSES)
def test_every_exception_survives_a_round_trip_under_its_public_name(name: str) -> None:
    kind = getattr(errors, name)
    back = pickle.loads(pickle.dumps(kind("what happened")))
    assert type(back) is kind
    assert back.args[0] == "what happened"
    assert kind.__module__ == "corral.errors"
    assert kind() is not None


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"RemoteTraceback"}))
def test_every_exception_is_drawn_in_the_tree(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.CorralError | Warning)
    assert name in (errors.__doc__ or "").split("Role in the flow")[0].split()


@pytest.mark.parametrize(
    ("name", "caught"),
    [
        ("EncodeError", pickle.PicklingError),
        ("EncodeError", TypeError),
        ("DecodeError", pickle.UnpicklingError),
        ("TaskTimeout", multiprocessing.TimeoutError),
        ("TaskTimeout", TimeoutError),
        ("WorkerLost", concurrent.futures.process.BrokenProcessPool),
        ("PoolBroken", concurrent.futures.process.BrokenProcessPool),
        ("PoolClosed", ValueError),
        ("PoolClosed", RuntimeError),
        ("ChannelClosed", OSError),
        ("ChannelBroken", EOFError),
        ("ChannelFull", queue.Full),
        ("ChannelEmpty", queue.Empty),
    ],
)
def test_it_is_caught_as_what_a_drop_in_user_catches(name: str, caught: type[Exception]) -> None:
    assert issubclass(getattr(errors, name), caught)


def test_worker_lost_says_who_how_and_while_doing_what() -> None:
    lost = errors.WorkerLost(task="shop.price", pid=42, exitcode=-9, phase="running", attempt=2)
    assert str(lost) == "worker 42 was killed by SIGKILL while running shop.price (attempt 2)"
    back = pickle.loads(pickle.dumps(lost))
    assert (back.pid, back.exitcode, back.phase, back.attempt) == (42, -9, "running", 2)
    assert str(back) == str(lost)


@pytest.mark.parametrize(
    ("exitcode", "words"),
    [
        (0, "exited with code 0"),
        (3, "exited with code 3"),
        (-11, "was killed by SIGSEGV"),
        (-99, "was killed by signal 99"),
        (None, "is gone, nobody knows how"),
    ],
)
def test_an_exit_code_is_put_into_words(exitcode: int | None, words: str) -> None:
    assert errors.describe_exit(exitcode) == words


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="NoSuchError"):
        errors.NoSuchError  # noqa: B018


def test_importing_the_tree_leaves_the_slow_modules_alone() -> None:
    code = (
        "import sys, corral.errors\n"
        "print(*({'multiprocessing', 'concurrent.futures', 'queue', 'pickle', 're'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("", "")


@pytest.mark.parametrize("name", ["AuthenticationError", "BufferTooShort", "ProcessError", "TimeoutError"])
def test_the_exceptions_of_multiprocessing_are_its_own(name: str) -> None:
    assert getattr(corral, name) is getattr(multiprocessing, name)
