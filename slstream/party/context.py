"""What all that a party does in a session shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter

from slstream.party.choices import Choices
from slstream.party.compute import ComputeThread
from slstream.party.divergences import Comparison
from slstream.party.incarnation import Incarnation
from slstream.party.ledger import Ledger
from slstream.party.lobby import Lobby
from slstream.party.negotiation import Negotiation
from slstream.party.party_files import PartyFiles
from slstream.party.reporter import Reporter
from slstream.party.summary import Summary
from slstream.party.times import Times
from slstream.protocol.actions import Rows
from slstream.protocol.session import Outcome
from slstream.topology.topology import Party, Topology
from slstream.transport.contract import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class PartyContext:
    """One party in one process; every part is opened and stays its owner's to close."""

    party: Party
    topology: Topology
    transport: Transport
    compute: ComputeThread
    lobby: Lobby
    negotiation: Negotiation
    reporter: Reporter
    ledger: Ledger
    choices: Choices = field(default_factory=Choices)
    times: Times
    files: PartyFiles
    comparison: Comparison
    """Of the frames that this party computes again."""
    incarnation: Incarnation
    environment: dict[str, str]
    """This process's fingerprint."""
    begin_new: bool = False
    """Whether unfinished sessions are to be given up for a new one; for the label party."""
    shared_key: bytes | None
    """Key of the id digests from the key file."""

    async def begin_anew(self) -> None:
        """Forget what was counted and deferred for a session that never began."""
        await self.compute.forget()
        self.ledger.clear()
        self.choices.restore([])
        self.negotiation.forget_measures()
        self.times.clear()

    async def finish(
        self, session: str, outcome: Outcome, rows: Rows, started_at: float
    ) -> Summary:
        """Write this party's view of a session that ended cleanly; its summary.json says so.

        Args:
            session: its id.
            outcome: what the session returned.
            rows: what was matched.
            started_at: :func:`time.perf_counter` at the opening.

        Raises:
            Fenced: a newer process of this party runs; its summary stands.
            StorageError: the disk refuses.
        """
        await self.incarnation.require_newest()
        spent = self.times.spent(perf_counter() - started_at, self.compute.busy_s)
        summary = Summary(
            federation=self.topology.federation,
            session=session,
            outcome="finished" if outcome.stopped_early is None else "stopped early",
            epochs=outcome.epochs,
            steps=outcome.steps,
            metrics=dict(outcome.history[-1]),
            history=list(outcome.history),
            rows={
                "matched": rows.train_rows + rows.validation_rows,
                "train": rows.train_rows,
                "validation": rows.validation_rows,
            },
            party_rows=outcome.party_rows,
            traffic=self.ledger.traffic(),
            choices=self.choices.made,
            time={self.party.id: spent},
            weights=outcome.weights,
            environment=self.environment,
        )
        self.files.save_summary(summary)
        return summary
