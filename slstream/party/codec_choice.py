"""Which codec chain a kind of tensor takes on a link, by epoch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain as join

from slstream.adaptive.ladder import ladder
from slstream.codecs.chain import CodecChain
from slstream.codecs.defaults import DEFAULTS
from slstream.errors import CodecError
from slstream.frames.header import FrameKind
from slstream.topology.sections import CodecDirections, CodecSection
from slstream.topology.topology import Topology

DIRECTIONS = {
    FrameKind.ACTIVATION: "forward",
    FrameKind.GRADIENT: "backward",
    FrameKind.EVALUATION: "evaluation",
}
"""What a topology calls the kinds of tensors."""


@dataclass(frozen=True, slots=True)
class CodecChoice:
    """The chains of one kind of tensor on one link."""

    first_epochs: tuple[int, ...]
    """From which epoch on each of ``by_span`` is used; ascending, the first is 1."""
    by_span: tuple[CodecChain, ...]

    @classmethod
    def of(cls, kind: FrameKind, codec: CodecSection, party: str) -> CodecChoice:
        """What a topology chooses, or the default chains.

        Args:
            kind: of a tensor.
            codec: the topology's.
            party: the feature party of the link.

        Raises:
            CodecError: a codec or a chain that does not exist.
        """
        rules = [
            rule
            for rule in codec.rules
            if rule.party in (None, party) and _chosen(rule, kind) is not None
        ]
        ends = (rule.last_epoch + 1 for rule in rules if rule.last_epoch is not None)
        firsts = sorted({1, *join((rule.first_epoch for rule in rules), ends)})
        chains = []
        for first in firsts:
            applying = [
                rule
                for rule in rules
                if rule.first_epoch <= first <= (first if (e := rule.last_epoch) is None else e)
            ]
            config = _chosen(applying[-1] if applying else codec, kind)
            default = getattr(DEFAULTS[codec.defaults], DIRECTIONS[kind])
            chains.append(CodecChain.from_config(default if config is None else config))
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


def _chosen(section: CodecDirections, kind: FrameKind) -> Sequence[dict[str, object]] | None:
    chosen: Sequence[dict[str, object]] | None = getattr(section, DIRECTIONS[kind])
    return None if chosen is None else list(chosen)
