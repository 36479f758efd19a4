"""Modules of the standard library are told when they are there: at once, or once they are loaded."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def python(code: str, *, check: bool = True) -> str:
    """Return what a fresh interpreter prints for a program."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, check=check, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


def test_a_loaded_module_is_told_at_once() -> None:
    out = python(
        """
        import colorsys
        from corral._launch import neighbour
        neighbour.when_loaded("colorsys", lambda module: print(module is colorsys))
        """
    )
    assert out == "True\n"


def test_a_module_is_told_when_it_has_been_executed_once() -> None:
    out = python(
        """
        import sys
        from corral._launch import neighbour

        def call(module):
            print(module.__name__, hasattr(module, "rgb_to_hls"))

        neighbour.when_loaded("colorsys", call)
        neighbour.when_loaded("colorsys", call)
        print("colorsys" in sys.modules)
        import colorsys
        import importlib
        importlib.reload(colorsys)
        print(colorsys.__spec__.name, colorsys.__loader__ is colorsys.__spec__.loader)
        """
    )
    assert out == "False\ncolorsys True\ncolorsys True\n"


def test_a_submodule_is_told_and_others_are_left_alone() -> None:
    out = python(
        """
        from corral._launch import neighbour
        neighbour.when_loaded("json.tool", lambda module: print("told", module.__name__))
        import json
        print("json")
        import json.tool
        """
    )
    assert out == "json\ntold json.tool\n"


def test_a_module_that_is_not_there_is_still_missing() -> None:
    out = python(
        """
        from corral._launch import neighbour
        neighbour.when_loaded("no_such_module_of_ours", print)
        try:
            import no_such_module_of_ours
        except ModuleNotFoundError as error:
            print(error.name)
        """
    )
    assert out == "no_such_module_of_ours\n"


def test_a_frozen_module_is_told_and_its_loader_left_as_it_was() -> None:
    out = python(
        """
        from corral._launch import neighbour
        neighbour.when_loaded("__hello__", lambda module: print("told", module.__name__))
        import __hello__
        import __phello__
        """
    )
    assert out == "told __hello__\n"


def test_nothing_of_the_standard_library_is_loaded_for_it() -> None:
    out = python(
        """
        import sys
        import corral
        corral.current_process()
        child = corral.get_context("fork").Process(target=lambda: print(*sorted(loaded()), flush=True))

        def loaded():
            return {"logging", "multiprocessing"} & set(sys.modules)

        child.start()
        child.join()
        print(*sorted(loaded()))
        """
    )
    assert out == "\n\n"
