"""Where a party's models, rows and optimiser state are: in the host's memory, or on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from slstream.codecs.on_device.contract import to_host
from slstream.topology.topology import Party, Topology

Values = npt.NDArray[np.float32] | torch.Tensor
"""float32 values that cross the cut: an array of the host's, or a tensor on another device, without
a graph."""

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_REPEATABLE = ":4096:8"
"""Memory for cuBLAS that makes it repeatable; a user's own choice goes first."""

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def is_apart(device: torch.device) -> bool:
    """Whether a device has a memory of its own, so that arrays cannot be views of its tensors."""
    return device.type != "cpu"


class Device:
    """One device, and the ways to it and back."""

    def __init__(self, device: torch.device) -> None:
        """Name it; nothing is done to it."""
        self.torch = device
        self.apart = is_apart(device)

    def tensor(self, values: npt.NDArray[np.generic] | torch.Tensor) -> torch.Tensor:
        """Values on the device, as a tensor of its own that may share their memory."""
        if isinstance(values, torch.Tensor):
            return values.detach().to(self.torch)
        tensor = torch.from_numpy(values)
        return tensor.to(self.torch) if self.apart else tensor

    def values(self, tensor: torch.Tensor) -> Values:
        """A contiguous tensor's values where they are, computed to the end."""
        if not self.apart:
            return as_array(tensor)
        if self.torch.type == "cuda":
            # What follows is measured, and would wait for this.
            torch.cuda.synchronize(self.torch)
        return tensor.detach().contiguous()

    def module(self, module: ModuleT) -> ModuleT:
        """The module, moved to the device."""
        return module.to(self.torch) if self.apart else module

    def seed(self, seed: int) -> None:
        """Make what models draw, on the host or on the device, a function of a seed of 64 bits."""
        torch.default_generator.manual_seed(seed)
        if self.torch.type == "cuda":
            torch.cuda.default_generators[self.torch.index].manual_seed(seed)

    @contextmanager
    def deterministic(self) -> Iterator[None]:
        """Let torch take no operation whose bits may differ from run to run.

        On the CPU there are none to speak of, and nothing is changed. On a GPU a model with an
        operation that has no other form fails, and torch's message names it.
        """
        if self.torch.type != "cuda":
            yield
            return
        os.environ.setdefault(_WORKSPACE, _REPEATABLE)  # read when cuBLAS is first used
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)

    def fingerprint(self) -> dict[str, str]:
        """What its bits depend on, for the environment; nothing of the CPU, which is there anyway.

        Not its number: two GPUs of one kind give equal bits.
        """
        if self.torch.type != "cuda":
            return {}
        return {
            "device": torch.cuda.get_device_name(self.torch),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call] # torch's
            _WORKSPACE.lower(): os.environ.get(_WORKSPACE, _REPEATABLE),
        }


CPU = Device(torch.device("cpu"))


def open_device(party: Party, topology: Topology) -> Device:
    """A party's device, once torch has found it.

    Raises:
        TopologyError: it is not there.
    """
    device = torch.device(party.device)
    if device.type != "cuda":
        return Device(device)
    device = torch.device("cuda", device.index or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.index >= count:
        raise topology.error(
            "parties", party.id, "device",
            text=f"expected a device that torch finds on this machine, found {party.device}, and "
            f"{_found(count)}; set cpu, or start {party.id} where the device is",
        )  # fmt: skip
    return Device(device)


def _found(count: int) -> str:
    if count:
        return f"torch has cuda:0 to cuda:{count - 1}" if count > 1 else "torch has cuda:0 only"
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without CUDA"
    return f"torch {torch.__version__} has no CUDA device"


def as_array(tensor: torch.Tensor) -> npt.NDArray[np.float32]:
    """The tensor's values as a C-contiguous array that shares no graph."""
    return to_host(tensor.detach().contiguous())


def on_host(values: Values) -> npt.NDArray[np.float32]:
    """Values as a C-contiguous array."""
    return values if isinstance(values, np.ndarray) else as_array(values)


def all_finite(values: Values) -> bool:
    """Whether there is neither NaN nor Inf among the values."""
    if isinstance(values, np.ndarray):
        return bool(np.isfinite(values).all())
    return bool(torch.isfinite(values).all())
