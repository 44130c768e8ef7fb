from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from slstream.codecs import kernel as kernel_module
from slstream.codecs.kernel import kernel


def add_up(values: npt.NDArray[np.float32]) -> float:
    total = np.float32(0)
    for i in range(values.size):
        total += values[i]
    return float(total)


def refuse_cache(monkeypatch: pytest.MonkeyPatch, message: str) -> None:
    """Make numba find no place for its cache, as in a read-only installation."""
    compile_function = kernel_module._compile

    def without_cache(function: object, signature: str, *, cache: bool) -> object:
        if cache:
            raise RuntimeError(message)
        return compile_function(function, signature, cache=False)  # type: ignore[type-var]

    monkeypatch.setattr(kernel_module, "_compile", without_cache)


def test_read_only_arrays_are_accepted_where_the_signature_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse_cache(monkeypatch, "cannot cache function 'add_up': no locator available")
    values = np.array([1.0, 2.5], np.float32)
    compiled = kernel("f8(const f4[::1])")(add_up)
    assert compiled(values) == 3.5
    values.flags.writeable = False
    assert compiled(values) == 3.5
    with pytest.raises(TypeError):
        kernel("f8(f4[::1])")(add_up)(values)


def test_other_failures_of_the_compiler_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_cache(monkeypatch, "out of registers")
    with pytest.raises(RuntimeError, match="out of registers"):
        kernel("f8(const f4[::1])")(add_up)
