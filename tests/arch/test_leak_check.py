"""The leak check that guards every test is itself seen to work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[1] / "conftest.py"
LEAKY = """
import os, subprocess, sys, threading, pytest

held = []

def test_clean():
    read, write = os.pipe()
    os.close(read)
    os.close(write)

def test_descriptor():
    held.append(os.dup(0))

def test_thread():
    threading.Thread(target=threading.Event().wait, daemon=True, name="lost thread").start()

def test_process():
    held.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))

def test_shared_memory(tmp_name="corral-leak-check-%d" % os.getpid()):
    held.append("/dev/shm/" + tmp_name)
    open(held[-1], "w").close()

@pytest.mark.leaks("on purpose")
def test_marked():
    held.append(os.dup(0))

def test_clean_up():
    os.unlink(held[2])
    held[1].kill()
    held[1].communicate()
"""


def test_each_kind_of_leak_fails_its_test(tmp_path: Path) -> None:
    conftest = CONFTEST.read_text().replace("GRACE_S = 5.0", "GRACE_S = 0.0")
    (tmp_path / "conftest.py").write_text(conftest)
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = leaks\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(tmp_path)]
    said = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path).stdout
    failed = set(re.findall(r"^ERROR test_leaky.py::(\w+)", said, re.MULTILINE))
    assert failed == {"test_descriptor", "test_thread", "test_process", "test_shared_memory"}, said
    assert "lost thread" in said
