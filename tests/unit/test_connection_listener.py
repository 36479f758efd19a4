"""Listeners and clients: both families, keys, and clients that behave badly."""

from __future__ import annotations

import multiprocessing.connection
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from corral import connection
from corral.connection import AuthenticationError, Client, Connection, Listener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = b"the key"
FAMILIES = ("AF_INET", "AF_UNIX")


def run(call: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    """Run `call` in a thread; what it returned or raised comes to be in the list."""
    outcome: list[Any] = []

    def body() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread, outcome


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("key", [None, b"", KEY])
def test_a_client_is_accepted_and_heard(family: str, key: bytes | None) -> None:
    with Listener(family=family, authkey=key) as listener:
        thread, outcome = run(lambda: Client(listener.address, authkey=key))
        with listener.accept() as accepted:
            thread.join()
            with outcome[0] as client:
                assert isinstance(client, Connection)
                client.send(["hello"])
                assert accepted.recv() == ["hello"]
                accepted.send_bytes(b"back")
                assert client.recv_bytes() == b"back"
                assert connection.wait([client, accepted], 0) == []
            assert connection.wait([accepted]) == [accepted]
            with pytest.raises(EOFError):
                accepted.recv()
        if family == "AF_INET":
            assert listener.last_accepted[0] == "127.0.0.1"
    with pytest.raises(OSError, match="closed"):
        listener.accept()


def test_abstract_names_and_what_is_no_address() -> None:
    with Listener("\0corral-test-abstract") as listener, Client(listener.address) as client:
        with listener.accept() as accepted:
            client.send(1)
            assert accepted.recv() == 1
        with pytest.raises(OSError, match="in use"):
            Listener(listener.address)
    with pytest.raises(ValueError, match=r"(?i)family"):
        Listener(r"\\.\test")
    with pytest.raises((TypeError, ValueError), match="unrecognized"):
        Client(7)
    with pytest.raises(TypeError, match="byte string"):
        Listener(authkey="text")  # type: ignore[arg-type]


@pytest.fixture(params=FAMILIES)
def listener(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(connection, "_AUTHENTICATION_S", 0.2)
    with Listener(family=request.param, authkey=KEY) as listener:
        yield listener


def plug(listener: Listener) -> socket.socket:
    family = socket.AF_UNIX if isinstance(listener.address, str) else socket.AF_INET
    sock = socket.socket(family)
    sock.connect(listener.address)
    return sock


def behaves_well(listener: Listener) -> bool:
    """Whether a client that knows the key is still served."""
    thread, outcome = run(lambda: Client(listener.address, authkey=KEY))
    with listener.accept() as accepted:
        thread.join()
        with outcome[0] as client:
            client.send("good")
            return bool(accepted.recv() == "good")


def test_a_wrong_key_is_told_to_both_sides(listener: Listener) -> None:
    thread, outcome = run(lambda: Client(listener.address, authkey=b"another"))
    with pytest.raises(AuthenticationError):
        listener.accept()
    thread.join()
    assert isinstance(outcome[0], AuthenticationError)
    assert behaves_well(listener)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack("!i", 20) + b"x" * 20,
        struct.pack("!i", 1 << 30),
        struct.pack("!i", -1) + struct.pack("!Q", 1 << 62),
        struct.pack("!i", -7),
        b"\0",
    ],
    ids=["another protocol", "a wrong digest", "too long", "far too long", "negative", "half a length"],
)
def test_garbage_is_an_authentication_error(listener: Listener, garbage: bytes) -> None:
    with plug(listener) as sock:
        sock.sendall(garbage)
        with pytest.raises(AuthenticationError):
            listener.accept()
    assert behaves_well(listener)


def test_a_client_that_vanishes_is_an_authentication_error(listener: Listener) -> None:
    plug(listener).close()
    with pytest.raises(AuthenticationError, match="did not authenticate"):
        listener.accept()
    assert behaves_well(listener)


def test_a_silent_client_is_not_waited_for(listener: Listener) -> None:
    with plug(listener), pytest.raises(AuthenticationError, match="did not authenticate"):
        listener.accept()
    assert behaves_well(listener)


def test_an_accepted_client_may_be_silent_as_long_as_it_likes(listener: Listener) -> None:
    thread, outcome = run(lambda: Client(listener.address, authkey=KEY))
    with listener.accept() as accepted:
        thread.join()
        assert not accepted.poll(0.25)  # longer than the limit while it authenticates
        with outcome[0] as client:
            answer, answered = run(accepted.recv)
            answer.join(0.25)
            client.send("at last")
            answer.join()
            assert answered == ["at last"]


CLIENT = """
import sys
from multiprocessing.connection import Client
with Client(sys.argv[1], authkey=b"the key") as client:
    client.send(sys.version_info[:2])
"""
SERVER = """
import sys
from multiprocessing.connection import Listener
with Listener(family="AF_UNIX", authkey=b"the key") as listener:
    print(listener.address, flush=True)
    with listener.accept() as accepted:
        accepted.send(sys.version_info[:2])
"""
PYTHONS = [f"python3.{minor}" for minor in (11, 12, 13)]


def interpreter(name: str) -> str:
    """Another interpreter of that version, or this one."""
    if name == f"python3.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(name)
    if found is None or subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode:
        pytest.skip(f"no {name} here")
    return found


@pytest.mark.parametrize("name", PYTHONS)
def test_clients_of_other_versions_are_understood(name: str, tmp_path: Path) -> None:
    with Listener(str(tmp_path / "socket"), authkey=KEY) as listener:
        process = subprocess.Popen([interpreter(name), "-c", CLIENT, listener.address], cwd=tmp_path)
        with listener.accept() as accepted:
            assert accepted.recv() == (3, int(name.rpartition(".")[2]))
        assert process.wait() == 0


@pytest.mark.parametrize("name", PYTHONS)
def test_listeners_of_other_versions_are_understood(name: str, tmp_path: Path) -> None:
    command = [interpreter(name), "-c", SERVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout is not None
        with Client(process.stdout.readline().strip(), authkey=KEY) as client:
            assert client.recv() == (3, int(name.rpartition(".")[2]))
    assert process.returncode == 0


def test_a_challenge_can_be_delivered_and_answered_over_ours() -> None:
    here, there = connection.Pipe()
    thread, outcome = run(
        lambda: (
            connection.answer_challenge(there, KEY),
            connection.deliver_challenge(there, KEY),
        )
    )
    connection.deliver_challenge(here, KEY)
    connection.answer_challenge(here, KEY)
    thread.join()
    assert outcome == [(None, None)]
    here.close()
    there.close()


def test_the_borrowed_names_are_the_standard_librarys() -> None:
    for name in ("AuthenticationError", "families", "answer_challenge", "address_type"):
        assert getattr(connection, name) is getattr(multiprocessing.connection, name)
    assert os.path.basename(connection.__file__) == "connection.py"
