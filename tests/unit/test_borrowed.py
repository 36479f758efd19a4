"""A borrowed module is the interpreter's own code, with corral's modules where it names its siblings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from corral import _borrowed, _threadpool, connection, dummy, managers, pool, util


def test_the_code_is_the_interpreters() -> None:
    code = _borrowed._code_of("managers")
    assert Path(code.co_filename).parts[-2:] == ("multiprocessing", "managers.py")
    assert Path(_borrowed._code_of("dummy").co_filename).parts[-2:] == ("dummy", "__init__.py")


def test_siblings_are_corrals() -> None:
    assert managers.connection is connection  # type: ignore[attr-defined]
    assert managers.util is util  # type: ignore[attr-defined]
    assert managers.pool is pool  # type: ignore[attr-defined]
    assert managers.SyncManager.__module__ == "corral.managers"
    assert "corral" in (managers.__doc__ or "")
    assert _threadpool.util is util  # type: ignore[attr-defined]
    assert dummy.Pool.__module__ == "corral.dummy"


def test_the_package_is_not_loaded_for_it() -> None:
    code = (
        "import sys, corral.managers, corral.dummy, corral._threadpool, corral.util, corral.reduction\n"
        "assert 'multiprocessing.managers' not in sys.modules\n"
        "assert 'multiprocessing.pool' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_the_interpreter_lacks_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="this interpreter has no multiprocessing"):
        _borrowed.run_as({}, "nothing")
    with pytest.raises(ImportError, match="at_all"):
        _borrowed.run_as({}, "nothing.at_all")


def test_methods_without_a_value_are_none() -> None:
    class Thing:
        __slots__ = ("unset",)

        def act(self) -> None:
            pass

    assert managers.public_methods(Thing()) == ["act"]  # type: ignore[attr-defined]
