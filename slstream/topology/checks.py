"""What must hold between the keys of a topology file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from slstream.topology.document import KeyPath, Problem
from slstream.topology.nearest import hint
from slstream.topology.sections import (
    ADAPTIVE,
    CHOSEN,
    CodecDirections,
    CodecRule,
    CodecSection,
    DataSource,
    FederationFile,
    PartySection,
    Role,
)

LOSS_METRICS: dict[str, tuple[str, ...]] = {
    "bce": ("auc", "accuracy", "loss"),
    "cross_entropy": ("accuracy", "auc", "loss"),
    "mse": ("r2", "mae", "loss"),
}
"""Validation metrics of each built-in loss; the first is the one to report."""

MOST_SLICES = 256
"""Of a batch: their numbers are part of the keys of noise, as bytes."""

DIRECTIONS = ("forward", "backward", "evaluation")
"""What a codec chain is chosen for."""

_OPTIMIZER_KEYS: dict[str, frozenset[str]] = {
    "adam": frozenset({"lr", "betas", "eps", "weight_decay", "amsgrad"}),
    "adamw": frozenset({"lr", "betas", "eps", "weight_decay", "amsgrad"}),
    "sgd": frozenset({"lr", "momentum", "dampening", "weight_decay", "nesterov"}),
    "rmsprop": frozenset({"lr", "alpha", "eps", "weight_decay", "momentum", "centered"}),
}


def loss_metrics(loss: str) -> tuple[str, ...]:
    """Names of the validation metrics of a loss; a loss of the user's own has itself only."""
    return LOSS_METRICS.get(loss, ("loss",))


def check_federation(file: FederationFile) -> Iterator[Problem]:
    """Every problem between keys, in the order of the file's sections."""
    yield from _check_roles(file)
    for name, party in file.parties.items():
        yield from _check_party(name, party)
    if ":" not in file.loss and file.loss not in LOSS_METRICS:
        yield Problem(
            path=("loss",),
            text=f'expected a loss or module:Class, found "{file.loss}"'
            f"{hint(file.loss, LOSS_METRICS)}",
        )
    yield from _check_optimizer(file)
    yield from _check_early_stop(file)
    yield from _check_schedule(file)
    yield from _check_chains(("codec",), file.codec)
    for index, rule in enumerate(file.codec.rules):
        yield from _check_codec_rule(("codec", "rules", index), rule, file)
    features = [name for name, party in file.parties.items() if party.role is Role.FEATURE]
    yield from _check_choice(file.codec, features)


_SCHEDULE_KEYS = {
    "sync": (),
    "microbatch": (),
    "pipeline": ("pipeline_size",),
    "local": ("base_steps", "fuse_steps", "exchange_every"),
}
"""Parameters of each schedule; one of them must be above 1."""


def _check_schedule(file: FederationFile) -> Iterator[Problem]:
    schedule, path = file.schedule, ("schedule",)
    own = _SCHEDULE_KEYS[schedule.name]
    for key in (key for keys in _SCHEDULE_KEYS.values() for key in keys if key not in own):
        if getattr(schedule, key) != 1:
            yield Problem(path=(*path, key), text=f"{schedule.name} has no parameter {key}")
    if own and all(getattr(schedule, key) == 1 for key in own):
        yield Problem(path=path, text=f"expected {' or '.join(own)} of 2 or more")
    slices = file.training.micro_batch_size
    if schedule.name == "microbatch" and slices is None:
        yield Problem(path=path, text="microbatch slices batches: set training.micro_batch_size")
    if slices is None:
        return
    if own:
        yield Problem(
            path=("training", "micro_batch_size"),
            text=f"{schedule.name} slices no batches; expected sync or microbatch",
        )
    if file.training.batch_size > MOST_SLICES * slices:
        yield Problem(
            path=("training", "micro_batch_size"),
            text=f"expected at most {MOST_SLICES} slices of a batch of "
            f"{file.training.batch_size}, found {-(-file.training.batch_size // slices)}",
        )


def _check_choice(codec: CodecSection, features: Sequence[str]) -> Iterator[Problem]:
    given = [key for key, value in codec.budget if value is not None]
    if given and codec.choice != ADAPTIVE:
        text = "it is for an adaptive choice; add choice: adaptive"
        yield Problem(path=("codec", "budget"), text=text)
    if len(given) > 1:
        yield Problem(
            path=("codec", "budget"), text=f"expected one of {' and '.join(given)}, found both"
        )
    if codec.choice != ADAPTIVE:
        return
    if codec.defaults == 1:
        text = "expected 2 or more, as the adaptive choice came with them, found 1"
        yield Problem(path=("codec", "defaults"), text=text)
    if not any(codec.chooses(direction, party) for direction in CHOSEN for party in features):
        text = f"nothing is left to choose; leave out {' or '.join(CHOSEN)}, or choice"
        yield Problem(path=("codec", "choice"), text=text)


