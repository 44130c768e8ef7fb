"""The frames in ``tests/golden/frames``: what was written once must be read for ever.

Run this file to write the golden files that do not exist yet. It never touches one that does: if a
change of the code breaks them, the change needs a new frame version.
"""

from __future__ import annotations

import json
from pathlib import Path

from slstream.frames.chunking import chunk_frame
from slstream.frames.frame import Frame
from slstream.frames.header import FrameKind

FOLDER = Path(__file__).parents[1] / "golden" / "frames"


def _frame(kind: FrameKind, sequence: int, payload: bytes) -> Frame:
    return Frame(
        kind=kind,
        schema_id=sequence + 1,
        incarnation=2,
        sequence=sequence,
        epoch=3,
        step=4,
        micro_batch=5,
        window=6,
        payload=payload,
    )


CASES: dict[str, tuple[Frame, int]] = {
    "activation": (_frame(FrameKind.ACTIVATION, 0, bytes(range(16))), 64),
    "gradient-chunked": (_frame(FrameKind.GRADIENT, 1, bytes(range(100))), 32),
    "evaluation-empty": (_frame(FrameKind.EVALUATION, 2, b""), 64),
    "control": (_frame(FrameKind.CONTROL, 3, b'{"type":"end"}'), 64),
    "ids": (_frame(FrameKind.IDS, 4, bytes(32)), 64),
    "match-full": (_frame(FrameKind.MATCH, 5, b"\xa5" * 64), 64),
    "largest-fields": (
        Frame(
            kind=FrameKind.MATCH,
            schema_id=2**32 - 1,
            incarnation=2**32 - 1,
            sequence=2**64 - 1,
            epoch=2**16 - 1,
            step=2**32 - 1,
            micro_batch=2**16 - 1,
            window=2**16 - 1,
            payload=b"\xff",
        ),
        1,
    ),
}
"""Name -> frame and chunk size."""


def document(frame: Frame, chunk_bytes: int) -> str:
    """A golden file: the fields as numbers, payload and record values in hexadecimal."""
    fields = {name: int(getattr(frame, name)) for name in Frame.__slots__ if name != "payload"} | {
        "payload": frame.payload.hex()
    }
    values = [value.hex() for value in chunk_frame(frame, chunk_bytes)]
    return json.dumps({"frame": fields, "chunk_bytes": chunk_bytes, "values": values}, indent=2)


def main() -> None:
    """Write the absent files."""
    for name, (frame, chunk_bytes) in CASES.items():
        path = FOLDER / f"{name}.json"
        if not path.exists():
            path.write_text(document(frame, chunk_bytes) + "\n")


if __name__ == "__main__":
    main()
