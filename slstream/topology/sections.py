"""The sections of a topology file: every key that may stand there, with its type and default.

These pydantic models are the format: the checks, the JSON Schema for editors and the objects that
the rest of the program reads all come from them. What depends on more than one key is checked in
:mod:`slstream.topology.checks`.
"""

from __future__ import annotations

import math
import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
)

MAX_NAME_LENGTH = 40
NAME_PATTERN = r"^(?!(.*-)?to(-|$))[a-z0-9]+(-[a-z0-9]+)*$"
"""Federation and party names become parts of topic names. No word of them may be
"to", which stands between sender and receiver there."""

REFERENCE_PATTERN = r"^([A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*|[a-z][a-z0-9_]*)$"
"""A registered name, or a class of the user's own as ``module:Class``."""

TRANSPORT_PATTERN = r"^[a-z][a-z0-9+.-]*://.+"
"""Any scheme: which ones there are is known to the transports, which packages may add to."""

DEVICE_PATTERN = r"^(cpu|cuda(:(0|[1-9][0-9]{0,2}))?)$"
"""Where a party computes, as torch names it."""


class Role(StrEnum):
    """What a party holds."""

    LABEL = "label"
    """The labels and the fuse model; it may hold features and a base model too."""
    FEATURE = "feature"
    """Features and a base model."""


def _name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN, value) or len(value) > MAX_NAME_LENGTH:
        raise ValueError(
            "expected a name of lower-case letters and digits with single hyphens between them, "
            f'of at most {MAX_NAME_LENGTH} characters and without the word "to"; found "{value}"'
        )
    return value


def _reference(value: str) -> str:
    if not re.fullmatch(REFERENCE_PATTERN, value):
        raise ValueError(f'expected a registered name or module:Class, found "{value}"')
    return value


def _transport(value: str) -> str:
    if not re.fullmatch(TRANSPORT_PATTERN, value):
        raise ValueError(f'expected embedded:///FOLDER or kafka://HOST:PORT, found "{value}"')
    if value.startswith("kafka:") and "@" in value:
        raise ValueError(
            "expected kafka://host:9092 without a user or password, which the environment has "
            "(SLSTREAM_KAFKA_USERNAME, SLSTREAM_KAFKA_PASSWORD_FILE)"
        )
    return value


def _device(value: str) -> str:
    if not re.fullmatch(DEVICE_PATTERN, value):
        raise ValueError(f'expected cpu, cuda or cuda:N, found "{value}"')
    return value


def _finite(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"expected a finite number, found {value}")
    for child in value.values() if isinstance(value, dict) else ():
        _finite(child)
    for child in value if isinstance(value, list) else ():
        _finite(child)
    return value


def _role(value: object) -> object:
    roles = {
        "label": Role.LABEL,
        "feature": Role.FEATURE,
        "guest": Role.LABEL,
        "host": Role.FEATURE,
    }
    if not isinstance(value, str) or value not in roles:
        raise ValueError(f"expected label or feature (guest or host), found {value!r}")
    return roles[value]


MAX_THREADS = 256
"""Most compute threads of a party."""

ADAPTIVE = "adaptive"
"""In the place of codecs: those that suit the link, from frame to frame."""

CHOSEN = ("forward", "backward")
"""What an adaptive choice is made for."""

AUTO = "auto"
"""In the place of codecs: those that slstream chooses."""


def _unless_auto(value: object) -> object:
    return None if value == AUTO else value


def _codec_chain(value: object) -> object:
    """A bare id, one config or a list of either, as a list of configs."""
    items = value if isinstance(value, list) else [value]
    return tuple({"id": item} if isinstance(item, str) else item for item in items)


def _pattern(pattern: str, **more: JsonValue) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, **more})


