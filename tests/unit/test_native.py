from __future__ import annotations

import corral._native


def test_the_native_module_is_the_compiled_one() -> None:
    assert corral._native.__file__.endswith(".abi3.so")
