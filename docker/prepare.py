"""Lays out what each container of compose.yaml may know, each in a folder of its own.

In a real federation nobody does this: every organisation has its table, and draws its own password.
Here one machine plays all of them. What is there already is left as it is, so that the passwords
stay those that the broker was set up with.

    PARTY/table.csv         the party's columns of the breast cancer data
    PARTY/kafka.password    who it is to the broker
    PARTY/ids.key           the same for all parties: the key of the id digests
    operator/kafka.password of the user admin, who gives the parties their rights
    broker/USER.password    of all users
"""

from __future__ import annotations

import os
import secrets
import sys
from fnmatch import fnmatch
from pathlib import Path

from slstream.party.bundled import ID_COLUMN, load_bundled

COLUMNS = {
    "alice": ("malignant", "mean *"),
    "bob": ("* error",),
    "carol": ("worst *",),
}
OPERATOR = "admin"
OWNER = 1000
"""The user that the programs run as, in this project's image and in Kafka's."""


def prepare(root: Path) -> None:
    """Write the files above."""
    table = load_bundled("breast_cancer")
    ids_key = secrets.token_bytes(32)
    for user, folder in {**{party: party for party in COLUMNS}, OPERATOR: "operator"}.items():
        password = secrets.token_urlsafe(24).encode()
        written = _write(root / "broker" / f"{user}.password", password)
        _write(root / folder / "kafka.password", written)
    for party, patterns in COLUMNS.items():
        own = [name for name in table.columns if any(fnmatch(name, each) for each in patterns)]
        text = table.select(ID_COLUMN, *own).write_csv()
        _write(root / party / "table.csv", text.encode())
        ids_key = _write(root / party / "ids.key", ids_key)


def _write(path: Path, content: bytes) -> bytes:
    """Write a file whole and for its owner only, unless it exists; returns what it holds."""
    if path.exists():
        return path.read_bytes()
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_bytes(content)
    if os.geteuid() == 0:  # in the container: a new volume belongs to root
        os.chown(temporary, OWNER, OWNER)
        if path.parent.stat().st_uid != OWNER:
            path.parent.chmod(0o700)
            os.chown(path.parent, OWNER, OWNER)
    temporary.rename(path)
    return content


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
