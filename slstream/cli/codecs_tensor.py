"""A user's tensor from a .npy file, which may hold anything."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from slstream.codecs.contract import FloatArray
from slstream.codecs.payload import MAX_DIMENSIONS
from slstream.errors import ConfigError
from slstream.frames.link import MAX_FRAME_BYTES

MAX_ELEMENTS = MAX_FRAME_BYTES // 4
"""Of which the float32 values fill the largest frame."""

_HEAD_BYTES = 16 * 1024
"""More than the longest header that numpy reads."""

_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_tensor(path: Path) -> tuple[FloatArray, np.dtype[np.generic]]:
    """Read a tensor; nothing that the file claims is believed before it is checked.

    Returns:
        Its finite elements as float32, C-contiguous, 1 to 4 dimensions, at least one element and
        at most ``MAX_ELEMENTS``; and the type in the file, which may be float16 or float64.

    Raises:
        ConfigError: anything else, with what was found.
        OSError: it cannot be read.
    """
    if not path.is_file():
        found = "not a file" if path.exists() else "no such file"
        raise ConfigError(f"{path}: {found}; expected a .npy file, as numpy.save writes it")
    with path.open("rb") as file:
        shape, fortran, dtype = _read_header(path, file)
        expected = math.prod(shape) * dtype.itemsize
        data = file.read(expected + 1)
    if len(data) != expected:
        found = "more" if len(data) > expected else f"{len(data)}"
        raise ConfigError(
            f"{path}: expected {expected} bytes for shape {shape} of {dtype.name}, found {found}; "
            "save it again"
        )
    stored = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    with np.errstate(over="ignore"):  # told below, with its place
        tensor = stored.astype(np.float32, order="C")
    finite = np.isfinite(tensor)
    if not finite.all():
        index = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), shape))
        raise ConfigError(
            f"{path}: found {stored[index]} at index {index}; expected finite float32 values, "
            f"{tensor.size - int(finite.sum())} of {tensor.size} elements are not"
        )
    return tensor, dtype


def _read_header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """Shape, whether in Fortran's order, and type, all checked; the file is left at the data."""
    # From a copy of its own: a length in the header decides about no allocation.
    head = io.BytesIO(file.read(_HEAD_BYTES))
    if head.getvalue()[: len(npy.MAGIC_PREFIX)] != npy.MAGIC_PREFIX:
        archive = head.getvalue()[:2] == b"PK"
        hint = "an .npz archive holds several arrays: save one of them with numpy.save"
        raise ConfigError(
            f"{path}: expected a .npy file, as numpy.save writes it; "
            f"{hint if archive else 'it begins otherwise, and pickles are never read'}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that Python 2 wrote
            read = _HEADER_READERS[npy.read_magic(head)]
            shape, fortran, dtype = read(head)
    except Exception as exc:  # numpy's reader of foreign text raises more than it documents
        raise ConfigError(
            f"{path}: expected a .npy file, as numpy.save writes it; its header is damaged, or "
            "of a structured type"
        ) from exc
    _check_type(path, dtype)
    _check_shape(path, shape)
    file.seek(head.tell())
    return tuple(map(int, shape)), fortran, dtype  # numpy lets True pass for 1


def _check_type(path: Path, dtype: np.dtype[np.generic]) -> None:
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        found = "Python objects, which are never read" if dtype.hasobject else f"{dtype!s:.60}"
        raise ConfigError(
            f"{path}: expected float32, float64 or float16; found {found}; convert it with "
            "array.astype(numpy.float32)"
        )


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise ConfigError(
            f"{path}: expected 1 to {MAX_DIMENSIONS} dimensions, the first one rows; found "
            f"{len(shape)}"
        )
    # Each first: their product may be a number of any length.
    if any(not 1 <= size <= MAX_ELEMENTS for size in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ConfigError(
            f"{path}: expected 1 to {MAX_ELEMENTS:,} elements, as many as a frame holds; found "
            f"shape {shape!s:.60}"
        )
