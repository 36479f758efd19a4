"""Processes killed while they put and get: nothing hangs, is garbled, comes twice, or is lost inside."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support import queue_kills

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "target" / "fault" / "overlay"
KILLS = 100


@pytest.mark.slow
@pytest.mark.parametrize("kill", [queue_kills.kill_a_producer, queue_kills.kill_a_consumer])
def test_kills_at_random(kill: Callable[..., bool]) -> None:
    seed = int.from_bytes(os.urandom(4))
    spans = random.Random(seed)
    for number in range(KILLS):
        queue, strike = queue_kills.make(number), queue_kills.kill_later(spans, 0.006)
        try:
            kill(queue, queue_kills.nothing, strike, many=number % 3 == 2)
        except AssertionError as error:
            raise AssertionError(f"kill {number} of seed {seed}: {error}") from error


@pytest.mark.slow
@pytest.mark.skipif(not OVERLAY.exists(), reason="made by `make fault-build`")
def test_kills_at_each_step() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{OVERLAY}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "tests.support.queue_kills"]
    ended = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )
    assert ended.returncode == 0, ended.stderr
    kills, *missed = ended.stdout.split()
    assert not missed, "at these steps nobody was killed"
    assert int(kills) >= 150
