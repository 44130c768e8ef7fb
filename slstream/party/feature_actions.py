"""What a feature party does for its session, apart from sending and receiving."""

from __future__ import annotations

from slstream.errors import DataError, LocalProtocolError
from slstream.frames.header import FrameKind
from slstream.frames.link import MAX_FRAME_BYTES
from slstream.party.alignment import DIGEST_BYTES, parse_bitmap
from slstream.party.base_part import BasePart, make_optimizer
from slstream.party.batches import RowArray
from slstream.party.compute import ComputeThread
from slstream.party.device import open_device
from slstream.party.inbound import Places
from slstream.party.model_state import Kept, Trained
from slstream.party.models import BuiltBase, build_base
from slstream.party.negotiation import Negotiation
from slstream.party.party_data import PartyData
from slstream.party.party_files import PartyFiles
from slstream.party.recent_activations import Place
from slstream.party.row_cache import RowCache
from slstream.party.tables import PartyTable, load_table
from slstream.party.tensor_coder import require_tensor
from slstream.protocol.actions import (
    Action,
    Adopt,
    Align,
    Backward,
    BaseSteps,
    Forward,
    Payload,
    Prepare,
    Prepared,
    Recompute,
    Rows,
    Save,
)
from slstream.protocol.messages import Join
from slstream.topology.topology import Party, Topology