def _check_codec_rule(path: KeyPath, rule: CodecRule, file: FederationFile) -> Iterator[Problem]:
    yield from _check_chains(path, rule)
    if all(getattr(rule, direction) is None for direction in DIRECTIONS):
        yield Problem(path=path, text=f"expected one of {', '.join(DIRECTIONS)}, found none")
    features = sorted(name for name, party in file.parties.items() if party.role is Role.FEATURE)
    if rule.party is not None and rule.party not in features:
        yield Problem(
            path=(*path, "party"),
            text=f'expected a feature party ({", ".join(features)}), found "{rule.party}"'
            f"{hint(rule.party, features)}",
        )
    if rule.tensor is not None:
        yield from _check_tensor((*path, "tensor"), rule, file)
    if rule.last_epoch is not None and rule.last_epoch < rule.first_epoch:
        yield Problem(
            path=(*path, "last_epoch"),
            text=f"expected at least first_epoch, {rule.first_epoch}, found {rule.last_epoch}",
        )


def _check_tensor(path: KeyPath, rule: CodecRule, file: FederationFile) -> Iterator[Problem]:
    if rule.party is None:
        yield Problem(path=path, text="a tensor is one of a party's base model; add party: NAME")
        return
    party = file.parties.get(rule.party)
    names = [each.name for each in party.base.tensors] if party is not None and party.base else []
    if rule.tensor not in names:
        yield Problem(
            path=path,
            text=f"expected one of the tensors of {rule.party}'s base model, found "
            f'"{rule.tensor}"{hint(str(rule.tensor), names)}',
        )


def _check_chains(path: KeyPath, chains: CodecDirections) -> Iterator[Problem]:
    for direction in DIRECTIONS:
        for index, config in enumerate(getattr(chains, direction) or ()):
            if not isinstance(config.get("id"), str):
                yield Problem(
                    path=(*path, direction, index),
                    text='expected a codec id or a config with an "id", for instance {id: fp16}',
                )


def _check_roles(file: FederationFile) -> Iterator[Problem]:
    labels = sorted(name for name, party in file.parties.items() if party.role is Role.LABEL)
    if len(labels) != 1:
        found = f"found {len(labels)} ({', '.join(labels)})" if labels else "found none"
        yield Problem(path=("parties",), text=f"expected exactly one party of role label, {found}")
    if len(labels) == len(file.parties):
        yield Problem(
            path=("parties",), text="expected at least one party of role feature, found none"
        )


def _check_party(name: str, party: PartySection) -> Iterator[Problem]:
    path = ("parties", name)
    if party.role is Role.LABEL:
        if party.data.label is None:
            yield Problem(
                path=(*path, "data"),
                text="expected label: COLUMN, as the role of the party is label",
            )
        if party.base is None and party.data.features:
            yield Problem(
                path=(*path, "data", "features"),
                text="features without a base model; add base: {model: ...} or remove the features",
            )
    else:
        if party.data.label is not None:
            yield Problem(
                path=(*path, "data", "label"),
                text="a feature party holds no label; remove it, or set role: label",
            )
        if party.base is None:
            yield Problem(path=path, text="expected base: {model: ...}, as the role is feature")
    names = [each.name for each in party.base.tensors] if party.base is not None else []
    if len(set(names)) < len(names):
        text = f"expected tensors of different names, found {', '.join(names)}"
        yield Problem(path=(*path, "base", "tensors"), text=text)
    if party.base is not None and party.data.features == ():
        yield Problem(
            path=(*path, "data", "features"),
            text='a base model needs at least one column, found []; for instance ["*"]',
        )
    yield from _check_source(path, party.data)


def _check_source(path: tuple[str, ...], data: DataSource) -> Iterator[Problem]:
    if (data.bundled is None) == (data.path is None):
        found = "neither" if data.path is None else "both"
        yield Problem(path=(*path, "data"), text=f"expected either path or bundled, found {found}")
    if data.path is not None and Path(data.path).suffix.lower() not in (".csv", ".parquet"):
        yield Problem(
            path=(*path, "data", "path"),
            text=f'expected a .csv or .parquet file, found "{data.path}"',
        )
    if data.label is not None and data.label == data.id:
        yield Problem(
            path=(*path, "data", "label"),
            text=f'expected another column than the id column, found "{data.label}" for both',
        )


def _check_optimizer(file: FederationFile) -> Iterator[Problem]:
    name, known = file.optimizer.name, _OPTIMIZER_KEYS[file.optimizer.name]
    for key in sorted(file.optimizer.arguments().keys() - known):
        yield Problem(
            path=("optimizer", key),
            text=f"{name} has no such argument (known: {', '.join(sorted(known))})",
        )
    if file.optimizer.nesterov and not file.optimizer.momentum:
        yield Problem(path=("optimizer", "nesterov"), text="nesterov needs a momentum above 0")


def _check_early_stop(file: FederationFile) -> Iterator[Problem]:
    stop = file.training.early_stop
    if stop is None:
        return
    path = ("training", "early_stop")
    metrics = loss_metrics(file.loss)
    if stop.metric not in metrics:
        yield Problem(
            path=(*path, "metric"),
            text=f'the loss {file.loss} has no metric "{stop.metric}"{hint(stop.metric, metrics)}',
        )
    if file.training.validation == 0:
        yield Problem(path=path, text="early_stop needs validation rows; set training.validation")
