"""The documents in ``tests/golden/schemas``: their fingerprints must never change.

Run this file to write the golden files that do not exist yet. It never touches one that does: a
fingerprint that changes breaks every log that was written before.
"""

from __future__ import annotations

import json
from pathlib import Path

from slstream.schemas.document import Schema

FOLDER = Path(__file__).parents[1] / "golden" / "schemas"

CASES = {
    "control": '{"format": 1, "frame": 1, "kind": "control", "content": "json"}',
    "ids": '{"format": 1, "frame": 1, "kind": "ids", "content": "digests"}',
    "match": '{"format": 1, "frame": 1, "kind": "match", "content": "bitmap"}',
    "activation": """{"format": 1, "frame": 1, "kind": "activation", "tensor": "cut",
        "dtype": "float32", "shape": ["batch", 64], "codec": [{"id": "raw32"}]}""",
    "gradient-chain": """{"format": 1, "frame": 1, "kind": "gradient", "tensor": "cut-bob",
        "dtype": "float32", "shape": ["batch", 8, 4, 4],
        "codec": [{"step": 0.25, "id": "ecsq"}, {"level": 3, "id": "zstd"}]}""",
    "evaluation-values": """{"codec": [{"id": "x", "a": [1, 1.0, -0.0, 1e16, 1E-7, 0.1],
        "b": {"z": null, "y": true, "\\u00fc": "\\ud83d\\ude00/\\"\\\\"}}], "shape": ["batch"],
        "dtype": "float32", "tensor": "t_1", "kind": "evaluation", "frame": 1, "format": 1}""",
}
"""Name -> document as somebody may have written it."""


def document(text: str) -> str:
    """A golden file: a document, its canonical text and its fingerprint."""
    schema = Schema.from_json(text.encode())
    golden = {
        "document": text,
        "canonical": schema.canonical_json(),
        "fingerprint": schema.fingerprint,
    }
    return json.dumps(golden, indent=2)


def main() -> None:
    """Write the absent files."""
    for name, text in CASES.items():
        path = FOLDER / f"{name}.json"
        if not path.exists():
            path.write_text(document(text) + "\n")


if __name__ == "__main__":
    main()
