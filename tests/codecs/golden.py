"""Golden files: one directory for each case, written once and decoded for ever.

    tests/golden/codecs/<case>/
        config.json     {"chain": [...], "seed": ..., "counter": ...}
        tensor.npy      what was encoded
        forward.npy     the activation, where the chain needs one
        encoded.bin     the bytes of the release that wrote the directory
        decoded.npy     the tensor that they decode to, bit by bit

and for a case with a state one sequence of tensors, all of a session's link:

    tests/golden/codecs/<case>-sequence/
        config.json     as above, with "rows" and "tensors": how many the session and sequence have
        NN-*.npy, *.bin as above, and rows.npy; the counter of the NN-th is NN more
        state.npz       the state's arrays after the last

``python -m tests.codecs.golden`` writes the directories of cases that have none, and never touches
one that exists: a codec whose bytes must change needs a new id.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slstream.codecs.chain import CodecChain
from slstream.codecs.contract import CodecContext, CodecState, FloatArray, StateSpec, TensorSpec
from slstream.testing.codec_states import SESSION_ROWS, WIDTH, sequence
from slstream.testing.codecs import activation, gradient, one_logit_gradient
from tests.codecs.cases import CASES, STATEFUL

ROOT = Path(__file__).parent.parent / "golden" / "codecs"


def golden_tensors(case: str) -> dict[str, FloatArray]:
    """Inputs of a case by name."""
    outliers = gradient(36, 33, seed=4)
    outliers[3, 4], outliers[20, 1] = 7.0, -300.0
    tensors = {
        "activation": activation(33, 40, seed=11),
        "outliers": outliers,
        "zero": np.zeros((5, 7), np.float32),
        "tiny": activation(2, 3, seed=2),
    }
    if "signs" in case:
        tensors["one-logit"] = one_logit_gradient(36, 40, seed=5)
        tensors["one-logit"][7, 9] = -500.0
    return tensors


def activation_for(tensor: FloatArray) -> FloatArray:
    """An activation of the tensor's shape with zeros."""
    rows, width = tensor.shape
    return activation(rows, width, seed=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One directory."""

    chain: CodecChain
    context: CodecContext
    tensor: FloatArray
    encoded: bytes
    decoded: FloatArray


def read_golden(directory: Path) -> Golden:
    """Read a directory; the arrays are plain, so nothing is unpickled."""
    document = json.loads((directory / "config.json").read_text())
    chain = CodecChain.from_config(document["chain"])
    path = directory / "forward.npy"
    forward = np.load(path, allow_pickle=False) if chain.needs_forward else None
    return Golden(
        chain=chain,
        context=CodecContext(seed=document["seed"], counter=document["counter"], forward=forward),
        tensor=np.load(directory / "tensor.npy", allow_pickle=False),
        encoded=(directory / "encoded.bin").read_bytes(),
        decoded=np.load(directory / "decoded.npy", allow_pickle=False),
    )


def write_missing() -> list[str]:
    """Write the directories that do not exist; returns their names."""
    written: list[str] = []
    for case, config in CASES.items():
        directory = ROOT / f"{case}-sequence"
        if case in STATEFUL:
            if not directory.exists():
                write_sequence(directory, CodecChain.from_config(config))
                written.append(directory.name)
            continue
        for name, tensor in golden_tensors(case).items():
            directory = ROOT / f"{case}-{name}"
            if directory.exists():
                continue
            chain = CodecChain.from_config(config)
            forward = activation_for(tensor) if chain.needs_forward else None
            context = CodecContext(seed=0x0123456789ABCDEF, counter=len(written), forward=forward)
            encoded = chain.encode(tensor, context)
            decoded = chain.decode(encoded, TensorSpec(shape=tensor.shape), context)
            directory.mkdir(parents=True)
            document = {
                "chain": chain.config(),
                "seed": context.seed,
                "counter": context.counter,
            }
            (directory / "config.json").write_text(json.dumps(document) + "\n")
            np.save(directory / "tensor.npy", tensor, allow_pickle=False)
            if forward is not None:
                np.save(directory / "forward.npy", forward, allow_pickle=False)
            (directory / "encoded.bin").write_bytes(encoded)
            np.save(directory / "decoded.npy", decoded, allow_pickle=False)
            written.append(directory.name)
    return written


def read_sequence(directory: Path) -> tuple[Iterator[Golden], CodecState]:
    """The tensors of a sequence, with one state in all contexts, and this state.

    Decode each before the next is asked for.
    """
    document = json.loads((directory / "config.json").read_text())
    chain = CodecChain.from_config(document["chain"])
    state = chain.new_state(StateSpec(rows=document["rows"], row_shape=(WIDTH,)))
    assert state is not None

    def tensors() -> Iterator[Golden]:
        for i in range(document["tensors"]):
            arrays = {
                name: np.load(directory / f"{i:02}-{name}.npy", allow_pickle=False)
                for name in ("tensor", "rows", "decoded")
            }
            counter = document["counter"] + i
            yield Golden(
                chain=chain,
                context=CodecContext(
                    seed=document["seed"], counter=counter, rows=arrays["rows"], state=state
                ),
                tensor=arrays["tensor"],
                encoded=(directory / f"{i:02}-encoded.bin").read_bytes(),
                decoded=arrays["decoded"],
            )

    return tensors(), state


def write_sequence(directory: Path, chain: CodecChain) -> None:
    """Write the directory of a chain with a state."""
    state = chain.new_state(StateSpec(rows=SESSION_ROWS, row_shape=(WIDTH,)))
    assert state is not None
    directory.mkdir(parents=True)
    steps = list(sequence(10, seed=8))
    document = {
        "chain": chain.config(),
        "seed": 0x0123456789ABCDEF,
        "counter": 3,
        "rows": SESSION_ROWS,
        "tensors": len(steps),
    }
    (directory / "config.json").write_text(json.dumps(document) + "\n")
    for i, (tensor, rows) in enumerate(steps):
        context = CodecContext(seed=0x0123456789ABCDEF, counter=3 + i, rows=rows, state=state)
        encoded = chain.encode(tensor, context)
        decoded = chain.decode(encoded, TensorSpec(shape=tensor.shape), context)
        (directory / f"{i:02}-encoded.bin").write_bytes(encoded)
        for name, array in (("tensor", tensor), ("rows", rows), ("decoded", decoded)):
            np.save(directory / f"{i:02}-{name}.npy", array, allow_pickle=False)
    np.savez(directory / "state.npz", allow_pickle=False, **state.arrays())


if __name__ == "__main__":
    print("\n".join(write_missing()) or "nothing is missing")  # noqa: T201
