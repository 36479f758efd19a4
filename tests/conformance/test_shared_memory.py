"""What `multiprocessing.shared_memory` promises, between processes of every kind."""

from __future__ import annotations

import multiprocessing.shared_memory as standard
import os
import re
import subprocess
import sys
import textwrap
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import corral
from corral.shared_memory import ShareableList, SharedMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = ("fork", "forkserver", "spawn")


@pytest.fixture
def segment() -> Iterator[SharedMemory]:
    made = SharedMemory(create=True, size=100)
    yield made
    made.close()
    made.unlink()


def write_into(segment: SharedMemory | str, data: bytes) -> None:
    opened = SharedMemory(segment) if isinstance(segment, str) else segment
    opened.buf[: len(data)] = data
    opened.close()


def change_item(shared: ShareableList) -> None:
    shared[1] = "changed"


def create_and_leave(name: str) -> None:
    SharedMemory(name, create=True, size=8).buf[0] = 5


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_child_opens_a_segment_by_name_and_by_its_object(method: str, segment: SharedMemory) -> None:
    process = corral.get_context(method).Process(target=write_into, args=(segment.name, b"name"))
    process.start()
    process.join()
    assert bytes(segment.buf[:4]) == b"name"
    process = corral.get_context(method).Process(target=write_into, args=(segment, b"object"))
    process.start()
    process.join()
    assert bytes(segment.buf[:6]) == b"object"


@pytest.mark.parametrize("method", METHODS)
def test_a_child_changes_a_list(method: str) -> None:
    shared = ShareableList([1, "original", None])
    process = corral.get_context(method).Process(target=change_item, args=(shared,))
    process.start()
    process.join()
    assert list(shared) == [1, "changed", None]
    shared.shm.close()
    shared.shm.unlink()


@pytest.mark.parametrize("method", METHODS)
def test_what_a_child_has_created_outlives_the_child(method: str) -> None:
    name = f"corral-test-child-{os.getpid()}"
    process = corral.get_context(method).Process(target=create_and_leave, args=(name,))
    process.start()
    process.join()
    found = SharedMemory(name)
    assert found.buf[0] == 5
    found.unlink()


def test_segments_of_the_standard_library_are_ours_and_ours_are_its() -> None:
    for ours, theirs in ((SharedMemory, standard.SharedMemory), (standard.SharedMemory, SharedMemory)):
        made = ours(create=True, size=64)
        opened = theirs(made.name)
        opened.buf[3] = 33
        assert made.buf[3] == 33
        opened.close()
        made.close()
        made.unlink()
    _stop_tracker()


def test_lists_of_the_standard_library_are_ours_and_ours_are_its() -> None:
    items = ["howdy", b"HoWdY", -273.154, 100, None, True, 42]
    for ours, theirs in ((ShareableList, standard.ShareableList), (standard.ShareableList, ShareableList)):
        made = ours(items)
        opened = theirs(name=made.shm.name)
        assert list(opened) == items
        assert opened.format == made.format
        opened[2] = "text"
        assert made[2] == "text"
        opened.shm.close()
        made.shm.close()
        made.shm.unlink()
    _stop_tracker()


def _stop_tracker() -> None:
    """End the standard library's tracker, started for its segments: it would count as left behind."""
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_both_worlds_keep_their_peace_over_one_segment() -> None:
    """Whoever unlinks: nobody complains at exit."""
    done = run("""
        import multiprocessing.shared_memory as standard
        from corral.shared_memory import SharedMemory
        ours = SharedMemory(create=True, size=8)
        theirs = standard.SharedMemory(ours.name)
        ours.unlink()
        theirs = standard.SharedMemory(create=True, size=8)
        ours = SharedMemory(theirs.name)
        ours.unlink()
    """)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_opening_a_segment_and_ending_does_not_destroy_it(segment: SharedMemory) -> None:
    done = run(
        "import sys; from corral.shared_memory import SharedMemory; SharedMemory(sys.argv[1])", segment.name
    )
    assert (done.returncode, done.stderr) == (0, "")
    SharedMemory(segment.name).close()


CREATE = """
    import os, sys
    from corral.shared_memory import SharedMemory
    kept = SharedMemory(sys.argv[1], create=True, size=8, track=sys.argv[2] == "track")
    if sys.argv[3] == "killed":
        os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_what_nobody_has_unlinked_is_gone_when_its_tree_has_ended() -> None:
    name = f"corral-test-left-{os.getpid()}"
    done = run(CREATE, name, "track", "ended")
    assert (done.returncode, done.stderr) == (0, "")
    assert name not in os.listdir("/dev/shm")


@pytest.mark.slow
@pytest.mark.parametrize("end", ["ended", "killed"])
def test_what_is_not_tracked_stays(end: str) -> None:
    name = f"corral-test-untracked-{os.getpid()}"
    run(CREATE, name, "-", end)
    SharedMemory(name).unlink()


@pytest.mark.slow
def test_a_name_that_means_another_segment_by_now_is_not_unlinked() -> None:
    name = f"corral-test-reused-{os.getpid()}"
    done = run(
        """
        import os, sys
        from corral.shared_memory import SharedMemory
        SharedMemory(sys.argv[1], create=True, size=8)
        # As another program would, of which we hear nothing.
        os.unlink("/dev/shm/" + sys.argv[1])
        open("/dev/shm/" + sys.argv[1], "w").write("another's")
        """,
        name,
    )
    assert done.returncode == 0
    SharedMemory(name).unlink()


@pytest.mark.slow
def test_the_reference_pages_program_does_what_it_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "shared_memory.md"
    (program,) = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
