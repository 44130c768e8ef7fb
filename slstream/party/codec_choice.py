"""Which codec chain each kind of frame takes on a link, by epoch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain as join

from slstream.adaptive.ladder import ladder
from slstream.codecs.chain import CodecChain
from slstream.codecs.defaults import DEFAULTS
from slstream.codecs.split import Split, SplitTensor
from slstream.errors import CodecError
from slstream.frames.header import FrameKind
from slstream.topology.sections import CodecDirections, CodecRule, CodecSection
from slstream.topology.topology import Topology

DIRECTIONS = {
    FrameKind.ACTIVATION: "forward",
    FrameKind.GRADIENT: "backward",
    FrameKind.EVALUATION: "evaluation",
}
"""What a topology calls the kinds of tensors."""


@dataclass(frozen=True, slots=True)
class CodecChoice:
    """The chains of one kind of frame on one link."""

    first_epochs: tuple[int, ...]
    """From which epoch on each of ``by_span`` is used; ascending, the first is 1."""
    by_span: tuple[CodecChain, ...]

    @classmethod
    def of(cls, kind: FrameKind, topology: Topology, party: str) -> CodecChoice:
        """What a topology chooses, or the default chains.

        Args:
            kind: of the frames.
            topology: with the rules, and the tensors of the party's cut.
            party: the feature party of the link.

        Raises:
            CodecError: a codec or a chain that does not exist.
        """
        codec, base = topology.codec, topology.party(party).base
        rules = [
            rule
            for rule in codec.rules
            if rule.party in (None, party) and _chosen(rule, kind) is not None
        ]
        ends = (rule.last_epoch + 1 for rule in rules if rule.last_epoch is not None)
        firsts = sorted({1, *join((rule.first_epoch for rule in rules), ends)})
        tensors = () if base is None else base.tensors
        chains = []
        for first in firsts:
            applying = [
                rule
                for rule in rules
                if rule.first_epoch <= first <= (first if (e := rule.last_epoch) is None else e)
            ]
            whole = _chain(kind, codec, [rule for rule in applying if rule.tensor is None])
            own = {
                each: _chain(kind, codec, [r for r in applying if r.tensor in (None, each.name)])
                for each in tensors
            }
            # What no rule tells apart is coded as one.
            if all(chain == whole for chain in own.values()):
                chains.append(whole)
            else:
                parts = (SplitTensor(each.name, each.size, own[each]) for each in tensors)
                chains.append(CodecChain(Split(tuple(parts))))
        return cls(tuple(firsts), tuple(chains))

    @classmethod
    def adaptive(cls, kind: FrameKind, codec: CodecSection) -> CodecChoice:
        """All chains that an adaptive choice may take, from the finest on; at each epoch any."""
        chains = ladder(codec.defaults, DIRECTIONS[kind])
        return cls((1,), chains)

    def at(self, epoch: int) -> CodecChain:
        """The chain of an epoch, counted from 1."""
        return self.by_span[bisect_right(self.first_epochs, epoch) - 1]

    @property
    def chains(self) -> tuple[CodecChain, ...]:
        """All of them, each once, in the order of their first use."""
        return tuple(dict.fromkeys(self.by_span))


def _chain(kind: FrameKind, codec: CodecSection, applying: Sequence[CodecRule]) -> CodecChain:
    """The chain of the last of the rules, else of the section, else the default."""
    config = _chosen(applying[-1] if applying else codec, kind)
    default = getattr(DEFAULTS[codec.defaults], DIRECTIONS[kind])
    return CodecChain.from_config(default if config is None else config)


def check_codecs(topology: Topology) -> None:
    """Build all codec chains of a topology, so that a wrong one is told before anything starts.

    Raises:
        TopologyError: names the key and line.
    """
    codec = topology.codec
    sections: list[tuple[tuple[str | int, ...], CodecDirections]] = [(("codec",), codec)]
    sections += [(("codec", "rules", index), rule) for index, rule in enumerate(codec.rules)]
    for path, section in sections:
        for kind, direction in DIRECTIONS.items():
            config = _chosen(section, kind)
            if config is None:
                continue
            try:
                chain = CodecChain.from_config(config)
            except CodecError as error:
                raise topology.error(*path, direction, text=str(error)) from error
            if chain.needs_forward and kind is not FrameKind.GRADIENT:
                text = f"{chain} encodes gradients, by the activations of their step; expected it "
                raise topology.error(*path, direction, text=text + "under backward only")
            if isinstance(chain.tensor, Split):
                text = (
                    "expected the codec of one tensor, found split: name the tensors in the "
                    "party's base.tensors, and write a rule with tensor: NAME for each"
                )
                raise topology.error(*path, direction, text=text)
    for party in topology.feature_parties:
        for kind in DIRECTIONS:
            try:
                CodecChoice.of(kind, topology, party.id)
            except CodecError as error:
                text = f"{DIRECTIONS[kind]} of {party.id}: {error}"
                raise topology.error("codec", "rules", text=text) from error


def _chosen(section: CodecDirections, kind: FrameKind) -> Sequence[dict[str, object]] | None:
    chosen: Sequence[dict[str, object]] | None = getattr(section, DIRECTIONS[kind])
    return None if chosen is None else list(chosen)
