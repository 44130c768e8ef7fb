"""One chain for every codec and every setting that changes its bytes."""

from __future__ import annotations

CASES: dict[str, list[dict[str, object]]] = {
    "raw32": [{"id": "raw32"}],
    "fp16": [{"id": "fp16"}],
    "bf16": [{"id": "bf16"}],
    "fp8": [{"id": "fp8"}],
    "fp8-e5m2-stochastic": [{"id": "fp8", "format": "e5m2", "rounding": "stochastic"}],
    "q8row": [{"id": "q8row"}],
    "q8row-stochastic": [{"id": "q8row", "rounding": "stochastic"}],
    "q4row": [{"id": "q4row"}],
    "q4row-block": [{"id": "q4row", "block": 16, "rounding": "stochastic"}],
    "q2row": [{"id": "q2row"}],
    "q2row-block": [{"id": "q2row", "block": 24, "rounding": "stochastic"}],
    "ecsq": [{"id": "ecsq"}],
    "ecsq-stochastic": [{"id": "ecsq", "step": 2.0, "rounding": "stochastic"}],
    "ecsq-fine": [{"id": "ecsq", "step": 0.05}],
    "lz4": [{"id": "raw32"}, {"id": "lz4"}],
    "zstd": [{"id": "raw32"}, {"id": "zstd", "level": 3}],
    "mixed": [{"id": "q8row"}, {"id": "zstd"}, {"id": "lz4"}],
}
