"""Logs and warns from workers in the ways that programs do; prints what arrives, sorted."""

import logging
import logging.handlers
import multiprocessing
import os
import shutil
import sys
import tempfile
import warnings

LOG = logging.getLogger("program")


def work(number):
    LOG.warning("work %d", number)
    LOG.debug("not shown %d", number)
    return number


def to_queue(records):
    root = logging.getLogger()
    root.handlers[:] = [logging.handlers.QueueHandler(records)]
    root.setLevel(logging.INFO)


def to_file(path):
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(levelname)s %(processName).4s %(message)s"))
    LOG.addHandler(handler)
    LOG.propagate = False


def warn(number):
    warnings.warn(f"careful with {number}", UserWarning, stacklevel=1)


def main():
    mp = multiprocessing.get_context(sys.argv[1])
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout, level=logging.WARNING)
    with mp.Pool(1) as pool:
        pool.map(work, [0, 1])
    sys.stdout.flush()

    records = mp.Queue()
    listener = logging.handlers.QueueListener(records, logging.StreamHandler(sys.stdout))
    listener.start()
    with mp.Pool(2, to_queue, (records,)) as pool:
        pool.map(work, [2, 3], chunksize=1)
        pool.close()
        pool.join()
    listener.stop()

    path = os.path.join(tempfile.mkdtemp(), "log")
    with mp.Pool(2, to_file, (path,)) as pool:
        pool.map(work, [4, 5], chunksize=1)
        pool.close()
        pool.join()
    with open(path) as file:
        print(sorted(file))
    shutil.rmtree(os.path.dirname(path))

    with mp.Pool(1) as pool:
        pool.map(warn, [6, 7])
        pool.close()
        pool.join()
    multiprocessing.log_to_stderr(logging.CRITICAL)
    print(multiprocessing.get_logger().name, multiprocessing.get_logger().level)


if __name__ == "__main__":
    main()
