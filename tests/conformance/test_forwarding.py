"""What workers log, warn of and print comes home."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING

import pytest

import corral

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ("fork", "forkserver", "spawn")
APP = "corral-test-app"


@pytest.fixture
def app() -> Iterator[logging.Logger]:
    logger = logging.getLogger(APP)
    logger.setLevel(logging.INFO)
    yield logger
    logger.setLevel(logging.NOTSET)


def log(number: int) -> int:
    logger = logging.getLogger(APP)
    logger.debug("not wanted %d", number)
    logger.info("item %d", number)
    return number


def log_failure() -> None:
    try:
        int("nothing there")
    except ValueError:
        logging.getLogger(APP).exception("failed with %r", object)


@pytest.mark.parametrize("method", METHODS)
def test_records_come_home_in_order_and_say_whose_they_are(
    method: str, app: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with corral.get_context(method).Pool(1) as pool:  # type: ignore[attr-defined]
        pool.map(log, range(5), chunksize=2)
        pid = pool.apply(os.getpid)
    records = [record for record in caplog.records if record.name == APP]
    assert [record.getMessage() for record in records] == [f"item {number}" for number in range(5)]
    assert {record.process for record in records} == {pid}
    assert all("Worker-1" in str(record.processName) for record in records)
    assert records[0].funcName == "log"


@pytest.mark.parametrize("method", METHODS)
def test_a_record_arrives_with_its_traceback(
    method: str, app: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with corral.get_context(method).ProcessPoolExecutor(1) as executor:  # type: ignore[attr-defined]
        executor.submit(log_failure).result()
    assert "failed with <class 'object'>" in caplog.text
    assert "invalid literal for int() with base 10: 'nothing there'" in caplog.text


def test_a_record_is_home_before_its_tasks_result(
    app: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with corral.Pool(2) as pool:
        for number in range(50):
            pool.apply_async(log, (number,)).get()
            assert caplog.records[-1].getMessage() == f"item {number}"


def configure() -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO)


def flush() -> None:
    sys.stdout.flush()


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_sets_up_logging_gets_what_it_set_up(
    method: str, app: logging.Logger, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with corral.get_context(method).Pool(1, initializer=configure) as pool:  # type: ignore[attr-defined]
        pool.apply(log, (7,))
        pool.apply(flush)
    assert "item 7" in capfd.readouterr().out
    assert "item 7" not in caplog.text


def test_nothing_comes_home_that_is_not_wanted(app: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    with corral.Pool(1, forward=False) as pool:
        pool.apply(log, (7,))
    assert caplog.records == []


def log_from_threads(count: int) -> None:
    threads = [threading.Thread(target=log, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_any_thread_of_a_worker_may_log(app: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    with corral.Pool(1) as pool:
        pool.apply(log_from_threads, (50,))
    assert sorted(record.getMessage() for record in caplog.records) == sorted(f"item {n}" for n in range(50))


def log_much(count: int) -> int:
    logger = logging.getLogger(APP)
    for number in range(count):
        logger.info("%06d %s", number, "x" * 1000)
    return count


def test_more_than_the_ring_holds_arrives_whole(
    app: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with corral.Pool(1) as pool:
        assert pool.apply(log_much, (2000,)) == 2000
    assert [record.getMessage()[:6] for record in caplog.records] == [f"{n:06d}" for n in range(2000)]


def fork_and_log() -> int:
    pid = os.fork()
    if pid == 0:
        log(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork, where there are threads
def test_a_process_that_a_task_forks_does_not_speak_in_its_name(
    app: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with corral.Pool(1) as pool:
        assert pool.apply(fork_and_log) == 0
        assert pool.apply(log, (2,)) == 2
    assert [record.getMessage() for record in caplog.records] == ["item 2"]


def warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=1)


@pytest.mark.parametrize("method", METHODS)
def test_warnings_are_shown_here_by_the_filters_of_here(method: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", message="unwanted.*")
        with corral.get_context(method).Pool(1) as pool:  # type: ignore[attr-defined]
            pool.apply(warn, ("careful",))
            pool.apply(warn, ("unwanted",))
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert str(warning.message) == "careful"
    assert warning.filename == __file__


@pytest.mark.parametrize("method", METHODS)
def test_a_warning_that_is_an_error_here_is_one_there(method: str) -> None:
    with corral.get_context(method).Pool(1) as pool, pytest.raises(RuntimeWarning):  # type: ignore[attr-defined]
        pool.apply(warn, ("careful",))


def speak(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stderr.write(f"{text.upper()}\n")


@pytest.mark.parametrize("method", METHODS)
def test_prints_come_home_if_asked_for(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    with corral.get_context(method).Pool(1) as pool:  # type: ignore[attr-defined]
        pool.apply(speak, ("elsewhere",))
    with corral.Pool(1, context=method, forward=("prints",)) as pool:
        pool.apply(speak, ("here",))
    captured = capsys.readouterr()
    assert captured.out == "here\n"
    assert captured.err == "HERE\n"


def test_what_to_forward_is_checked() -> None:
    with pytest.raises(ValueError, match="forward takes any of logging, warnings, prints, not 'logs'"):
        corral.Pool(1, forward="logs")
