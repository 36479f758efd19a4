"""Says in a child, and in a child's child, whose `multiprocessing` it is."""

import multiprocessing
import multiprocessing.process
import sys


def say(who: str, generations: int) -> None:
    print(who, multiprocessing.process.BaseProcess.__module__.split(".")[0], flush=True)
    if generations:
        child = multiprocessing.Process(target=say, args=("grandchild", generations - 1))
        child.start()
        child.join()


def tell(who: str) -> str:
    from multiprocessing import pool

    return f"{who} {pool.Pool.__module__.split('.')[0]}"


if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    process = multiprocessing.Process(target=say, args=("process", 1))
    process.start()
    process.join()
    with multiprocessing.Pool(1) as pool:
        print(pool.apply(tell, ("pool",)))
