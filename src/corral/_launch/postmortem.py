"""Ask the kernel how a process ended whose reaper cannot tell: the zygote died, or the program waits itself.

Role in the flow: `ending` and `forkserver`, when the usual way gives no answer.
Runs in: parent, any thread.
Failure: None where the kernel doesn't tell (before Linux 6.15 it forgets with the reaping).
"""

from __future__ import annotations

import os

__all__ = ["kernels_exit_code"]

# <linux/pidfd.h>: PIDFD_GET_INFO is _IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info), here of its first size.
INFO_BYTES = 64
PIDFD_GET_INFO = (3 << 30) | (INFO_BYTES << 16) | (0xFF << 8) | 11
PIDFD_INFO_EXIT = 1 << 3
MASK_BYTES = 8
EXIT_CODE_AT = 60

# /proc/PID/stat, counted from the field after the name: the state, the start time and the exit code.
STATE = 0
START_TIME = 19
EXIT_CODE = 49

START_TIME_BITS = 42


def kernels_exit_code(sentinel: int, pid: int, identity: int) -> int | None:
    """Return the exit code of a process that has ended, if the kernel knows it."""
    status = _status_of_reaped(sentinel)
    if status is None:
        status = _status_of_zombie(pid, identity)
    if status is None:
        # Reaped between the two questions.
        status = _status_of_reaped(sentinel)
    return None if status is None else os.waitstatus_to_exitcode(status)


def _status_of_reaped(sentinel: int) -> int | None:
    """Return the wait status that a pidfd keeps after the process was reaped."""
    import fcntl
    import sys

    info = bytearray(INFO_BYTES)
    info[:MASK_BYTES] = PIDFD_INFO_EXIT.to_bytes(MASK_BYTES, sys.byteorder)
    try:
        fcntl.ioctl(sentinel, PIDFD_GET_INFO, info)
    except OSError:
        return None
    if not int.from_bytes(info[:MASK_BYTES], sys.byteorder) & PIDFD_INFO_EXIT:
        return None
    return int.from_bytes(info[EXIT_CODE_AT:], sys.byteorder)


def _status_of_zombie(pid: int, identity: int) -> int | None:
    """Return the wait status of a process that nobody has reaped yet."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[STATE] != b"Z" or int(fields[START_TIME]) != identity & ((1 << START_TIME_BITS) - 1):
        return None
    return int(fields[EXIT_CODE])
