"""What ``codecs try`` does: read a chain and a tensor, measure, and show what came out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slstream.bench.codec_trial import Trial, try_codec
from slstream.cli.codecs_tensor import read_tensor
from slstream.cli.units import human_number, human_ratio
from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, FloatArray
from slstream.codecs.registry import built_in_ids
from slstream.codecs.signal_to_noise import EXACT_DB
from slstream.errors import CodecConfigError, CodecError, ConfigError, SlstreamError
from slstream.topology.document import parse_value


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A trial, with what it was made of."""

    chain: CodecChain
    path: Path
    shape: tuple[int, ...]
    rms: float
    largest: float
    """Largest absolute value."""
    zeros: float
    """Share of them."""
    notes: tuple[str, ...]
    trial: Trial

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {
            "codec": self.chain.config(),
            "tensor": {
                "path": str(self.path),
                "shape": list(self.shape),
                "rms": self.rms,
                "largest": self.largest,
                "zeros": self.zeros,
            },
            "notes": list(self.notes),
            # A codec may need no byte at all.
            "ratio": self.trial.raw_bytes / max(self.trial.encoded_bytes, 1),
            **asdict(self.trial),
        }

    def lines(self) -> Iterator[str]:
        """To read."""
        trial = self.trial
        yield (
            f"{self.path}: {' x '.join(map(str, self.shape))}, rms {human_number(self.rms)}, "
            f"largest {human_number(self.largest)}, {100 * self.zeros:.0f} % zeros"
        )
        yield from (f"note: {note}" for note in self.notes)
        yield ""
        yield str(self.chain)
        ratio = human_ratio(trial.raw_bytes, trial.encoded_bytes)
        exact = trial.snr_db == EXACT_DB
        for name, value in (
            ("bytes", f"{trial.raw_bytes:,} -> {trial.encoded_bytes:,}: {ratio} fewer"),
            ("bits per element", human_number(trial.bits_per_element)),
            ("signal to noise", "exact" if exact else f"{trial.snr_db:.1f} dB"),
            ("largest error", self._error(trial.largest_error)),
            ("mean error", self._error(trial.mean_error)),
            ("encode", f"{human_number(trial.encode_gb_per_s)} GB/s"),
            ("decode", f"{human_number(trial.decode_gb_per_s)} GB/s"),
        ):
            yield f"  {name:18}{value}"

    def _error(self, error: float) -> str:
        share = f" ({human_number(error / self.rms)} of the rms)" if error else ""
        return f"{human_number(error)}{share if self.rms else ''}"


def attempt(codec: str, path: Path, forward_path: Path | None) -> Attempt:
    """Try a chain on a tensor.

    Args:
        codec: an id, a config or a chain, in YAML or JSON.
        path: a .npy file.
        forward_path: the activation of the same step, for codecs of gradients only.

    Raises:
        ConfigError: a file that holds no such tensor, or no activation where one is needed.
        CodecError: no such chain, or one that breaks its contract.
    """
    chain = _chain(codec)
    if chain.needs_forward and forward_path is None:
        raise ConfigError(
            f"{chain} encodes a gradient by the activation of the same step: give that with "
            "--forward FILE"
        )
    tensor, notes = _read(path)
    forward = None
    if forward_path is not None:
        forward, more = _read(forward_path)
        notes += more if chain.needs_forward else (f"{chain} makes no use of {forward_path}",)
        if chain.needs_forward and forward.shape != tensor.shape:
            raise ConfigError(
                f"{forward_path}: expected an activation of the gradient's shape {tensor.shape}, "
                f"found {forward.shape}"
            )
    trial = _measure(chain, tensor, CodecContext(seed=1, counter=1, forward=forward))
    if trial.stateful:
        notes += (f"{chain} remembers: later tensors of a link may take fewer bytes than this one",)
    exact = tensor.astype(np.float64)
    return Attempt(
        chain=chain,
        path=path,
        shape=tensor.shape,
        rms=float(np.sqrt(np.mean(exact**2))),
        largest=float(np.max(np.abs(exact))),
        zeros=float(np.mean(exact == 0)),
        notes=notes,
        trial=trial,
    )


def _chain(text: str) -> CodecChain:
    """What a topology may hold in place of a chain."""
    try:
        value = parse_value(text)
    except ValueError as error:
        raise CodecConfigError(
            f"expected a codec id, a config or a chain, such as q8row or "
            f"'[{{id: ecsq, step: 0.5}}, zstd]'; found {text!r}, which is not valid YAML"
        ) from error
    items: list[Any] = value if isinstance(value, list) else [value]
    return CodecChain.from_config([{"id": i} if isinstance(i, str) else i for i in items])


def _read(path: Path) -> tuple[FloatArray, tuple[str, ...]]:
    tensor, stored = read_tensor(path)
    if stored.itemsize == tensor.itemsize:
        return tensor, ()
    return tensor, (f"{path} holds {stored.name}, which was converted to float32",)


def _measure(chain: CodecChain, tensor: FloatArray, context: CodecContext) -> Trial:
    """Try it; what a user's own codec raises is no fault of this program."""
    try:
        return try_codec(chain, tensor, context)
    except SlstreamError:
        raise
    except Exception as error:
        if all(codec.id in built_in_ids() for codec in (chain.tensor, *chain.stages)):
            raise
        raise CodecError(
            f"codec {chain} raised {type(error).__name__}: {error}; the contract allows "
            "EncodeError and DecodeError only. SLSTREAM_DEBUG=1 shows where it was raised"
        ) from error