class FeatureActions:
    """Performs the local actions of one feature party's session, one after another."""

    def __init__(
        self,
        party: Party,
        topology: Topology,
        *,
        compute: ComputeThread,
        negotiation: Negotiation,
        id_key: bytes,
        environment: dict[str, str],
        files: PartyFiles,
        table: PartyTable | None = None,
    ) -> None:
        """Start a session.

        Args:
            party: this party.
            topology: what was agreed.
            compute: thread of all tensor work.
            negotiation: schemas of the links.
            id_key: key of the id digests.
            environment: this party's fingerprint.
            files: where weights and scaling go.
            table: the party's own, where it is loaded already.

        Raises:
            TopologyError: the party's device is not there.
        """
        self._party = party
        self._device = open_device(party, topology)
        self._label_party = topology.label_party.id
        self._topology = topology
        self._compute = compute
        self._negotiation = negotiation
        self._id_key = id_key
        self._environment = environment
        self._files = files
        self._table = table
        self._data: PartyData | None = None
        self._model: BuiltBase | None = None
        self._part: BasePart | None = None
        self._gradients: RowCache | None = None
        """Of each row's activation in a mean over one row."""

    async def perform(self, action: Action, places: Places) -> object:
        """Perform one action and return its result.

        Args:
            action: what to do.
            places: where what it uses lies in the log, for messages.

        Raises:
            SlstreamError: as the action's own documentation says.
        """
        match action:
            case Prepare():
                return await self._prepare()
            case Align():
                return await self._compute.call(lambda: self._align(action, places))
            case Adopt():
                await self._adopt(action)
            case Forward():
                return await self._compute.call(lambda: self._forward(action))
            case Recompute():
                await self._compute.defer(lambda: self._recompute(action))
            case Backward():
                # Its outcome shows in the next activation, which the same thread computes after it.
                await self._compute.defer(lambda: self._backward(action, places))
            case BaseSteps():
                await self._compute.defer(lambda: self._base_steps(action))
            case Save():
                return await self._compute.call(self._save)
            case _:
                raise LocalProtocolError(f"a feature party cannot perform {action}")
        return None

    def _save(self) -> str:
        return self._files.save_weights(self.trained().modules)

    def trained(self) -> Trained:
        """What a checkpoint keeps; in the compute thread, once the rows are aligned."""
        part = self._aligned()
        optimizers = {} if part.optimizer is None else {"base": part.optimizer}
        others: dict[str, Kept] = {"codecs": self._negotiation}
        if self._topology.schedule.name == "pipeline":
            others["base"] = part
        if self._gradients is not None:
            others["gradients"] = self._gradients
        return Trained(modules={"base": part.module}, optimizers=optimizers, others=others)

    def rows_at(self, kind: FrameKind, place: Place) -> RowArray:
        """Rows of a tensor, in session order."""
        return self._loaded()[0].rows_at(kind, place)

    async def _prepare(self) -> Prepared:
        data, model = await self._compute.call(self._load)
        if data.rows * DIGEST_BYTES > MAX_FRAME_BYTES:
            raise DataError(
                f"{self._party.id}: expected at most {MAX_FRAME_BYTES // DIGEST_BYTES} rows, as "
                f"the digests of all ids are sent in one frame, found {data.rows}"
            )
        self._data, self._model = data, model
        for kind in (FrameKind.ACTIVATION, FrameKind.EVALUATION):
            await self._negotiation.offer(kind, self._label_party, model.cut_shape)
        join = Join(
            digest=self._topology.digest(),
            rows=data.rows,
            cut=list(model.cut_shape),
            schemas=self._negotiation.offered(self._label_party),
            environment=self._environment,
        )
        return Prepared(join=join, ids=data.digests.to_bytes())

    def _load(self) -> tuple[PartyData, BuiltBase]:
        table = self._table
        if table is None:
            table = load_table(self._party, self._topology)
        data = PartyData(self._party, self._topology, table, self._id_key)
        model = build_base(self._party, self._topology, in_features=len(table.columns))
        return data, model

    def _align(self, action: Align, places: Places) -> Rows:
        data, model = self._loaded()
        sender = f"{self._label_party} ({places.get(self._label_party)})"
        matched = parse_bitmap(action.matched, rows=data.rows, party=sender)
        rows, prepared = data.align(matched)
        require_tensor(self._party.id, model.cut_shape, data.largest_batch)
        optimizer = self._topology.optimizer
        self._part = BasePart(
            self._party.id,
            model.module,
            make_optimizer(
                optimizer.name,
                optimizer.arguments(),
                model.module,
                self._topology.where("optimizer"),
            ),
            prepared.features,
            self._topology.seed,
            stashes=self._topology.schedule.name == "pipeline",
            tensors=model.tensors,
            device=self._device,
        )
        if self._topology.schedule.exchange_every > 1:
            self._gradients = RowCache(rows.train_rows, model.cut_shape, self._device)
        self._files.save_scaling(prepared.scaling)
        return rows

    async def _adopt(self, action: Adopt) -> None:
        _, model = self._loaded()
        await self._negotiation.adopt(self._label_party, action.schemas, model.cut_shape)
        self._negotiation.begin(self._aligned().rows, self._files.allocate)

    def _forward(self, action: Forward) -> Payload:
        part, (data, _) = self._aligned(), self._loaded()
        place = action.epoch, action.step, action.micro_batch
        rows = data.rows_at(action.kind, place)
        if action.kind is FrameKind.EVALUATION:
            activation = self._device.values(part.evaluate(rows))
        else:
            activation = part.start(rows, place)
        return self._negotiation.encode(self._label_party, action.kind, activation, rows, place)

    def _recompute(self, action: Recompute) -> None:
        place = action.epoch, action.step, 0
        self._aligned().start(self._loaded()[0].train_slice(*place), place)

    def _backward(self, action: Backward, places: Places) -> None:
        part, (data, _) = self._aligned(), self._loaded()
        place = action.epoch, action.step, action.micro_batch
        rows, arrival = data.train_slice(*place), action.gradient
        coder = self._negotiation.coder(self._label_party, arrival.kind, arrival.schema_id)
        gradient = coder.decode(arrival.payload, rows, place, places.get(self._label_party))
        part.propagate(place, gradient, begins_step=action.micro_batch == 0)
        if not action.ends_step:
            return
        part.update()
        part.repeat(rows, place, gradient, range(1, self._topology.schedule.base_steps))
        if self._gradients is not None:
            self._gradients.put(rows, gradient * float(len(rows)))

    def _base_steps(self, action: BaseSteps) -> None:
        part, (data, _) = self._aligned(), self._loaded()
        if self._gradients is None:
            raise LocalProtocolError("no gradients are kept: every step is exchanged")
        place = action.epoch, action.step, 0
        rows = data.train_batch(action.epoch, action.step)
        gradient = self._gradients.get(rows) / float(len(rows))
        part.repeat(rows, place, gradient, range(self._topology.schedule.base_steps))

    def _loaded(self) -> tuple[PartyData, BuiltBase]:
        if self._data is None or self._model is None:
            raise LocalProtocolError("the session has not prepared this party yet")
        return self._data, self._model

    def _aligned(self) -> BasePart:
        if self._part is None:
            raise LocalProtocolError("the session has not aligned the rows yet")
        return self._part
