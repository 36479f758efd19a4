"""The interpreter's multiprocessing tests, as it runs them for start method forkserver."""

from test import _test_multiprocessing

# As the interpreter's own module of this kind is: else each child would have to import all this.
_test_multiprocessing.PRELOAD.append(__name__)
_test_multiprocessing.install_tests_in_module_dict(globals(), "forkserver")
