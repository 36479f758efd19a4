"""Ends in the way that it is asked to."""

import atexit
import os
import signal
import sys
import threading

atexit.register(print, "at exit")


def raise_in_thread() -> None:
    thread = threading.Thread(target=lambda: 1 / 0, name="failing")
    thread.start()
    thread.join()


def raise_deep(levels: int) -> None:
    if levels:
        raise_deep(levels - 1)
    try:
        {}["missing"]
    except KeyError as error:
        error.add_note("a note")
        raise ValueError("deep") from error


ENDINGS = {
    "return": lambda: None,
    "code": lambda: sys.exit(3),
    "text": lambda: sys.exit("that was wrong"),
    "raise": lambda: raise_deep(2),
    "group": lambda: (_ for _ in ()).throw(ExceptionGroup("two", [OSError(2, "x"), KeyError(1)])),
    "_exit": lambda: os._exit(4),
    "thread": raise_in_thread,
    "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt),
    "sigint": lambda: signal.raise_signal(signal.SIGINT),
    "sigterm": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "import": lambda: __import__("multiprocessing.nonsense"),
}
ENDINGS[sys.argv[1]]()
