from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from slstream.errors import TopologyError
from slstream.party import device
from slstream.party.base_part import BasePart, make_optimizer
from slstream.party.device import CPU, Device, all_finite, as_array, on_host, open_device
from slstream.party.environment import environment
from slstream.party.preflight import check_parties
from slstream.party.runtime import PartyRuntime
from tests.codecs.on_device.devices import DEVICES, NO_GPU
from tests.party.federation import write_federation

GPU = Device(torch.device("cuda", 0))
"""It is there only in tests that say so."""


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> Device:
    """The CPU, taken for a device with a memory of its own."""
    monkeypatch.setattr(device, "is_apart", lambda name: True)
    return Device(torch.device("cpu"))


def test_on_the_cpu_nothing_is_copied() -> None:
    array = np.ones((3, 2), np.float32)
    tensor = CPU.tensor(array)
    assert tensor.data_ptr() == array.ctypes.data
    values = CPU.values(tensor.requires_grad_())
    assert isinstance(values, np.ndarray)
    assert values.ctypes.data == array.ctypes.data
    module = nn.Linear(1, 1)
    assert CPU.module(module) is module
    assert on_host(array) is array


def test_values_of_another_device_stay_there_and_share_no_graph(apart: Device) -> None:
    tensor = torch.ones(3, 2, requires_grad=True)
    values = apart.values(tensor.T)
    assert isinstance(values, torch.Tensor)
    assert values.is_contiguous()
    assert not values.requires_grad
    assert as_array(tensor).tolist() == on_host(values).T.tolist()


def test_two_leaves_of_the_same_values_have_gradients_of_their_own(apart: Device) -> None:
    values = torch.ones(3)
    for _ in range(2):
        leaf = apart.tensor(values).requires_grad_()
        (leaf * 2).sum().backward()  # type: ignore[no-untyped-call]  # torch's
        assert leaf.grad is not None
        assert leaf.grad.tolist() == [2, 2, 2]
    assert not values.requires_grad


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", DEVICES)
def test_what_is_not_finite_is_seen(bad: float, where: torch.device) -> None:
    array = np.zeros((2, 2), np.float32)
    assert all_finite(array)
    assert all_finite(torch.from_numpy(array).to(where))
    array[1, 1] = bad
    assert not all_finite(array)
    assert not all_finite(torch.from_numpy(array).to(where))


@pytest.mark.parametrize(
    ("name", "there", "found"),
    [
        ("cuda", 0, f"found cuda, and torch {torch.__version__} has no CUDA device; set cpu, or"),
        ("cuda:1", 1, "found cuda:1, and torch has cuda:0 only; set cpu, or start bob where"),
        ("cuda:7", 2, "found cuda:7, and torch has cuda:0 to cuda:1; set cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused_before_anything_begins(
    name: str, there: int, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    topology = write_federation(tmp_path).load(f"parties.bob.device={name}")
    with pytest.raises(TopologyError) as caught:
        check_parties(topology, topology.parties)
    place = f"parties.bob.device: expected a device that torch finds on this machine, {found}"
    assert place in str(caught.value)
    with pytest.raises(TopologyError) as caught:
        PartyRuntime("bob", topology, tmp_path / "run", lambda progress: None)
    assert place in str(caught.value)
    assert not (tmp_path / "run").exists()
    check_parties(topology, [topology.party("alice")])
    PartyRuntime("alice", topology, tmp_path / "run", lambda progress: None)


def test_a_party_that_has_no_base_model_is_checked_for_its_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    federation = write_federation(tmp_path)
    changes = ("parties.alice.base=null", "parties.alice.data.features=null")
    alone = federation.load(*changes, "parties.alice.device=cuda")
    with pytest.raises(TopologyError, match=r"parties\.alice\.device: expected a device"):
        check_parties(alone, [alone.party("alice")])
    assert check_parties(federation.load(*changes), [alone.party("bob")])


def test_a_torch_without_cuda_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    topology = write_federation(tmp_path).load("parties.bob.device=cuda")
    with pytest.raises(TopologyError, match=r"found cuda, and torch .* is built without CUDA; set"):
        open_device(topology.party("bob"), topology)


def test_a_device_that_is_there_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, number in (("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)):
        topology = write_federation(tmp_path).load(f"parties.bob.device={name}")
        opened = open_device(topology.party("bob"), topology)
        assert (opened.torch, opened.apart) == (torch.device("cuda", number), True)
    opened = open_device(topology.party("alice"), topology)
    assert (opened.torch, opened.apart) == (torch.device("cpu"), False)


def test_generators_of_the_host_and_of_the_device_get_the_seed_of_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other, own = torch.Generator(), torch.Generator()
    monkeypatch.setattr(torch.cuda, "default_generators", (other, own))
    Device(torch.device("cuda", 1)).seed(2**64 - 5)
    assert own.initial_seed() == torch.default_generator.initial_seed() == 2**64 - 5
    assert other.initial_seed() != 2**64 - 5
    CPU.seed(7)
    assert own.initial_seed() == 2**64 - 5
    assert torch.default_generator.initial_seed() == 7


def test_what_is_not_deterministic_is_refused_on_a_gpu_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with CPU.deterministic():
        assert not torch.are_deterministic_algorithms_enabled()
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with GPU.deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with GPU.deterministic():
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_the_device_is_part_of_the_environment_and_the_cpu_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: f"GPU {name}")
    own = {"device", "cudnn", "cublas_workspace_config"}
    assert environment(1, CPU) == environment(1)
    assert not own & set(environment(1))
    found = environment(1, GPU)
    assert set(found) == {*environment(1), *own}
    assert found["device"] == "GPU cuda:0"
    with GPU.deterministic():
        assert environment(1, GPU) == found  # one that is computed before the first step, too
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: "another")
    assert environment(1, GPU) != found


@NO_GPU
def test_dropout_on_a_gpu_is_a_function_of_the_step() -> None:
    features = np.ones((64, 16), np.float32)
    rows = np.arange(64)

    def draw(seed: int, *place: Any) -> bytes:
        module = GPU.module(nn.Dropout())
        part = BasePart("bob", module, None, features, seed, device=GPU)
        torch.rand(3, device=GPU.torch)
        values = part.start(rows, place)
        assert isinstance(values, torch.Tensor)
        assert values.is_cuda
        return on_host(values).tobytes()

    first = draw(1, 1, 1, 0)
    assert draw(1, 1, 1, 0) == first
    assert len({first, draw(2, 1, 1, 0), draw(1, 2, 1, 0), draw(1, 1, 2, 0)}) == 4


@NO_GPU
def test_optimiser_state_is_on_the_gpu() -> None:
    module = GPU.module(nn.Linear(4, 2))
    optimizer = make_optimizer("adam", {"lr": 0.1}, module, "")
    part = BasePart("bob", module, optimizer, np.ones((8, 4), np.float32), 1, device=GPU)
    values = part.start(np.arange(8), (1, 1, 0))
    part.propagate((1, 1, 0), values, begins_step=True)
    part.update()
    assert optimizer is not None
    moments = [state["exp_avg"] for state in optimizer.state.values()]
    assert moments
    assert all(moment.is_cuda for moment in moments)
