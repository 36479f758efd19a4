"""The interpreter's multiprocessing tests, as it runs them for start method fork."""

from test._test_multiprocessing import install_tests_in_module_dict

install_tests_in_module_dict(globals(), "fork")
