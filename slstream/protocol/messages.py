"""Control messages: the small JSON objects that open, steer and end a session.

On a link they are the payloads of control frames; in the lobby they are plain records. Parsing is
strict: a closed set of types, no unknown or repeated keys, no coercion between JSON types.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
)

from slstream.errors import RemoteProtocolError

MAX_MESSAGE_BYTES = 1_048_576
"""Largest control message that is parsed."""

_SHOWN = 200
"""Characters of each part of a foreign message in an error."""

PROTOCOL_VERSION = 1
"""Version of the messages and of the order in which they are exchanged."""

Text = Annotated[str, Field(max_length=4096)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]
Metrics = dict[Name, float]
Incarnation = Annotated[int, Field(ge=1, lt=2**32)]
MAX_SCHEMAS = 64
"""Schemas of one kind of frame on one link."""


def _several(value: object) -> object:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _one_if_alone(value: tuple[int, ...]) -> object:
    return value[0] if len(value) == 1 else list(value)


SchemaIds = Annotated[
    tuple[Count, ...],
    Field(min_length=1, max_length=MAX_SCHEMAS),
    BeforeValidator(_several),
    PlainSerializer(_one_if_alone),
]
"""In JSON a number, or a list of several."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Announce(_Message):
    """The label party opens a session; read by all parties in the lobby."""

    type: Literal["announce"] = "announce"
    protocol: int = PROTOCOL_VERSION
    session: Name
    federation: Name
    label_party: Name
    agreed: dict[str, Any]
    """The part of the topology that every party must have alike."""
    digest: Hash
    """SHA-256 of the canonical JSON of ``agreed``."""
    id_key: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")]
    """Key of the id digests in hex; empty when the parties share a key file."""
    environment: dict[Name, Text]
    """What the label party's results depend on."""
    incarnation: Incarnation
    """Of the label party's process."""


class Resume(_Message):
    """The label party goes on with a session in a new process; read in the lobby."""

    type: Literal["resume"] = "resume"
    session: Name
    incarnation: Incarnation


class Close(_Message):
    """The session is over; read by all parties in the lobby."""

    type: Literal["close"] = "close"
    session: Name
    outcome: Literal["finished", "stopped early", "failed", "abandoned"]
    reason: Text = ""
    incarnation: Incarnation
    """Of the label party's process."""

    @property
    def is_clean(self) -> bool:
        """Whether training came to its end and all parties have their weights."""
        return self.outcome in ("finished", "stopped early")


class Join(_Message):
    """A feature party takes part."""

    type: Literal["join"] = "join"
    digest: Hash
    """The digest of the agreed part of its own topology."""
    rows: Count
    """Rows of its table; as many id digests follow."""
    cut: Annotated[list[Annotated[int, Field(ge=1, lt=2**31)]], Field(min_length=1, max_length=3)]
    """Shape of one row's activation."""
    schemas: dict[Name, SchemaIds]
    """By frame kind: ids of the schemas of what this party sends; each frame names its own."""
    environment: dict[Name, Text]


class Refuse(_Message):
    """A feature party does not take part."""

    type: Literal["refuse"] = "refuse"
    reason: Text


class Open(_Message):
    """The label party has matched the rows and built its model; training starts after all Ready."""

    type: Literal["open"] = "open"
    alignment: Hash
    """Digest of the matched rows; every party computes it alike."""
    train_rows: Count
    validation_rows: Count
    schemas: dict[Name, SchemaIds]
    """As in :class:`Join`, of what the label party sends to the receiver."""
    party_rows: dict[Name, Count]
    """Rows in each party's own table."""


class Ready(_Message):
    """A feature party agrees with the opening."""

    type: Literal["ready"] = "ready"


class Verdict(_Message):
    """The label party has evaluated an epoch."""

    type: Literal["verdict"] = "verdict"
    epoch: Count
    metrics: Metrics
    proceed: bool
    reason: Text
    """Why training ends; empty while it goes on."""


class Done(_Message):
    """A feature party has saved its part."""

    type: Literal["done"] = "done"
    weights: Hash
    """SHA-256 of its ``model.safetensors``."""


class End(_Message):
    """All parts are saved; nothing follows on this link."""

    type: Literal["end"] = "end"
    weights: dict[Name, Hash]


class Abort(_Message):
    """The sender gives up; nothing follows on this link."""

    type: Literal["abort"] = "abort"
    reason: Text


Message = Announce | Resume | Close | Join | Refuse | Open | Ready | Verdict | Done | End | Abort

_adapter: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


def encode_message(message: Message) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces."""
    document = message.model_dump(mode="json")
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def decode_message(data: bytes) -> Message:
    """Parse a peer's message.

    Raises:
        RemoteProtocolError: not a message of this protocol; says which field and what was found.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(
            f"control message of {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are accepted"
        )
    try:
        document = json.loads(
            data, object_pairs_hook=_without_repetition, parse_constant=_no_constant
        )
        return _adapter.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        reason = f"{where:.{_SHOWN}}: {first['msg']:.{_SHOWN}}"
        raise RemoteProtocolError(f"control message: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"control message is not JSON: {error}") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is repeated")
    return document


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
