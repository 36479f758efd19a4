"""Processes killed while they lock, wait and wake others: the rest get on, and nothing is lost."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import sync

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "target" / "fault" / "overlay"
KILLS = 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", sync.SCENES)
def test_kills_at_random(kind: type[sync.Scene]) -> None:
    seed = int.from_bytes(os.urandom(4))
    try:
        sync.kill_at_random(kind, random.Random(seed), KILLS)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.slow
@pytest.mark.skipif(not OVERLAY.exists(), reason="made by `make fault-build`")
@pytest.mark.parametrize("kind", sync.SCENES)
def test_kills_at_each_step(kind: type[sync.Scene]) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{OVERLAY}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "tests.support.sync", kind.__name__]
    ended = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )
    assert ended.returncode == 0, ended.stderr
    name, *missed = ended.stdout.split()
    assert name == kind.__name__
    # On a busy machine nobody may sleep when a ringer comes.
    assert not {step for step in missed if not step.startswith("ring.")}
