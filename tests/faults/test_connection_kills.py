"""Processes killed while they send and receive: nothing hangs, is garbled or comes twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support import pipes

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "target" / "fault" / "overlay"
KILLS = 100


@pytest.mark.slow
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kill", [pipes.kill_a_sender, pipes.kill_a_receiver])
def test_kills_at_random(kill: Callable[..., bool], exact: bool) -> None:
    seed = int.from_bytes(os.urandom(4))
    spans = random.Random(seed)
    for number in range(KILLS // 2):
        try:
            kill(pipes.nothing, pipes.kill_later(spans, 0.004), exact=exact)
        except AssertionError as error:
            raise AssertionError(f"kill {number} of seed {seed}: {error}") from error


@pytest.mark.slow
@pytest.mark.skipif(not OVERLAY.exists(), reason="made by `make fault-build`")
def test_kills_at_each_step() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{OVERLAY}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "tests.support.pipes"]
    ended = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split("\n") == ["", ""], f"nobody was killed: {ended.stdout}"