Name = Annotated[str, AfterValidator(_name), _pattern(NAME_PATTERN, maxLength=MAX_NAME_LENGTH)]
Column = Annotated[str, Field(min_length=1)]
Columns = Annotated[tuple[Column, ...], Field(strict=False)]
Argument = Annotated[JsonValue, AfterValidator(_finite)]
Arguments = dict[str, Argument]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Reference = Annotated[str, AfterValidator(_reference), _pattern(REFERENCE_PATTERN)]
TensorName = Annotated[str, Field(max_length=40, pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$")]
Transport = Annotated[str, AfterValidator(_transport), _pattern(TRANSPORT_PATTERN)]
DeviceName = Annotated[str, AfterValidator(_device), _pattern(DEVICE_PATTERN)]
CodecConfig = dict[str, Argument]

_CODEC_ITEM: dict[str, JsonValue] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"id": {"type": "string"}},
            "required": ["id"],
            "additionalProperties": True,
        },
    ]
}
CodecChain = Annotated[
    tuple[CodecConfig, ...],
    BeforeValidator(_codec_chain),
    Field(min_length=1),
    WithJsonSchema(
        {"anyOf": [_CODEC_ITEM, {"type": "array", "items": _CODEC_ITEM, "minItems": 1}]}
    ),
]
CodecChoice = Annotated[CodecChain | None, BeforeValidator(_unless_auto)]
RoleName = Annotated[
    Role,
    BeforeValidator(_role),
    WithJsonSchema({"enum": ["label", "feature", "guest", "host"], "type": "string"}),
]


class Section(BaseModel):
    """Common to all sections: closed, immutable, and no value is turned into another type."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class DataSource(Section):
    """Where a party's rows come from, and what its columns are."""

    bundled: Literal["breast_cancer", "digits", "wine", "diabetes"] | None = None
    """A data set that ships inside scikit-learn. Give this or `path`."""
    path: str | None = None
    """A .csv or .parquet file; relative to the folder of the topology file."""
    id: Column = "id"
    """Column with the ids that the parties share; compared as text, exactly as written."""
    label: Column | None = None
    """Column with the labels; the label party only."""
    features: Columns | None = None
    """Feature columns by name or with `*`, `?`, `[...]`; default: all, without id and label."""
    scale: Literal["standard", "none"] = "standard"
    """`standard`: mean 0 and deviation 1 over the training rows."""
    missing: Literal["refuse", "mean"] = "refuse"
    """An empty cell or NaN is an error, or becomes the column's mean over the training rows."""


class ModelSpec(Section):
    """A model by name, or a class of yours."""

    model: Reference
    """A registered name (mlp, cnn, linear, identity, ...) or `module:Class`."""
    args: Arguments = {}
    """Keyword arguments of the model."""


class CutTensor(Section):
    """One of the tensors of a cut."""

    name: TensorName
    """The key under which the base model returns it."""
    size: Annotated[int, Field(ge=1, lt=2**30)]
    """Of its dimension 1."""


class BaseSpec(ModelSpec):
    """The model below the cut."""

    tensors: Annotated[tuple[CutTensor, ...], Field(strict=False, max_length=16)] = ()
    """When the model returns several tensors, as a mapping by name: all of them, in the order in
    which they are joined along dimension 1. Rules under `codec` may name them."""


class PartySection(Section):
    """One organisation."""

    role: RoleName
    """`label`: holds the labels and the fuse model; `feature`: holds features."""
    data: DataSource
    """The party's table."""
    base: BaseSpec | None = None
    """The model below the cut; a label party without one holds labels only."""
    device: DeviceName = "cpu"
    """Where its models, rows and optimiser state are: `cpu`, or a GPU, `cuda` or `cuda:N`."""


class FuseSpec(ModelSpec):
    """The model above the cut, at the label party."""

    combine: Literal["concat", "sum", "mean", "list"] = "concat"
    """How the cuts come together, in the order of the party ids; `list`: as arguments."""


