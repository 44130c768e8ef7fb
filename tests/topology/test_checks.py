from pathlib import Path

import pytest

from slstream.errors import TopologyError
from slstream.topology import Topology
from tests.topology.documents import edited, write

BOB_BASE = "customer}\n    base: {model: mlp, args: {out: 4}}"
ALICE_BASE = '["a*"]}\n    base: {model: mlp, args: {out: 4}}'


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "role: feature\n    data: {path: bob.csv",
            "role: label\n    data: {label: y, path: bob.csv",
            "3: parties: expected exactly one party of role label, found 2 (alice, bob)\n"
            "{file}:3: parties: expected at least one party of role feature, found none",
        ),
        (
            "role: label\n    data: {path: alice.csv, label: sick",
            "role: feature\n    data: {path: alice.csv",
            "3: parties: expected exactly one party of role label, found none",
        ),
        (
            "label: sick, ",
            "",
            "6: parties.alice.data: expected label: COLUMN, as the role of the party is label",
        ),
        (
            "id: customer",
            "label: y",
            "10: parties.bob.data.label: a feature party holds no label; remove it, or set role: "
            "label",
        ),
        (
            ALICE_BASE,
            '["a*"]}',
            "6: parties.alice.data.features: features without a base model; add base: {{model: "
            "...}} or remove the features",
        ),
        (
            BOB_BASE,
            "customer}",
            "8: parties.bob: expected base: {{model: ...}}, as the role is feature",
        ),
        (
            '["a*"]',
            "[]",
            "6: parties.alice.data.features: a base model needs at least one column, found []; for "
            'instance ["*"]',
        ),
        (
            "path: bob.csv, ",
            "",
            "10: parties.bob.data: expected either path or bundled, found neither",
        ),
        (
            "path: bob.csv, ",
            "path: bob.csv, bundled: wine, ",
            "10: parties.bob.data: expected either path or bundled, found both",
        ),
        (
            "bob.csv",
            "bob.xlsx",
            '10: parties.bob.data.path: expected a .csv or .parquet file, found "bob.xlsx"',
        ),
        (
            "label: sick",
            "label: id",
            '6: parties.alice.data.label: expected another column than the id column, found "id" '
            "for both",
        ),
        (
            "loss: bce",
            "loss: bcee",
            '13: loss: expected a loss or module:Class, found "bcee"; did you mean "bce"? (known: '
            "bce, cross_entropy, mse)",
        ),
        (
            "loss: bce",
            "loss: bce\noptimizer: {name: sgd, betas: [0.9, 0.99]}",
            "14: optimizer.betas: sgd has no such argument (known: dampening, lr, momentum, "
            "nesterov, weight_decay)",
        ),
        (
            "loss: bce",
            "loss: bce\noptimizer: {name: sgd, nesterov: true}",
            "14: optimizer.nesterov: nesterov needs a momentum above 0",
        ),
        (
            "epochs: 2",
            "early_stop: {metric: aucc}",
            '14: training.early_stop.metric: the loss bce has no metric "aucc"; did you mean "auc"?'
            " (known: accuracy, auc, loss)",
        ),
        (
            "validation: 0.25",
            "validation: 0, early_stop: {metric: auc}",
            "14: training.early_stop: early_stop needs validation rows; set training.validation",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {backward: [fp16, {step: 2}]}",
            '14: codec.backward.1: expected a codec id or a config with an "id", for instance '
            "{{id: fp16}}",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {rules: [{first_epoch: 2}]}",
            "14: codec.rules.0: expected one of forward, backward, evaluation, found none",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {rules: [{first_epoch: 3, last_epoch: 2, forward: fp16}]}",
            "14: codec.rules.0.last_epoch: expected at least first_epoch, 3, found 2",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {rules: [{party: bobb, forward: fp16}]}",
            '14: codec.rules.0.party: expected a feature party (bob), found "bobb"; did you mean '
            '"bob"? (known: bob)',
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {rules: [{tensor: wide, forward: fp16}]}",
            "14: codec.rules.0.tensor: a tensor is one of a party's base model; add party: NAME",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {rules: [{party: bob, tensor: wide, forward: fp16}]}",
            "14: codec.rules.0.tensor: expected one of the tensors of bob's base model, found "
            '"wide" (none is known)',
        ),
        (
            BOB_BASE,
            BOB_BASE.replace(
                "args: {out: 4}",
                "args: {out: 4}, tensors: [{name: a, size: 1}, {name: a, size: 3}]",
            ),
            "11: parties.bob.base.tensors: expected tensors of different names, found a, a",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {rules: [{backward: [{step: 2}]}]}",
            '14: codec.rules.0.backward.0: expected a codec id or a config with an "id", for '
            "instance {{id: fp16}}",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: adaptiv",
            "14: codec: expected auto, adaptive or a mapping such as {{forward: fp16}}, found "
            '"adaptiv"',
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {defaults: 4}",
            "14: codec.defaults: expected 1, 2 or 3, found 4",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {budget: {floor_db: 3}}",
            "14: codec.budget: it is for an adaptive choice; add choice: adaptive",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {choice: adaptive, budget: {floor_db: 3, max_metric_loss: 1}}",
            "14: codec.budget: expected one of max_metric_loss and floor_db, found both",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {choice: adaptive, defaults: 1}",
            "14: codec.defaults: expected 2 or more, as the adaptive choice came with them, "
            "found 1",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {choice: adaptive, forward: fp16, backward: fp16}",
            "14: codec.choice: nothing is left to choose; leave out forward or backward, or choice",
        ),
        (
            "loss: bce",
            "loss: bce\ncodec: {choice: adaptive, forward: fp16, rules: [{backward: fp16}]}",
            "14: codec.choice: nothing is left to choose; leave out forward or backward, or choice",
        ),
    ],
)
def test_keys_that_do_not_fit_each_other(
    before: str, after: str, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, edited(before, after))
    with pytest.raises(TopologyError) as caught:
        Topology.load(path)
    assert str(caught.value) == f"{path}:{message.format(file=path)}"


def test_a_label_party_may_hold_labels_only(tmp_path: Path) -> None:
    text = edited(', features: ["a*"]}\n    base: {model: mlp, args: {out: 4}}', "}")
    topology = Topology.load(write(tmp_path, text))
    assert topology.label_party.base is None
    assert topology.label_party.feature_patterns == ()
