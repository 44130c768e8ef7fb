"""The secret that parties may share so that nobody else can test guessed ids."""

from __future__ import annotations

import hashlib

from slstream.errors import DataError
from slstream.topology import Topology

_LEAST_BYTES = 16


def read_key_file(topology: Topology) -> bytes | None:
    """The key of the id digests.

    White space at the end of the file does not count: editors add it.

    Returns:
        32 bytes derived from the file's content; ``None`` when the topology names no key file.

    Raises:
        DataError: the file cannot be read or holds fewer than 16 bytes.
    """
    name = topology.alignment.key_file
    if name is None:
        return None
    path, where = topology.root / name, topology.where("alignment", "key_file")
    try:
        content = path.read_bytes().rstrip()
    except OSError as error:
        raise DataError(f"{where}: cannot read the key file {path}: {error.strerror}") from error
    if len(content) < _LEAST_BYTES:
        raise DataError(
            f"{where}: expected a secret of at least {_LEAST_BYTES} bytes in {path}, found "
            f"{len(content)}; all parties need the same random content"
        )
    return hashlib.blake2b(content, digest_size=32, person=b"slstream key").digest()
