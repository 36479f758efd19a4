"""Uses the objects that processes share, as programs do; prints what comes of it."""

import ctypes
import logging
import multiprocessing
import multiprocessing.connection
import multiprocessing.managers
import multiprocessing.pool
import multiprocessing.queues
import multiprocessing.reduction
import multiprocessing.shared_memory
import multiprocessing.sharedctypes
import multiprocessing.synchronize
import multiprocessing.util
import queue
import sys
from multiprocessing.dummy import Pool as DummyPool
from multiprocessing.managers import BaseManager, SharedMemoryManager

STOP = None


def worker(jobs, results, lock, counter, array, event):
    event.wait()
    for job in iter(jobs.get, STOP):
        with lock, counter.get_lock():
            counter.value += job
            array[job] = job * 0.5
        results.put((job, multiprocessing.current_process().name.split("-")[0]))
    results.put(STOP)


def talk(connection) -> None:
    with connection:
        for message in iter(connection.recv, STOP):
            connection.send([message, type(message).__name__])
        connection.send_bytes(b"bye" * 1000)


def meet(barrier, condition, ready, semaphore) -> None:
    barrier.wait()
    with condition:
        ready.value += 1
        condition.notify_all()
    with semaphore:
        pass


def consume(jobs) -> None:
    while True:
        jobs.get()
        jobs.task_done()


def fill(name: str, shared, things) -> None:
    memory = multiprocessing.shared_memory.SharedMemory(name)
    memory.buf[:5] = b"hello"
    memory.close()
    shared["child"] = len(things)
    things.append("from the child")


class Counter:
    """What a manager of one's own serves."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int) -> int:
        self.count += number
        return self.count


class CounterManager(BaseManager):
    """A manager of one's own."""


CounterManager.register("Counter", Counter)


def count(counter) -> None:
    counter.add(5)


def log(_: int) -> None:
    logging.getLogger("idioms").warning("from a worker")


def queues_and_locks(mp) -> None:
    jobs, results, lock, event = mp.Queue(), mp.SimpleQueue(), mp.RLock(), mp.Event()
    counter, array = mp.Value("i", 0), mp.Array(ctypes.c_double, 10)
    workers = [
        mp.Process(target=worker, args=(jobs, results, lock, counter, array, event), daemon=True)
        for _ in range(2)
    ]
    for each in workers:
        each.start()
    for job in [*range(10), STOP, STOP]:
        jobs.put(job)
    event.set()
    got = [result for _ in workers for result in iter(results.get, STOP)]
    for each in workers:
        each.join()
    print(sorted(got), counter.value, array[:])
    try:
        jobs.get(timeout=0.01)
    except queue.Empty:
        print("empty")
    jobs.close()
    jobs.join_thread()


def pipes(mp) -> None:
    here, there = mp.Pipe()
    process = mp.Process(target=talk, args=(there,))
    process.start()
    there.close()
    for message in (1, "two", {"three": 3}, b"x" * 100_000, STOP):
        here.send(message)
    got = [here.recv() for _ in range(4)]
    print([(len(str(value)), name) for value, name in got], len(here.recv_bytes()))
    print(multiprocessing.connection.wait([here, process.sentinel], 20) != [])
    process.join()
    try:
        here.recv()
    except EOFError:
        print("end of file")
    here.close()


def meetings(mp) -> None:
    barrier, condition, ready, semaphore = mp.Barrier(3), mp.Condition(), mp.Value("i"), mp.Semaphore(0)
    processes = [mp.Process(target=meet, args=(barrier, condition, ready, semaphore)) for _ in range(2)]
    for process in processes:
        process.start()
    barrier.wait()
    with condition:
        print(condition.wait_for(lambda: ready.value == 2, 20))
    semaphore.release()
    semaphore.release()
    for process in processes:
        process.join()
    jobs = mp.JoinableQueue()
    consumer = mp.Process(target=consume, args=(jobs,), daemon=True)
    consumer.start()
    for number in range(100):
        jobs.put(number)
    jobs.join()
    consumer.terminate()
    consumer.join()
    print("joined", consumer.exitcode)


def managers(mp) -> None:
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=100)
    with mp.Manager() as manager:
        shared, things = manager.dict(parent=1), manager.list(range(3))
        process = mp.Process(target=fill, args=(memory.name, shared, things))
        process.start()
        process.join()
        print(bytes(memory.buf[:5]), dict(shared), list(things), manager.Namespace(x=1).x)
    memory.close()
    memory.unlink()
    with CounterManager() as own:
        counter = own.Counter()
        process = mp.Process(target=count, args=(counter,))
        process.start()
        process.join()
        print(counter.add(1))
    with SharedMemoryManager() as segments:
        print(list(segments.ShareableList([1, "two", 3.0])))


def pools(mp) -> None:
    with DummyPool(2) as dummy, multiprocessing.pool.ThreadPool(2) as threads:
        print(dummy.map(len, ["a", "bb"]), threads.map(len, ["a", "bb"]))
    with mp.Pool(1) as pool:
        pool.map(log, range(2))
        pool.close()
        pool.join()


def main() -> None:
    mp = multiprocessing.get_context(sys.argv[1])
    logging.basicConfig(format="%(message)s")
    queues_and_locks(mp)
    pipes(mp)
    meetings(mp)
    managers(mp)
    pools(mp)
    multiprocessing.util.Finalize(None, print, args=("finalized",), exitpriority=1)


if __name__ == "__main__":
    main()
