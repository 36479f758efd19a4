"""Uses `multiprocessing` and `concurrent.futures` as programs do; prints what comes of it."""

import concurrent.futures
import multiprocessing
import multiprocessing.pool
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

FACTOR = 1


def scaled(x: int, by: int = 1) -> int:
    return x * by * FACTOR


def fail(x: int) -> int:
    raise ValueError("no", x)


def set_factor(factor: int) -> None:
    global FACTOR  # noqa: PLW0603
    FACTOR = factor


class Worker(multiprocessing.Process):
    """The way of those who subclass."""

    def __init__(self, number: int) -> None:
        super().__init__(name=f"worker-{number}")
        self.number = number

    def run(self) -> None:
        sys.exit(self.number)


def nested(depth: int) -> None:
    if depth:
        process = multiprocessing.Process(target=nested, args=(depth - 1,))
        process.start()
        process.join()
    with multiprocessing.Pool(1) as pool:
        print("depth", depth, pool.map(scaled, [depth]), flush=True)


def say_and_fail() -> None:
    print("about to fail", flush=True)
    os._exit(9)


def main() -> None:
    if len(sys.argv) > 1:
        multiprocessing.set_start_method(sys.argv[1])
    print(multiprocessing.get_start_method(), multiprocessing.current_process().name)
    with multiprocessing.Pool(2, set_factor, (3,)) as pool:
        print(pool.map(scaled, range(10)))
        print(list(pool.imap(partial(scaled, by=2), range(10), chunksize=3)))
        print(sorted(pool.imap_unordered(scaled, range(10))))
        print(pool.starmap(scaled, [(1, 2), (3, 4)]), pool.apply_async(scaled, (5,)).get())
        try:
            pool.map(fail, [1])
        except ValueError as error:
            print(repr(error))
        try:
            pool.apply_async(time.sleep, (60,)).get(timeout=0.01)
        except multiprocessing.TimeoutError:
            print("not in time")
    with ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(scaled, number) for number in range(5)]
        print(sorted(future.result() for future in concurrent.futures.as_completed(futures)))
        print(list(executor.map(scaled, range(5), chunksize=2)), repr(executor.submit(fail, 1).exception()))
    workers = [Worker(number) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print([(worker.name, worker.exitcode) for worker in workers], multiprocessing.active_children())
    process = multiprocessing.Process(target=say_and_fail)
    process.start()
    process.join()
    print(process.exitcode)
    nested(2)


if __name__ == "__main__":
    main()
