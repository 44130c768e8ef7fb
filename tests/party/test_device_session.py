"""Sessions of parties whose models are on a device with a memory of its own.

Where there is no GPU, the CPU is taken for such a device: tensors then go all the ways that they
would go on a GPU, and the bits must be those of the way of arrays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slstream.audit.replay import Replayed, ReplayRequest, replay
from slstream.codecs.contract import FloatArray
from slstream.codecs.on_device.contract import DeviceCodec
from slstream.party import device, tensor_coder
from slstream.party.centralised import train_centralised
from slstream.party.summary import Traffic
from slstream.topology import Topology
from slstream.transport.connect import embedded_url, open_transport
from tests.codecs.on_device.devices import NO_GPU
from tests.party.small_session import RAW, compute_alone, document, run_all, summary_of, topology
from tests.party.test_driver_recovery import EVERY_STEP, PARTIES, TRAINING, Sessions

INTEGERS = {
    "forward": [{"id": "q8row"}, {"id": "zstd"}],
    "backward": {"id": "q4row", "rounding": "stochastic", "block": 8},
    "evaluation": "fp16",
}
MASK = {"forward": "bf16", "backward": "mask", "evaluation": "bf16"}
PIPELINE = {"name": "pipeline", "pipeline_size": 3}
LOCAL = {"name": "local", "base_steps": 2, "fuse_steps": 2, "exchange_every": 2}
SLICES = {"batch_size": 18, "epochs": 2, "validation": 0.25, "micro_batch_size": 7}
DROPOUT = {"model": "mlp", "args": {"hidden": [6], "out": 3, "dropout": 0.3}}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    compute_alone(monkeypatch)
    yield
    # Parties of one process end in any order, and each sets it back to what it found.
    torch.use_deterministic_algorithms(False)


def take_the_cpu_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "is_apart", lambda name: True)


def code_there(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have tensors of any size coded on the device; what was is listed."""
    monkeypatch.setattr(tensor_coder, "PAYS_FROM_BYTES", 0)
    seen: list[str] = []
    encode, decode = DeviceCodec.encode, DeviceCodec.decode

    def encoded(codec: Any, *args: Any) -> bytes:
        seen.append(f"encode {codec._codec.id}")
        return encode(codec, *args)

    def decoded(codec: Any, *args: Any) -> torch.Tensor:
        seen.append(f"decode {codec._codec.id}")
        return decode(codec, *args)

    monkeypatch.setattr(DeviceCodec, "encode", encoded)
    monkeypatch.setattr(DeviceCodec, "decode", decoded)
    return seen


def federation(folder: Path, **changes: Any) -> Topology:
    own = document(2, **changes)
    for party in own["parties"].values():
        party["base"] = DROPOUT
    topology(folder)  # writes the tables
    return Topology.from_dict(own, folder)


def bits(folder: Path) -> dict[str, bytes]:
    return {n: (folder / n / "model.safetensors").read_bytes() for n in PARTIES}


def trained(folder: Path, own: Topology) -> tuple[dict[str, bytes], Any, list[Traffic]]:
    """Weights, metrics, and what tensors weighed on each link."""
    summaries = {name: summary_of(o) for name, o in run_all(folder, own).items()}
    kinds = ("activation", "gradient", "evaluation")
    traffic = [t for s in summaries.values() for t in s.traffic if t.kind in kinds]
    return bits(folder), summaries["alice"].history, traffic


@pytest.mark.parametrize(
    ("codec", "changes", "there"),
    [
        (RAW, {}, set()),
        ("auto", {}, set()),
        ("adaptive", {}, None),
        (INTEGERS, {}, {"encode q8row", "decode q8row", "encode q4row", "decode q4row"}),
        (MASK, {}, {"encode bf16", "decode bf16"}),
        (INTEGERS, {"schedule": PIPELINE}, {"encode q8row", "decode q8row"}),
        (INTEGERS, {"schedule": LOCAL}, {"encode q4row", "decode q4row"}),
        (INTEGERS, {"schedule": "microbatch", "training": SLICES}, {"encode fp16", "decode fp16"}),
    ],
    ids=["raw", "auto", "adaptive", "integers", "mask", "pipeline", "local", "microbatch"],
)
def test_tensors_that_stay_on_the_device_give_the_same_bits(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codec: Any,
    changes: dict[str, Any],
    there: set[str] | None,
) -> None:
    if codec == "adaptive":
        always_the_second(monkeypatch)
    own = federation(tmp_path, codec=codec, **changes)
    expected = trained(tmp_path / "host", own)
    take_the_cpu_for_a_gpu(monkeypatch)
    seen = code_there(monkeypatch)
    assert trained(tmp_path / "device", own) == expected
    if there is not None:
        assert there <= set(seen)
        assert there or not seen


