"""Counter-based randomness: every random number is a function of what it is for.

There is no generator state that a checkpoint could forget, and every party derives the same batches
without talking. The functions are fixed for ever: numpy may change its streams between releases,
so none of its generators is used.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 64-bit seed for one purpose.

    Args:
        seed: the session's seed, 0 to 2**64 - 1.
        purpose: what the number is for, for instance ``("dropout", "bob", epoch, step)``. Text and
            numbers are told apart and length-prefixed, so no two purposes collide by joining.

    Returns:
        The first 8 bytes, little-endian, of BLAKE2b over the encoded arguments.
    """
    digest = hashlib.blake2b(digest_size=8, person=b"slstream seed")
    digest.update(seed.to_bytes(8, "little"))
    for part in purpose:
        kind, data = (
            (b"i", part.to_bytes(9, "little", signed=True))
            if isinstance(part, int)
            else (b"s", part.encode())
        )
        digest.update(kind + len(data).to_bytes(4, "little") + data)
    return int.from_bytes(digest.digest(), "little")


def permutation(n: int, seed: int) -> npt.NDArray[np.int64]:
    """A pseudo-random order of ``0 .. n-1``: int64 [n].

    Sorts SplitMix64 (Steele, Lea, Flood 2014) of each index under ``seed``; ties, which need a
    64-bit collision, are broken by the index.
    """
    with np.errstate(over="ignore"):
        x = (np.arange(1, n + 1, dtype=np.uint64)) * _GOLDEN + np.uint64(seed)
        x = (x ^ (x >> np.uint64(30))) * _MIX_1
        x = (x ^ (x >> np.uint64(27))) * _MIX_2
        x = x ^ (x >> np.uint64(31))
    return np.argsort(x, kind="stable")
