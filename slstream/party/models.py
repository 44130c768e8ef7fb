"""Models by registered name or ``module:Class``, built alike everywhere and tried out once.

Initial weights depend on (session seed, party, part) alone. Every model is run once on zeros, so
that what does not fit is said before a session starts.

A registered model is a callable ``(in_features, **args) -> torch.nn.Module``; packages add theirs
under the entry point group ``slstream.models``. A class of the user's own gets ``args`` only.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import cast

import torch
from torch import nn

from slstream.errors import ModelError
from slstream.party.cnn import Cnn
from slstream.party.cut import float32_tensor, join_tensors
from slstream.party.device import open_device
from slstream.party.fuse_part import Combine
from slstream.party.losses import LabelArray, check_output
from slstream.party.mlp import Mlp
from slstream.party.references import load_reference
from slstream.seeds import derive_seed
from slstream.topology import ModelSpec, Party, Topology
from slstream.topology.nearest import hint
from slstream.topology.sections import CutTensor

ENTRY_POINTS = "slstream.models"

_PROBE_ROWS = 2
_MAX_CUT_DIMENSIONS = 3


def _linear(in_features: int, *, out: int, bias: bool = True) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(in_features, out, bias=bias))


def _identity(in_features: int) -> nn.Module:
    del in_features
    return nn.Identity()


_BUILT_IN: dict[str, Callable[..., nn.Module]] = {
    "mlp": Mlp,
    "cnn": Cnn,
    "linear": _linear,
    "identity": _identity,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BuiltBase:
    """A base model that was tried out."""

    module: nn.Module
    """float32 [batch, columns] -> float32 [batch, *cut_shape], or several that are joined to it; in
    training mode, on the party's device."""
    cut_shape: tuple[int, ...]
    """Shape of one row's activation, 1 to 3 dimensions."""
    tensors: Sequence[CutTensor]
    """What the module's output is joined of; none: nothing."""


def build_base(party: Party, topology: Topology, *, in_features: int) -> BuiltBase:
    """Build a party's base model.

    Args:
        party: one that has a base model.
        topology: gives the seed and the folder of the user's modules.
        in_features: number of feature columns.

    Raises:
        ModelError: unknown name, wrong arguments, or an output that is no float32 tensor
            [rows, ...] with 1 to 3 further dimensions.
        TopologyError: the party's device is not there.
    """
    where = topology.where("parties", party.id, "base")
    if party.base is None:
        raise ModelError(f"{where}: {party.id} has no base model")
    tensors, device = party.base.tensors, open_device(party, topology)
    inputs = (torch.zeros(_PROBE_ROWS, in_features, device=device.torch),)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(topology.seed, "init", "base", party.id))
        module = device.module(_build(party.base, topology, in_features, where))
        output = _dry_run(
            module, inputs, party.base, where, lambda found: join_tensors(found, tensors)
        )
    cut = tuple(output.shape[1:])
    if output.shape[:1] != (_PROBE_ROWS,) or not 1 <= len(cut) <= _MAX_CUT_DIMENSIONS or 0 in cut:
        raise ModelError(
            f"{where}: {party.base.model} of {party.id}: expected a cut [rows, ...] with 1 to "
            f"{_MAX_CUT_DIMENSIONS} further dimensions; an input of [{_PROBE_ROWS}, {in_features}] "
            f"gave {list(output.shape)}"
        )
    return BuiltBase(module=module, cut_shape=cut, tensors=tensors)


def build_fuse(
    topology: Topology, *, cut_shapes: Mapping[str, tuple[int, ...]], labels: LabelArray
) -> nn.Module:
    """Build the fuse model: it gets what :class:`Combine` makes of the cuts.

    Args:
        topology: gives the model, the loss, the seed and the folder of the user's modules.
        cut_shapes: shape of one row's activation, by party id.
        labels: the label party's labels, for the number of classes.

    Returns:
        The module, in training mode, on the label party's device.

    Raises:
        ModelError: cuts that do not combine, unknown name, wrong arguments, or an output that does
            not fit the loss.
        TopologyError: the label party's device is not there.
    """
    where, spec = topology.where("fuse"), topology.fuse
    shown = ", ".join(f"{party} [rows, {_join(cut)}]" for party, cut in sorted(cut_shapes.items()))
    device = open_device(topology.label_party, topology)
    cuts = {
        party: torch.zeros(_PROBE_ROWS, *cut, device=device.torch)
        for party, cut in cut_shapes.items()
    }
    if spec.combine in ("sum", "mean") and len(set(cut_shapes.values())) > 1:
        raise ModelError(
            f"{where}.combine: {spec.combine} expects cuts of one shape, found {shown}"
        )
    try:
        inputs = Combine(spec.combine)(cuts)
    except RuntimeError as error:
        raise ModelError(
            f"{where}.combine: {spec.combine} expects cuts that differ in their first dimension "
            f"only, found {shown}"
        ) from error
    if len(inputs) > 1 and ":" not in spec.model:
        raise ModelError(
            f"{where}: combine: list passes {len(inputs)} tensors, which {spec.model} does not "
            "take; use concat, sum, mean, or a module:Class of your own"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(topology.seed, "init", "fuse"))
        module = device.module(_build(spec, topology, math.prod(inputs[0].shape[1:]), where))
        output = _dry_run(module, inputs, spec, where, float32_tensor)
    check_output(topology.loss, tuple(output.shape), rows=_PROBE_ROWS, labels=labels, where=where)
    return module


def _build(spec: ModelSpec, topology: Topology, in_features: int, where: str) -> nn.Module:
    if ":" in spec.model:
        builder = load_reference(spec.model, topology.modules, where)
        arguments: tuple[int, ...] = ()
    else:
        builder, arguments = _registered(spec.model, where), (in_features,)
    if not callable(builder):
        raise ModelError(f"{where}: {spec.model}: expected a class, found {builder!r}")
    try:
        module = builder(*arguments, **spec.args)
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"{where}: cannot build {spec.model} with {spec.args}: {_reason(error)}"
            f"{_arguments(builder) if isinstance(error, TypeError) else ''}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{where}: {spec.model}: expected a torch.nn.Module, found {type(module).__name__}"
        )
    return module


def _registered(name: str, where: str) -> Callable[..., object]:
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    installed = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in installed:
        near = hint(name, {*_BUILT_IN, *installed})
        raise ModelError(f"{where}.model: unknown model {name!r}{near}; or write module:Class")
    try:
        return cast("Callable[..., object]", installed[name].load())
    except Exception as error:  # a package's code may raise anything
        raise ModelError(
            f"{where}.model: cannot load {name!r} from {installed[name].value}: {_reason(error)}"
        ) from error


def _dry_run(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    spec: ModelSpec,
    where: str,
    read: Callable[[object], torch.Tensor],
) -> torch.Tensor:
    """Run a model on zeros in evaluation mode, which changes no state of it; read its output."""
    shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
    module.eval()
    try:
        with torch.no_grad():
            output: object = module(*inputs)
    except Exception as error:  # the user's code may raise anything
        raise ModelError(
            f"{where}: {spec.model} fails on an input of {shapes}: {_reason(error)}"
        ) from error
    module.train()
    try:
        return read(output)
    except ModelError as error:
        raise ModelError(f"{where}: {spec.model}: for an input of {shapes}: {error}") from error


def _arguments(builder: Callable[..., object]) -> str:
    """What a builder may be called with, as the end of a message."""
    try:
        parameters = inspect.signature(builder).parameters
    except (TypeError, ValueError):
        return ""
    return f" (its arguments: {', '.join(name for name in parameters if name != 'in_features')})"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def _join(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))
