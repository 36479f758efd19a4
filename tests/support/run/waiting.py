"""Says the process ids of its workers, then waits for what takes for ever."""

import multiprocessing
import os
import time


def main() -> None:
    with multiprocessing.Pool(2) as pool:
        print(*{child.pid for child in multiprocessing.active_children()}, os.getpid(), flush=True)
        pool.map(time.sleep, [1000, 1000])


if __name__ == "__main__":
    main()