class OptimizerSpec(Section):
    """The optimiser that every party uses, with the arguments of torch."""

    name: Literal["adam", "adamw", "sgd", "rmsprop"] = "adam"
    lr: Positive = 0.001
    weight_decay: NotNegative | None = None
    betas: Annotated[tuple[Fraction, Fraction], Field(strict=False)] | None = None
    eps: Positive | None = None
    amsgrad: bool | None = None
    momentum: NotNegative | None = None
    dampening: NotNegative | None = None
    nesterov: bool | None = None
    alpha: Fraction | None = None
    centered: bool | None = None

    def arguments(self) -> dict[str, JsonValue]:
        """Keyword arguments for torch; what was not given is left to torch."""
        given: dict[str, JsonValue] = self.model_dump(exclude={"name"}, exclude_none=True)
        return given


class EarlyStop(Section):
    """End when a validation metric no longer gets better."""

    metric: str
    """One of the metrics of the loss, for instance `auc`."""
    patience: Annotated[int, Field(ge=1)] = 5
    """Evaluations without improvement before the end."""
    min_delta: NotNegative = 0.0
    """What counts as an improvement."""


class Training(Section):
    """How long and in which slices."""

    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 128
    micro_batch_size: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """Rows of a slice of a batch, at most; the gradients of its slices are added up. Default: none
    is sliced."""
    epochs: Annotated[int, Field(ge=1, le=65_535)] = 10
    validation: Fraction = 0.2
    """Part of the matched rows that is kept for validation; 0: none."""
    early_stop: EarlyStop | None = None


class ScheduleSection(Section):
    """In which order activations and gradients cross."""

    name: Literal["sync", "microbatch", "pipeline", "local"] = "sync"
    """`sync`: one at a time, equal to training in one process; `microbatch`: all slices of a batch
    under way, with the same result; `pipeline`: several batches under way; `local`: several
    optimiser steps for each exchange."""
    pipeline_size: Annotated[int, Field(ge=1, le=64)] = 1
    """With `pipeline`: batches under way, 2 or more."""
    base_steps: Annotated[int, Field(ge=1, le=64)] = 1
    """With `local`: steps of a base model for each gradient."""
    fuse_steps: Annotated[int, Field(ge=1, le=64)] = 1
    """With `local`: steps of the label party's models for each set of activations."""
    exchange_every: Annotated[int, Field(ge=1, le=1000)] = 1
    """With `local`: after the first epoch only every n-th batch crosses; the others are trained on
    with what crossed for their rows before."""


