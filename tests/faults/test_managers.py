"""Managers when processes are killed: the server goes with its owner, and outlives its clients."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

import corral

pytestmark = pytest.mark.slow


def has_ended(pidfd: int, timeout_s: float = 30) -> bool:
    return bool(select.select([pidfd], [], [], timeout_s)[0])


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_killed_owner_takes_its_server_along(method: str) -> None:
    code = (
        "import corral, sys, time\n"
        f"manager = corral.get_context({method!r}).Manager()\n"
        "print(manager._process.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server = os.pidfd_open(int(owner.stdout.readline()))
        try:
            assert not has_ended(server, 0)
            owner.kill()
            assert has_ended(server)
        finally:
            os.close(server)


def test_clients_killed_at_random_leave_the_server_serving() -> None:
    # By value: to import this module would take a client longer than it lives.
    def hammer(values: Any, ready: Any) -> None:
        ready.set()
        while True:
            values.append(len(values))
            if len(values) > 50:
                values.pop(0)

    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    ctx = corral.get_context("forkserver")
    with ctx.Manager() as manager:
        values = manager.list()
        for _ in range(10):
            ready = ctx.Event()
            client = ctx.Process(target=hammer, args=(values, ready))
            client.start()
            assert ready.wait(30), f"seed {seed}"
            # Not to synchronise: to be killed anywhere in a call.
            time.sleep(chance.random() * 0.01)
            client.kill()
            client.join()
            assert client.exitcode == -signal.SIGKILL
            values.append("alive")
            assert len(values) > 0, f"seed {seed}"
