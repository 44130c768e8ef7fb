"""A checkpoint: all that a party needs to go on from a step as if nothing had happened.

One safetensors file. Its tensors are the :class:`~slstream.party.model_state.ModelState`; the one
entry of its metadata, ``slstream.checkpoint``, is a JSON object with all else, closed by a SHA-256
over itself and the tensors. It refers to the log by offsets, so the log up to them must be on the
disk before the checkpoint is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from slstream.errors import CheckpointError
from slstream.party.link_reader import LinkMark
from slstream.party.model_state import ModelState
from slstream.party.summary import CodecChosen, TimeSpent, Traffic
from slstream.protocol.actions import Cursor

FORMAT = 1

_KEY = "slstream.checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Everything in a checkpoint but the model's state."""

    federation: str
    party: str
    session: str
    digest: str
    """Of the agreed part of the topology."""
    incarnation: int
    """Of the process that wrote it."""
    cursor: Cursor
    inbound: dict[str, LinkMark]
    """By peer: how far its link was used up."""
    outbound: dict[str, LinkMark]
    """By peer: how far this party's own frames to it went."""
    traffic: list[Traffic]
    """What this party had sent."""
    time: TimeSpent
    """Where its time had gone, over all its processes."""
    environment: dict[str, str]
    """The fingerprint of the process that wrote it."""
    choices: list[CodecChosen] = field(default_factory=list)
    """The latest codecs that this party chose by itself."""

    @property
    def place(self) -> tuple[int, int]:
        """(epochs done, steps done of the next): grows in the course of a session."""
        return len(self.cursor.history), self.cursor.step


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What :func:`decode_checkpoint` finds."""

    standing: Standing
    model: ModelState


_adapter = TypeAdapter(Standing)


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The file's content; equal checkpoints give equal bytes."""
    document: dict[str, Any] = {
        "format": FORMAT,
        "standing": asdict(checkpoint.standing),
        "optimizers": dict(checkpoint.model.optimizers),
    }
    tensors = dict(checkpoint.model.tensors)
    document["sha256"] = _digest(document, tensors)
    return save(tensors, {_KEY: json.dumps(document, sort_keys=True)})


def decode_checkpoint(data: bytes) -> Checkpoint:
    """Read a file's content.

    Raises:
        CheckpointError: damaged, cut, of another format, or no checkpoint at all.
    """
    try:
        tensors = load(data)
        document = json.loads(_metadata(data)[_KEY])
        if not isinstance(document, dict):
            raise CheckpointError("not a checkpoint: its document is no JSON object")
        # First: another format may be sealed otherwise.
        if document["format"] != FORMAT:
            raise CheckpointError(
                f"expected format {FORMAT}, found {document['format']}; use the release of "
                "slstream that wrote it"
            )
        found, expected = document.pop("sha256"), _digest(document, tensors)
        if found != expected:
            raise CheckpointError(f"expected SHA-256 {expected}, found {found}: it is damaged")
        standing = _adapter.validate_python(document["standing"])
        model = ModelState(tensors=tensors, optimizers=document["optimizers"])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in ("standing", *first["loc"]))
        raise CheckpointError(f"not a checkpoint: {where}: {first['msg']}") from error
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"not a checkpoint: {error}") from error
    return Checkpoint(standing=standing, model=model)


def _metadata(data: bytes) -> Mapping[str, str]:
    """Of a safetensors file in memory, which its library reads from disks only."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata: Mapping[str, str] = header["__metadata__"]
    return metadata


def _digest(document: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
