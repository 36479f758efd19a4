"""Says the process ids of its workers, then waits for what takes for ever."""

import multiprocessing
import os
import time


def meet(_: int) -> int:
    """Return the process id when both workers are here."""
    BARRIER.wait()
    return os.getpid()


def share(barrier) -> None:
    global BARRIER  # noqa: PLW0603
    BARRIER = barrier


def main() -> None:
    with multiprocessing.Pool(2, share, (multiprocessing.Barrier(2),)) as pool:
        print(*pool.map(meet, range(2), chunksize=1), flush=True)
        pool.map(time.sleep, [1000, 1000])


if __name__ == "__main__":
    main()
