"""Prints all that a program can see of how it was started."""

import json
import os
import subprocess
import sys

main = sys.modules["__main__"]
seen = {
    "argv": sys.argv,
    "orig_argv": sys.orig_argv,
    "path": sys.path,
    "flags": repr(sys.flags),
    "environment": dict(os.environ),
    "names": sorted(vars(main)),
    "name": __name__,
    "file": globals().get("__file__"),
    "spec": getattr(main.__spec__, "name", None),
    "package": __package__,
    "depth": sys._getframe(1).f_code.co_filename if sys._getframe(0).f_back else None,
    "site": {name: sys.modules[name].__file__ for name in sys.modules if name.endswith("customize")},
    "subprocess": subprocess.check_output(
        [sys.executable, "-c", "import multiprocessing; print(type(multiprocessing))"], text=True
    ),
}
print(json.dumps(seen, indent=1, sort_keys=True))
