"""Count the CPUs that this process can really use: affinity and the quotas of its control groups.

Role in the flow: `corral.context.cpu_count`, and whoever sizes a pool or decides whether to spin.
Runs in: anywhere; it keeps nothing but what it is told, since affinity and quotas may change.
Failure: what cannot be read is no limit.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["available_cpus", "tell"]

V2_FIELDS_AFTER_DASH = 3

_told_by_call: int | None = None


def tell(count: int | None) -> None:
    """Say how many CPUs there are to be, before what anybody else says; None says nothing."""
    global _told_by_call  # noqa: PLW0603  (a process has one number of CPUs)
    _told_by_call = count


def available_cpus() -> int:
    """Return how many CPUs this process may keep busy; `PYTHON_CPU_COUNT` or `-X cpu_count` override it."""
    told = _told()
    if told:
        return told
    try:
        count = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        count = os.cpu_count() or 1
    quota = min(_quotas("/proc/self/cgroup", "/proc/self/mountinfo"), default=float(count))
    # Half a CPU more is worth a worker: it runs, only slower.
    return max(1, min(count, -int(-quota // 1)))


def _told() -> int:
    """Return the count the user has set, or 0."""
    if _told_by_call:
        return _told_by_call
    word = sys._xoptions.get("cpu_count")  # noqa: SLF001  (documented, for all its underscore)
    if word is None and not sys.flags.ignore_environment:
        word = os.environ.get("PYTHON_CPU_COUNT")
    try:
        return max(0, int(word)) if word else 0
    except ValueError:
        # "default", or what Python itself refuses to start with.
        return 0


def _quotas(groups_file: str, mounts_file: str) -> Iterator[float]:
    """Yield the CPUs granted by each control group that this process is in, and by those around them."""
    groups = dict(_groups(_read(groups_file)))
    for controllers, root, mount in _mounts(_read(mounts_file)):
        path = groups.get(controllers)
        if path is None:
            continue
        # Inside a container the mount may show only a part of the tree, and `path` start outside of it.
        below = path[len(root) :] if path == root or path.startswith(root.rstrip("/") + "/") else ""
        parts = [part for part in below.split("/") if part]
        for depth in range(len(parts), -1, -1):
            quota = _quota("/".join([mount, *parts[:depth]]))
            if quota is not None:
                yield quota


def _groups(text: str) -> Iterator[tuple[str, str]]:
    """Yield ("cpu" or "" for the unified hierarchy, path) of each line of /proc/self/cgroup that matters."""
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield "", path
        elif "cpu" in controllers.split(","):
            yield "cpu", path


def _mounts(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (controllers, root, mount point) of each cgroup mount of /proc/self/mountinfo that matters."""
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split()
        kind = after.split()
        if not dash or len(kind) < V2_FIELDS_AFTER_DASH:
            continue
        if kind[0] == "cgroup2":
            yield "", fields[3], fields[4]
        elif kind[0] == "cgroup" and "cpu" in kind[2].split(","):
            yield "cpu", fields[3], fields[4]


def _quota(folder: str) -> float | None:
    """Return the CPUs that one control group may use, if it is limited."""
    try:
        unified = _read(f"{folder}/cpu.max").split()
        quota, period = unified or (_read(f"{folder}/cpu.cfs_quota_us"), _read(f"{folder}/cpu.cfs_period_us"))
        granted = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        # "max", or no such file.
        return None
    return granted if granted > 0 else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
