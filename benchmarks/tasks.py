"""What the workers do: functions that every subject can import by name."""

from __future__ import annotations

import os
import time
from typing import Any


def noop(value: object) -> object:
    """Do nothing."""
    return value


def sum_of_squares(number: int) -> int:
    """Compute for up to a thousand steps: the exercise."""
    return sum(i * i for i in range(number % 1000))


def spin(seconds: float) -> None:
    """Keep a core busy for a given time."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def pid_after(seconds: float) -> int:
    """Wait a little, then tell which process has done so."""
    time.sleep(seconds)
    return os.getpid()


def last_of(array: Any) -> float:
    """Look at the end of an array."""
    return float(array[-1])


def pick(array: Any, index: int) -> float:
    """Look at one place of an array."""
    return float(array[index])


def ten_megabytes(number: int) -> Any:
    """Make an array of ten megabytes."""
    import numpy as np

    return np.full(1_250_000, float(number))
