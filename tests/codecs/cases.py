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
    "ecsq_signs": [{"id": "ecsq_signs"}],
    "ecsq_signs-fine": [{"id": "ecsq_signs", "step": 0.05, "rounding": "nearest"}],
    "mask": [{"id": "mask"}],
    "mask-fine": [{"id": "mask", "values": {"id": "ecsq", "step": 0.05}}],
    "mask-signs": [{"id": "mask", "values": {"id": "ecsq_signs"}}],
    "mask-fp16": [{"id": "mask", "values": {"id": "fp16"}}],
    "topk": [{"id": "topk"}],
    "topk-tensor": [
        {"id": "topk", "fraction": 0.02, "per": "tensor", "values": {"id": "raw32"}},
    ],
    "topk-most": [{"id": "topk", "fraction": 0.96, "values": {"id": "ecsq"}}],
    "topk-mixed": [
        {"id": "topk", "fraction": 0.25, "values": {"id": "ecsq", "step": 0.5}},
        {"id": "zstd"},
    ],
    "randtopk": [{"id": "randtopk"}],
    "randtopk-tensor": [
        {"id": "randtopk", "fraction": 0.7, "per": "tensor", "alpha": 0.5, "values": "q4row"},
    ],
    "randomk": [{"id": "randomk"}],
    "randomk-unscaled": [{"id": "randomk", "fraction": 0.5, "scaled": False, "values": "bf16"}],
    "kmeans": [{"id": "kmeans"}],
    "kmeans-fine": [{"id": "kmeans", "levels": 256}],
    "kmeans-stochastic": [{"id": "kmeans", "levels": 5, "rounding": "stochastic"}],
    "klt": [{"id": "klt"}],
    "klt-stochastic": [{"id": "klt", "step": 2.0, "rounding": "stochastic", "refresh": 2}],
    "klt-fine": [{"id": "klt", "step": 0.05}],
    "delta": [{"id": "delta"}],
    "delta-fine": [{"id": "delta", "step": 0.05, "refresh": 3}, {"id": "zstd"}],
    "lz4": [{"id": "raw32"}, {"id": "lz4"}],
    "zstd": [{"id": "raw32"}, {"id": "zstd", "level": 3}],
    "zstd_shuffled": [{"id": "fp16"}, {"id": "zstd_shuffled"}],
    "zstd_shuffled-raw": [{"id": "raw32"}, {"id": "zstd_shuffled", "width": 4, "level": 3}],
    "split": [
        {
            "id": "split",
            "tensors": [
                {"name": "wide", "size": 8, "codec": [{"id": "q8row"}]},
                {
                    "name": "embedding",
                    "size": 32,
                    "codec": [{"id": "ecsq", "rounding": "stochastic"}, {"id": "zstd"}],
                },
            ],
        }
    ],
    "split-delta": [
        {
            "id": "split",
            "tensors": [
                {"name": "moving", "size": 32, "codec": [{"id": "delta"}, {"id": "lz4"}]},
                {"name": "wide", "size": 8, "codec": [{"id": "q8row"}]},
            ],
        }
    ],
    "mixed": [{"id": "q8row"}, {"id": "zstd"}, {"id": "lz4"}],
}

STATEFUL = {name: CASES[name] for name in CASES if {"delta", "klt"} & set(name.split("-"))}
"""Those with a state."""