def _schedule(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _bare_name(section: ScheduleSection) -> object:
    """A schedule without parameters is written as its name."""
    given = section.model_dump(exclude_defaults=True)
    return section.name if set(given) <= {"name"} else given


Schedule = Annotated[
    ScheduleSection,
    BeforeValidator(_schedule, json_schema_input_type=str | ScheduleSection),
    PlainSerializer(_bare_name),
]


class AlignmentSpec(Section):
    """How the parties find their common rows."""

    min_rows: Annotated[int, Field(ge=2)] = 32
    """Fewer matching rows than this end the session."""
    key_file: str | None = None
    """File with a secret that all parties share, so that nobody else can guess ids."""


class CodecDirections(Section):
    """What is on the wire: a chain of codecs per direction, by id or as configs."""

    forward: CodecChoice = None
    """Activations, up; `auto`, the default: a chain that suits most."""
    backward: CodecChoice = None
    """Gradients, down; `auto` as above."""
    evaluation: CodecChoice = None
    """Activations of validation rows; `auto` as above."""


class CodecRule(CodecDirections):
    """Other chains for one party or tensor, or for some epochs, as a warm-up needs."""

    party: Name | None = None
    """The feature party whose link it is; default: every one."""
    tensor: TensorName | None = None
    """With `party`: one of the tensors of its base model; default: all of them."""
    first_epoch: Annotated[int, Field(ge=1, le=65_535)] = 1
    """From which epoch on."""
    last_epoch: Annotated[int, Field(ge=1, le=65_535)] | None = None
    """Up to and with which epoch; default: the last."""


class CodecBudget(Section):
    """How much an adaptive choice may lose; one of the two."""

    max_metric_loss: Positive | None = None
    """Points of AUC, accuracy or the like; default: 0.1."""
    floor_db: Annotated[float, Field(ge=-20, le=200)] | None = None
    """Signal-to-noise ratio of activations, at least; gradients may be 12 dB below it."""


class CodecSection(CodecDirections):
    """What is on the wire, for all parties and epochs unless a rule says otherwise."""

    choice: Literal["fixed", "adaptive"] = "fixed"
    """`adaptive`: forward and backward, where neither this section nor a rule names them, the
    sender chooses from frame to frame what its link can carry quickest."""
    budget: CodecBudget = CodecBudget()
    """With `choice: adaptive`: how coarse it may become."""
    rules: Annotated[tuple[CodecRule, ...], Field(strict=False, max_length=32)] = ()
    """Exceptions; of those that apply the last one that names the direction counts."""
    defaults: Literal[1, 2, 3] = 3
    """Which chains `auto` stands for: those of this release, or of an older one whose session goes
    on."""

    def chooses(self, direction: str, party: str) -> bool:
        """Whether the sender chooses from frame to frame.

        Args:
            direction: ``forward``, ``backward`` or ``evaluation``.
            party: the feature party of the link.
        """
        sections = [self, *(rule for rule in self.rules if rule.party in (None, party))]
        return (
            self.choice == ADAPTIVE
            and direction in CHOSEN
            and all(getattr(section, direction) is None for section in sections)
        )


def _codecs(value: object) -> object:
    if value == ADAPTIVE:
        return {"choice": ADAPTIVE}
    if isinstance(value, str) and value != AUTO:
        raise ValueError(
            f'expected auto, adaptive or a mapping such as {{forward: fp16}}, found "{value}"'
        )
    return {} if value == AUTO else value


Codecs = Annotated[
    CodecSection,
    BeforeValidator(_codecs, json_schema_input_type=Literal["auto", "adaptive"] | CodecSection),
]


class CheckpointSection(Section):
    """How often a party keeps all that it needs to go on after a crash."""

    every_steps: Annotated[int, Field(ge=1)] = 100
    """Training steps between two checkpoints, besides the one after each epoch. The newest two
    are kept: what a restarted party recomputes is at most this much and one evaluation."""
    keep_every_epochs: Annotated[int, Field(ge=0)] = 1
    """Of which epochs the checkpoints after them are kept for good: every 1st, 2nd, ...; 0: none.
    A replay can begin at them."""


class Timeouts(Section):
    """How long to wait."""

    peer_s: Positive = 600.0
    """Seconds without a sign of a peer before the party gives up."""


class FederationFile(Section):
    """A federation: the parties and what they agreed on."""

    federation: Name
    """Lower-case letters, digits and hyphens; the first part of every topic."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Every random number of the session follows from it."""
    parties: Annotated[
        dict[Name, PartySection],
        Field(json_schema_extra={"propertyNames": {"pattern": NAME_PATTERN}}),
    ]
    """One label party and at least one feature party, by name."""
    fuse: FuseSpec
    """The model above the cut."""
    loss: Reference
    """`bce` (with logits), `cross_entropy`, `mse` or `module:Class`."""
    optimizer: OptimizerSpec = OptimizerSpec()
    training: Training = Training()
    alignment: AlignmentSpec = AlignmentSpec()
    schedule: Schedule = ScheduleSection()
    """`sync` by default; a name, or a name with its parameters."""
    codec: Codecs = CodecSection()
    transport: Transport | None = None
    """`embedded:///folder` or `kafka://host:9092`; default: the log in the run's folder."""
    durability: Literal["checkpoint", "step"] = "checkpoint"
    """When what was sent is forced to disk."""
    timeouts: Timeouts = Timeouts()
    checkpoints: CheckpointSection = CheckpointSection()
    modules: Annotated[str, Field(min_length=1)] = "."
    """Folder of the modules that `module:Class` names; default: that of this file."""
    threads: Annotated[int, Field(ge=1, le=MAX_THREADS)] = 1
    """Compute threads of a party; the weights depend on it in the last bits."""
