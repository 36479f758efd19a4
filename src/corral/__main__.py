"""Lets ``python -m corral`` do what the ``corral`` command does."""

from __future__ import annotations

import sys

from corral.cli import main

if (
    __name__ == "__main__"
):  # ``corral compare`` also runs the standard library's pool, which may import this again
    sys.exit(main())
