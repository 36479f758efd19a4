"""Begin a program under `corral run`: have corral serve `multiprocessing`, then be as if never there.

Role in the flow: `corral.cli.running` starts the program's interpreter with this folder first on its
PYTHONPATH, so `site` imports this file before anything of the program; the environment's own `sitecustomize`,
if there is one, is run from here in its place.
Runs in: the program's main process, once; its environment and `sys.path` are put back, so nothing of it
reaches the programs that the program starts.
Failure: corral cannot be imported or refuses: the process ends with status 2, rather than run without it.
"""

import marshal
import os
import sys
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import PathFinder

_VARIABLE = "CORRAL_RUN"
_USAGE = 2  # of `corral.cli.errors`, which is not worth its import


def _begin() -> None:
    """Undo what brought us here, and install the names."""
    told = os.environ.pop(_VARIABLE, None)
    if told is None:
        return
    given = marshal.loads(bytes.fromhex(told))  # noqa: S302  (`corral run` has written it)
    here = os.path.dirname(__file__)
    sys.path[:] = [folder for folder in sys.path if folder != here]
    sys.path_importer_cache.pop(here, None)
    if given["PYTHONPATH"] is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = given["PYTHONPATH"]
    # Whatever is raised from here on, `site` would report and go on without.
    try:
        if given["root"] not in sys.path:
            sys.path.append(given["root"])
        from corral import _alias

        _alias.install(given["settings"])
        if given["progress"]:
            from corral.cli import board

            board.show()
    except Exception as error:
        os.write(2, f"corral run: {type(error).__name__}: {error}\n".encode(errors="backslashreplace"))
        os._exit(_USAGE)


_begin()
_spec = PathFinder.find_spec("sitecustomize", sys.path)
if _spec is None or _spec.loader is None:
    # As if nobody had been here: `site` takes it for what it says.
    raise ModuleNotFoundError("No module named 'sitecustomize'", name="sitecustomize")
sys.modules["sitecustomize"] = module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["sitecustomize"])
