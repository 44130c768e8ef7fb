"""What the label party does for its session, apart from sending and receiving."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from slstream.errors import DataError, LocalProtocolError, SessionAborted, SessionRefused
from slstream.frames.header import FrameKind
from slstream.party.alignment import (
    DigestArray,
    intersect,
    match_bitmap,
    parse_bitmap,
    parse_digests,
    require_matches,
)
from slstream.party.base_part import BasePart, make_optimizer
from slstream.party.batches import RowArray
from slstream.party.compute import ComputeThread
from slstream.party.device import Values, open_device
from slstream.party.fuse_part import Combine, FusePart
from slstream.party.inbound import Places
from slstream.party.losses import build_loss
from slstream.party.metrics import validation_metrics
from slstream.party.model_state import Trained
from slstream.party.models import build_base, build_fuse
from slstream.party.negotiation import Negotiation
from slstream.party.party_data import PartyData
from slstream.party.party_files import PartyFiles
from slstream.party.recent_activations import Place
from slstream.party.row_cache import RowCache
from slstream.party.tables import PartyTable, load_table
from slstream.party.tensor_coder import require_tensor
from slstream.protocol.actions import (
    Action,
    Arrival,
    Fuse,
    FuseSteps,
    Match,
    Matched,
    Payload,
    Predict,
    Rows,
    Save,
    Score,
    Update,
)
from slstream.topology.topology import Party, Topology


class LabelActions:
    """Performs the local actions of the label party's session, one after another."""

    def __init__(
        self,
        party: Party,
        topology: Topology,
        *,
        compute: ComputeThread,
        negotiation: Negotiation,
        id_key: bytes,
        files: PartyFiles,
        on_loss: Callable[[int, int, float], None],
    ) -> None:
        """Start a session.

        Args:
            party: this party.
            topology: what was agreed.
            compute: thread of all tensor work.
            negotiation: schemas of the links.
            id_key: key of the id digests.
            files: where weights and scaling go.
            on_loss: called in the event loop with (epoch, step, training loss).

        Raises:
            TopologyError: the party's device is not there.
        """
        self._party = party
        self._device = open_device(party, topology)
        self._topology = topology
        self._compute = compute
        self._negotiation = negotiation
        self._id_key = id_key
        self._files = files
        self._on_loss = on_loss
        self._data: PartyData | None = None
        self._table: PartyTable | None = None
        self._part: FusePart | None = None
        self._loss = 0.0
        self._latest: dict[str, Values] = {}
        self._activations: dict[str, RowCache] = {}
        """By peer; only where steps are left out of the exchange."""

    async def load(self) -> None:
        """Load the table; done before the session is announced, so that a bad file stops it.

        Raises:
            DataError: the table cannot be used.
        """
        self._table = await self._compute.call(self._load)

    async def perform(self, action: Action, places: Places) -> object:
        """Perform one action and return its result.

        Args:
            action: what to do.
            places: where what it uses lies in the log, for messages.

        Raises:
            SlstreamError: as the action's own documentation says.
        """
        match action:
            case Match():
                return await self._match(action, places)
            case Fuse():
                gradients, loss = await self._compute.call(lambda: self._fuse(action, places))
                self._on_loss(action.epoch, action.step, loss)
                return gradients
            case Update():
                # Its outcome shows in the next step, which the same thread computes after it.
                await self._compute.defer(lambda: self._update(action))
            case FuseSteps():
                loss = await self._compute.call(lambda: self._fuse_steps(action))
                self._on_loss(action.epoch, action.step, loss)
            case Predict():
                await self._compute.defer(lambda: self._predict(action, places))
            case Score():
                return await self._compute.call(lambda: self._score(action))
            case Save():
                return await self._compute.call(self._save)
            case _:
                raise LocalProtocolError(f"the label party cannot perform {action}")
        return None

    def _save(self) -> str:
        return self._files.save_weights(self.trained().modules)

    def trained(self) -> Trained:
        """What a checkpoint keeps; in the compute thread, once the rows are matched."""
        part = self._matched()
        modules: dict[str, nn.Module] = {"fuse": part.module}
        optimizers = {"fuse": part.optimizer}
        if part.base is not None:
            modules["base"] = part.base.module
            optimizers["base"] = part.base.optimizer
        return Trained(
            modules=modules,
            optimizers={prefix: o for prefix, o in optimizers.items() if o is not None},
            others={
                "codecs": self._negotiation,
                **{f"activations.{peer}": cache for peer, cache in self._activations.items()},
            },
        )

    def rows_at(self, kind: FrameKind, place: Place) -> RowArray:
        """Rows of a tensor, in session order."""
        return self._loaded().rows_at(kind, place)

    def _load(self) -> PartyTable:
        table = load_table(self._party, self._topology)
        self._data = PartyData(self._party, self._topology, table, self._id_key)
        return table

    async def _match(self, action: Match, places: Places) -> Matched:
        cuts = {peer: tuple(join.cut) for peer, join in action.joins.items()}
        for peer, join in action.joins.items():
            if join.digest != self._topology.digest():
                raise SessionRefused(
                    f"{peer} joined with the topology digest {join.digest}; expected "
                    f"{self._topology.digest()}: the agreed part of all topologies must be the same"
                )
            await self._negotiation.adopt(peer, join.schemas, cuts[peer])
        rows, bitmaps = await self._compute.call(lambda: self._intersect(action, cuts, places))
        for peer, cut in cuts.items():
            await self._negotiation.offer(FrameKind.GRADIENT, peer, cut)
        self._negotiation.begin(rows.train_rows + rows.validation_rows, self._files.allocate)
        party_rows = {peer: join.rows for peer, join in action.joins.items()}
        return Matched(
            rows=rows,
            bitmaps=bitmaps,
            schemas={peer: self._negotiation.offered(peer) for peer in cuts},
            party_rows=dict(sorted({**party_rows, self._party.id: self._loaded().rows}.items())),
        )

    def _intersect(
        self, action: Match, cuts: Mapping[str, tuple[int, ...]], places: Places
    ) -> tuple[Rows, dict[str, bytes]]:
        data = self._loaded()
        theirs: dict[str, DigestArray] = {
            peer: parse_digests(
                blob, rows=action.joins[peer].rows, party=f"{peer} ({places.get(peer)})"
            )
            for peer, blob in action.ids.items()
        }
        matched = intersect([data.digests.digests, *theirs.values()])
        require_matches(
            len(matched),
            party_rows={self._party.id: data.rows}
            | {peer: len(digests) for peer, digests in theirs.items()},
            min_rows=self._topology.alignment.min_rows,
        )
        own = match_bitmap(data.digests.digests, matched)
        rows, prepared = data.align(parse_bitmap(own, rows=data.rows, party=self._party.id))
        for peer, cut in cuts.items():
            require_tensor(peer, cut, data.largest_batch)
            if self._topology.schedule.exchange_every > 1:
                self._activations[peer] = RowCache(rows.train_rows, cut, self._device)
        if prepared.labels is None or self._table is None:
            raise DataError(f"{self._party.id} is the label party, but its table has no labels")

        topology, base, shapes = self._topology, None, dict(cuts)
        if self._party.base is not None:
            self._files.save_scaling(prepared.scaling)
            model = build_base(self._party, topology, in_features=len(self._table.columns))
            shapes[self._party.id] = model.cut_shape
            base = BasePart(
                self._party.id,
                model.module,
                self._optimizer(model.module),
                prepared.features,
                topology.seed,
                tensors=model.tensors,
                device=self._device,
            )
        fuse = build_fuse(topology, cut_shapes=shapes, labels=prepared.labels)
        self._part = FusePart(
            self._party.id,
            Combine(topology.fuse.combine),
            fuse,
            build_loss(topology.loss, topology.modules, topology.where("loss")),
            self._optimizer(fuse),
            prepared.labels,
            topology.seed,
            base,
            self._device,
        )
        return rows, {peer: match_bitmap(digests, matched) for peer, digests in theirs.items()}

    def _optimizer(self, module: nn.Module) -> torch.optim.Optimizer | None:
        spec = self._topology.optimizer
        return make_optimizer(
            spec.name, spec.arguments(), module, self._topology.where("optimizer")
        )

    def _fuse(self, action: Fuse, places: Places) -> tuple[dict[str, Payload], float]:
        place = action.epoch, action.step, action.micro_batch
        rows = self._loaded().train_slice(*place)
        activations = {
            peer: self._decode(activation, peer, rows, places)
            for peer, activation in action.activations.items()
        }
        for peer, cache in self._activations.items():
            cache.put(rows, activations[peer])
        gradients, loss = self._matched().propagate(
            activations,
            rows,
            place,
            batch_rows=len(self._loaded().train_batch(action.epoch, action.step)),
            begins_step=action.micro_batch == 0,
        )
        # A mean over the slices so far would need their number: the sum grows to the batch's loss.
        self._loss = loss if action.micro_batch == 0 else self._loss + loss
        self._latest = activations
        return {
            peer: self._negotiation.encode(peer, FrameKind.GRADIENT, gradient, rows, place)
            for peer, gradient in gradients.items()
        }, self._loss

    def _update(self, action: Update) -> None:
        part, steps = self._matched(), range(1, self._topology.schedule.fuse_steps)
        part.update()
        rows = self._loaded().train_batch(action.epoch, action.step)
        part.repeat(self._latest, rows, (action.epoch, action.step, 0), steps)

    def _fuse_steps(self, action: FuseSteps) -> float:
        rows = self._loaded().train_batch(action.epoch, action.step)
        activations = {peer: cache.get(rows) for peer, cache in self._activations.items()}
        steps = range(self._topology.schedule.fuse_steps)
        place = action.epoch, action.step, 0
        return self._matched().repeat(activations, rows, place, steps)

    def _predict(self, action: Predict, places: Places) -> None:
        rows: RowArray = self._loaded().evaluation_batch(action.step)
        activations = {
            peer: self._device.tensor(self._decode(activation, peer, rows, places))
            for peer, activation in action.activations.items()
        }
        self._matched().predict(activations, rows)

    def _decode(self, arrival: Arrival, peer: str, rows: RowArray, places: Places) -> Values:
        coder = self._negotiation.coder(peer, arrival.kind, arrival.schema_id)
        place = arrival.epoch, arrival.step, arrival.micro_batch
        return coder.decode(arrival.payload, rows, place, places.get(peer))

    def _score(self, action: Score) -> dict[str, float]:
        outputs = self._matched().outputs()
        if outputs is None:
            return {}
        metrics = validation_metrics(self._topology.loss, *outputs)
        wrong = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if wrong:
            name, value = next(iter(wrong.items()))
            raise SessionAborted(
                f"the validation {name} is {value} after epoch {action.epoch}: training diverged; "
                "a lower learning rate may help"
            )
        return metrics

    def _loaded(self) -> PartyData:
        if self._data is None:
            raise LocalProtocolError("the label party's table is not loaded yet")
        return self._data

    def _matched(self) -> FusePart:
        if self._part is None:
            raise LocalProtocolError("the session has not matched the rows yet")
        return self._part
