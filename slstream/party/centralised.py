"""The same model trained in one process, with nothing between its parts.

It is the yardstick of a session: without lossy codecs a session gives the same weights to the bit;
with them, the difference in the metrics is what compression costs.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from time import perf_counter

import torch
from torch import nn

from slstream.errors import DataError, Interrupted, SessionAborted
from slstream.party.alignment import (
    Mask,
    intersect,
    match_bitmap,
    parse_bitmap,
    require_matches,
)
from slstream.party.base_part import BasePart, make_optimizer
from slstream.party.device import open_device
from slstream.party.fuse_part import Combine, FusePart
from slstream.party.losses import LabelArray, build_loss
from slstream.party.metrics import validation_metrics
from slstream.party.models import build_base, build_fuse
from slstream.party.party_data import PartyData, rows_of
from slstream.party.party_files import PartyFiles
from slstream.party.plan import plan_of
from slstream.party.summary import Baseline
from slstream.party.tables import load_table
from slstream.protocol.actions import Rows
from slstream.topology.topology import Topology

_ID_KEY = b"one process knows all ids"
"""Nothing leaves this process; the order of the rows does not depend on the key."""


class Centralised:
    """All parts of a federation's model in one process, on data of all parties."""

    def __init__(self, topology: Topology) -> None:
        """Load the data of all parties and build all models.

        Raises:
            ConfigError: data that is not at hand here, or models that do not fit.
        """
        self._topology = topology
        tables = {party.id: load_table(party, topology) for party in topology.parties}
        self._data = {
            party.id: PartyData(party, topology, tables[party.id], _ID_KEY)
            for party in topology.parties
        }
        self._parts: dict[str, BasePart] = {}
        cuts: dict[str, tuple[int, ...]] = {}
        rows: Rows | None = None
        labels: LabelArray | None = None
        matched = self._matched_rows()
        for party in topology.parties:
            rows, prepared = self._data[party.id].align(matched[party.id])
            labels = prepared.labels if prepared.labels is not None else labels
            if party.base is None:
                continue
            model = build_base(party, topology, in_features=len(tables[party.id].columns))
            cuts[party.id] = model.cut_shape
            self._parts[party.id] = BasePart(
                party.id,
                model.module,
                None,
                prepared.features,
                topology.seed,
                tensors=model.tensors,
                device=open_device(party, topology),
            )
        if labels is None:
            raise DataError("no party's table has labels")
        self.rows = rows_of(rows)
        self._device = open_device(topology.label_party, topology)
        module = build_fuse(topology, cut_shapes=cuts, labels=labels)
        self._fuse = FusePart(
            topology.label_party.id,
            Combine(topology.fuse.combine),
            module,
            build_loss(topology.loss, topology.modules, topology.where("loss")),
            None,
            labels,
            topology.seed,
            None,
            self._device,
        )
        # One optimiser over the whole model: what a user would write without slstream.
        joined = nn.ModuleList([*(part.module for part in self._parts.values()), module])
        self._optimizer = make_optimizer(
            topology.optimizer.name,
            topology.optimizer.arguments(),
            joined,
            topology.where("optimizer"),
        )

    def _matched_rows(self) -> dict[str, Mask]:
        digests = {party: data.digests.digests for party, data in self._data.items()}
        matched = intersect(list(digests.values()))
        require_matches(
            len(matched),
            party_rows={party: len(d) for party, d in digests.items()},
            min_rows=self._topology.alignment.min_rows,
        )
        return {
            party: parse_bitmap(match_bitmap(d, matched), rows=len(d), party=party)
            for party, d in digests.items()
        }

    def step(self, epoch: int, step: int) -> float:
        """One training step; returns the loss.

        Raises:
            SessionAborted: the loss is not finite.
        """
        rows = self._data[self._topology.label_party.id].train_batch(epoch, step)
        activations = {
            party: part.forward(rows, (epoch, step, 0)).to(self._device.torch)
            for party, part in self._parts.items()
        }
        loss = self._fuse.loss(activations, rows, (epoch, step, 0))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise SessionAborted(
                f"the training loss is {value} in epoch {epoch}, step {step}: training diverged"
            )
        if self._optimizer is not None:
            self._optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            self._optimizer.step()
        return value

    def evaluate(self) -> dict[str, float]:
        """Validation metrics; empty when there are no validation rows."""
        data = self._data[self._topology.label_party.id]
        for step in range(1, self.rows.evaluation_steps + 1):
            rows = data.evaluation_batch(step)
            activations = {
                party: part.evaluate(rows).to(self._device.torch)
                for party, part in self._parts.items()
            }
            self._fuse.predict(activations, rows)
        outputs = self._fuse.outputs()
        return {} if outputs is None else validation_metrics(self._topology.loss, *outputs)

    def save(self, directory: Path) -> dict[str, str]:
        """Write ``directory/<party>/model.safetensors`` as a session does; returns the hashes."""
        label_party = self._topology.label_party.id
        hashes = {}
        for party in self._topology.parties:
            modules: dict[str, nn.Module] = {}
            if party.id in self._parts:
                modules["base"] = self._parts[party.id].module
            if party.id == label_party:
                modules["fuse"] = self._fuse.module
            files = PartyFiles(
                directory / party.id, federation=self._topology.federation, party=party.id
            )
            hashes[party.id] = files.save_weights(modules)
        return hashes


def train_centralised(topology: Topology, *, directory: Path | None = None) -> Baseline:
    """Train the model of a federation, in a thread with the topology's number of compute threads.

    Args:
        topology: the federation; all its data must be readable here.
        directory: where to write the weights; by default nowhere.

    Raises:
        ConfigError: data that is not at hand here, or models that do not fit.
        SessionAborted: training diverged.
    """
    with ThreadPoolExecutor(
        max_workers=1, initializer=torch.set_num_threads, initargs=(topology.threads,)
    ) as executor:
        stop = Event()
        try:
            return executor.submit(_train, topology, directory, stop).result()
        finally:
            stop.set()  # for KeyboardInterrupt: leaving the block waits for the thread


def _train(topology: Topology, directory: Path | None, stop: Event) -> Baseline:
    with ExitStack() as stack:
        for party in topology.parties:
            stack.enter_context(open_device(party, topology).deterministic())
        return _train_model(topology, directory, stop)


def _train_model(topology: Topology, directory: Path | None, stop: Event) -> Baseline:
    model, plan = Centralised(topology), plan_of(topology)
    history: list[dict[str, float]] = []
    started_at = perf_counter()
    for epoch in range(1, plan.epochs + 1):
        for step in range(1, model.rows.steps + 1):
            if stop.is_set():
                raise Interrupted("training in one process was interrupted")
            model.step(epoch, step)
        history.append(model.evaluate())
        if plan.early_stop is not None and plan.early_stop.reason(history) is not None:
            break
    total_s = perf_counter() - started_at
    if directory is not None:
        model.save(directory)
    return Baseline(metrics=history[-1], total_s=total_s)