def always_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices depend on clocks, and two sessions would differ."""
    from slstream.adaptive.controller import Choice, Controller

    def choose(controller: Controller, tensor: FloatArray) -> Choice:
        del controller
        assert isinstance(tensor, np.ndarray)
        return Choice(rung=1, reason="")

    monkeypatch.setattr(Controller, "choose", choose)


def test_small_tensors_are_coded_on_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_the_cpu_for_a_gpu(monkeypatch)
    seen = code_there(monkeypatch)
    monkeypatch.setattr(tensor_coder, "PAYS_FROM_BYTES", 1 << 20)
    trained(tmp_path / "run", federation(tmp_path, codec=INTEGERS))
    assert not seen


def test_parties_on_different_devices_understand_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = federation(tmp_path, codec=INTEGERS)
    expected = trained(tmp_path / "host", own)
    seen = code_there(monkeypatch)
    original = device.open_device

    def opened(party: Any, topology: Topology) -> device.Device:
        found = original(party, topology)
        found.apart = party.id == "bob"
        return found

    for module in ("feature_actions", "label_actions", "negotiation", "models"):
        monkeypatch.setattr(f"slstream.party.{module}.open_device", opened)
    assert trained(tmp_path / "mixed", own) == expected
    assert set(seen) == {"encode q8row", "encode fp16", "decode q4row"}


def test_a_session_on_a_device_that_is_cut_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints with batches under way go to the host and come back."""
    take_the_cpu_for_a_gpu(monkeypatch)
    code_there(monkeypatch)
    sessions = Sessions(
        tmp_path,
        monkeypatch,
        checkpoints=EVERY_STEP,
        schedule=PIPELINE,
        training={**TRAINING, "batch_size": 9, "epochs": 1},
        codec=INTEGERS,
    )
    expected, actions = sessions.undisturbed()
    cut = {name: keys[9::7] for name, keys in actions.items()}
    assert all(len(keys) > 1 for keys in cut.values())
    assert sessions.result(sessions.run(cut)) == expected


def replayed(folder: Path, own: Topology, party: str) -> Replayed:
    async def main() -> Replayed:
        url = embedded_url(folder / "log")
        async with await open_transport(url, read_only=True) as log:
            request = ReplayRequest(session="latest", party=party, dump=(1, 2))
            return await replay(request, own, log, directory=None)

    return asyncio.run(main())


def test_a_session_is_replayed_on_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = federation(tmp_path, codec=INTEGERS)
    trained(tmp_path / "run", own)
    expected = {name: replayed(tmp_path / "run", own, name) for name in PARTIES}
    take_the_cpu_for_a_gpu(monkeypatch)
    seen = code_there(monkeypatch)
    for name, before in expected.items():
        again = replayed(tmp_path / "run", own, name)
        assert again.report.complete
        assert again.report.equal_frames == again.report.frames == before.report.frames
        assert {key: t.tobytes() for key, t in again.tensors.tensors.items()} == {
            key: t.tobytes() for key, t in before.tensors.tensors.items()
        }
    assert seen


@NO_GPU
@pytest.mark.parametrize("schedule", ["sync", PIPELINE, LOCAL], ids=["sync", "pipeline", "local"])
def test_a_session_on_a_gpu_is_trained_again_and_replayed_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: Any
) -> None:
    code_there(monkeypatch)
    own = on_gpu(federation(tmp_path, codec=INTEGERS, schedule=schedule), tmp_path)
    first = trained(tmp_path / "first", own)
    assert trained(tmp_path / "second", own) == first
    for name in PARTIES:
        report = replayed(tmp_path / "first", own, name).report
        assert report.complete
        assert report.frames == report.equal_frames


@NO_GPU
def test_a_session_on_a_gpu_equals_one_process_there(tmp_path: Path) -> None:
    own = on_gpu(federation(tmp_path), tmp_path)
    found, _, _ = trained(tmp_path / "run", own)
    train_centralised(own, directory=tmp_path / "one")
    assert bits(tmp_path / "one") == found


def on_gpu(own: Topology, folder: Path) -> Topology:
    value: Any = own.document.value
    parties = {name: {**party, "device": "cuda"} for name, party in value["parties"].items()}
    return Topology.from_dict({**value, "parties": parties}, folder)
