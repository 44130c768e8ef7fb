from __future__ import annotations

import numpy as np
import torch

from slstream.bench import codecs
from slstream.codecs.chain import CodecChain


def test_reports_speed_size_and_fidelity_of_each_chain_beside_copies() -> None:
    threads = torch.get_num_threads()
    chains = {name: codecs.CHAINS[name] for name in ("raw32", "q4row", "ecsq")}
    report = codecs.run(chains=chains, shapes=((64, 64),), seconds=0)
    results = {result.name: result for result in report.results}
    assert report.bench == "codecs"
    assert set(results) == {
        *(
            f"{chain}/{what}"
            for chain in chains
            for what in ("encode_gb_per_s", "decode_gb_per_s", "bits_per_element", "snr_db")
        ),
        "memcpy_gb_per_s",
        "torch_float16_gb_per_s",
        "torch_bfloat16_gb_per_s",
        "torch_int8_gb_per_s",
    }
    assert all(np.isfinite(result.value) and result.value > 0 for result in report.results)
    assert results["raw32/bits_per_element"].value == 32.0
    assert results["raw32/snr_db"].value == 200.0
    assert results["q4row/bits_per_element"].value == 4.25 + 8 / 64**2
    assert results["q4row/encode_gb_per_s"].target == ">= 4"
    assert results["ecsq/decode_gb_per_s"].target == ">= 2"
    assert results["raw32/encode_gb_per_s"].holds is None
    assert torch.get_num_threads() == threads


def test_every_chain_of_the_report_can_be_built() -> None:
    for name, config in codecs.CHAINS.items():
        assert CodecChain.from_config(config), name
