"""How the hot loops are compiled: ahead of use, without the GIL, and kept on disk.

A kernel is compiled for its one signature when its module is first imported on a machine, and
loaded from the cache (``NUMBA_CACHE_DIR``, else beside the module) from then on. Floating point is
strict: no reassociation and no contraction, so that a kernel gives the same bits on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import numba

_CONST = re.compile(r"const (\w+)\[::1\]")

Scalar: TypeAlias = Any
"""A number in a kernel, Python's or numpy's: the signature says which."""

KernelT = TypeVar("KernelT", bound=Callable[..., object])


def kernel(signature: str) -> Callable[[KernelT], KernelT]:
    """Compile a function of scalars and C-contiguous arrays for one numba signature.

    ``const f4[::1]`` in a signature is an array that is only read: it accepts read-only arrays,
    such as views of received bytes, which a plain ``f4[::1]`` does not.

    A kernel may call other kernels of its own module only: the cache notices a change of the file
    that holds a function, not of files whose functions it calls.
    """
    signature = _CONST.sub(r"Array(\1, 1, 'C', readonly=True)", signature)

    def compile_function(function: KernelT) -> KernelT:
        try:
            return _compile(function, signature, cache=True)
        except RuntimeError as exc:
            # A read-only installation without a home directory has nowhere to keep the cache.
            if "cannot cache" not in str(exc):
                raise
            return _compile(function, signature, cache=False)

    return compile_function


def _compile(function: KernelT, signature: str, *, cache: bool) -> KernelT:
    compiled: KernelT = numba.njit(  # type: ignore[assignment]
        signature, cache=cache, nogil=True, error_model="numpy", fastmath=False
    )(function)
    return compiled
