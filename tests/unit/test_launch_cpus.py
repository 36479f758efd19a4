"""The CPUs that can be used are counted from affinity, control groups and what the user says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from corral._launch import cpus

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the machine's: sixteen CPUs by affinity, quotas as a test writes them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)))
    quotas = cpus._quotas
    monkeypatch.setattr(
        cpus, "_quotas", lambda *_: quotas(str(tmp_path / "cgroup"), str(tmp_path / "mountinfo"))
    )
    return tmp_path


def unified(tree: Path, path: str, root: str = "/", **quotas: str) -> None:
    """Write a cgroup v2 tree: this process is in `path`; `quotas` by depth of folder below the mount."""
    (tree / "cgroup").write_text(f"0::{path}\n")
    mount = tree / "unified"
    (tree / "mountinfo").write_text(
        f"22 1 0:21 / /proc rw - proc proc rw\n30 23 0:26 {root} {mount} rw,nosuid - cgroup2 cgroup2 rw\n"
    )
    for name, quota in quotas.items():
        folder = mount / name.removeprefix("at_").replace("_", "/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(quota)


def test_without_quotas_affinity_counts(tree: Path) -> None:
    assert cpus.available_cpus() == 16
    unified(tree, "/a/b", at_a="max 100000\n", at_a_b="max 100000\n")
    assert cpus.available_cpus() == 16


@pytest.mark.parametrize(
    ("quota", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("x", 16)]
)
def test_a_quota_limits_and_is_rounded_up(tree: Path, quota: str, expected: int) -> None:
    unified(tree, "/a", at_a=quota)
    assert cpus.available_cpus() == expected


def test_the_tightest_group_on_the_way_counts(tree: Path) -> None:
    unified(tree, "/a/b/c", at_a="300000 100000", at_a_b="800000 100000", at_a_b_c="max 100000")
    assert cpus.available_cpus() == 3


def test_in_a_container_the_path_starts_at_the_mounts_root(tree: Path) -> None:
    unified(tree, "/docker/1f/inner", root="/docker/1f", at_inner="400000 100000", at_="500000 100000")
    assert cpus.available_cpus() == 4
    unified(tree, "/elsewhere", root="/docker/1f")
    assert cpus.available_cpus() == 5


def test_version_1_quotas_count_too(tree: Path) -> None:
    (tree / "cgroup").write_text("9:name=systemd:/\n2:cpuacct,cpu:/user/me\n0::/\n")
    mount = tree / "cpu"
    (tree / "mountinfo").write_text(f"31 23 0:27 / {mount} rw - cgroup cgroup rw,cpuacct,cpu\n")
    folder = mount / "user" / "me"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("250000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (mount / "cpu.cfs_quota_us").write_text("-1\n")
    (mount / "cpu.cfs_period_us").write_text("100000\n")
    assert cpus.available_cpus() == 3


def test_the_user_has_the_last_word(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unified(tree, "/a", at_a="200000 100000")
    for word, expected in (("5", 5), ("default", 2), ("", 2), ("none", 2)):
        monkeypatch.setenv("PYTHON_CPU_COUNT", word)
        assert cpus.available_cpus() == expected


def test_the_real_machine_has_some() -> None:
    assert 1 <= cpus.available_cpus() <= (os.cpu_count() or 1)
