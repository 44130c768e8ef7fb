from pathlib import Path

import pytest

from slstream.errors import TopologyError
from slstream.topology import Topology
from slstream.topology.validation import known_keys, show
from tests.topology.documents import edited, write

NAME = (
    "expected a name of lower-case letters and digits with single hyphens between them, of at most "
    '40 characters and without the word "to"; found '
)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "id: customer",
            "idd: customer",
            '10: parties.bob.data.idd: unknown key; did you mean "id"? (known: bundled, features, '
            "id, label, missing, path, scale)",
        ),
        (
            "fuse:",
            "fuze: 1\nfuse:",
            '12: fuze: unknown key; did you mean "fuse"? (known: alignment, checkpoints, codec, '
            "durability, federation, fuse, loss, modules, optimizer, parties, schedule, seed and 4 "
            "more)",
        ),
        ("loss: bce\n", "", "1: loss: this key is missing; add it"),
        (
            "role: feature",
            "role: hots",
            "9: parties.bob.role: expected label or feature (guest or host), found 'hots'",
        ),
        (
            "id: customer",
            "scale: standart",
            '10: parties.bob.data.scale: expected one of these names, found "standart"; did you '
            'mean "standard"? (known: none, standard)',
        ),
        (
            "batch_size: 16",
            "batch_size: 1.5",
            "14: training.batch_size: expected a whole number, found 1.5",
        ),
        (
            "batch_size: 16",
            "batch_size: 1",
            "14: training.batch_size: expected a number of at least 2, found 1",
        ),
        ("epochs: 2", "epochs: '2'", '14: training.epochs: expected a whole number, found "2"'),
        ("epochs: 2", "epochs: true", "14: training.epochs: expected a whole number, found true"),
        (
            "validation: 0.25",
            "validation: 1",
            "14: training.validation: expected a number below 1.0, found 1",
        ),
        (
            "validation: 0.25",
            "validation: .nan",
            "14: training.validation: expected a finite number, found NaN",
        ),
        ("seed: 3", "seed: -1", "2: seed: expected a number of at least 0, found -1"),
        (
            "seed: 3",
            "seed: 9223372036854775808",
            "2: seed: expected a number below 9223372036854775808, found 9223372036854775808",
        ),
        ('["a*"]', "a", '6: parties.alice.data.features: expected a list, found "a"'),
        ('["a*"]', "[1]", "6: parties.alice.data.features.0: expected text, found 1"),
        ('["a*"]', "['']", "6: parties.alice.data.features.0: expected text that is not empty, f"),
        ("{out: 1}", "{out: [.inf]}", "12: fuse.args.out: expected a finite number, found inf"),
        (
            "model: linear",
            "model: my module",
            '12: fuse.model: expected a registered name or module:Class, found "my module"',
        ),
        ("  bob:", "  Bob:", f'8: parties.Bob: {NAME}"Bob"'),
        ("  bob:", "  b-to-c:", f'8: parties.b-to-c: {NAME}"b-to-c"'),
        ("federation: clinic", "federation: to", f'1: federation: {NAME}"to"'),
        ("federation: clinic", f"federation: {'a' * 41}", f'1: federation: {NAME}"{"a" * 41}"'),
        (
            "loss: bce",
            "loss: bce\ntransport: somewhere",
            '14: transport: expected embedded:///FOLDER or kafka://HOST:PORT, found "somewhere"',
        ),
        (
            "loss: bce",
            "loss: bce\ntransport: kafka://bob:hunter2@h",
            "14: transport: expected kafka://host:9092 without a user or password, which the",
        ),
        (
            "loss: bce",
            "loss: bce\noptimizer: {betas: [0.9]}",
            "14: optimizer.betas.1: this item is missing",
        ),
        (
            "  bob:\n",
            "  bob:\n    device: gpu\n",
            '9: parties.bob.device: expected cpu, cuda or cuda:N, found "gpu"',
        ),
        ("loss: bce", "loss: bce\nthreads: 0", "14: threads: expected a number of at least 1, fo"),
        ("loss: bce", "loss: bce\ncodec: {forward: []}", "14: codec.forward: expected a list with"),
        ("loss: bce", "loss: bce\ncodec: {forward: 3}", "14: codec.forward.0: expected a mapping,"),
        (
            "    base: {model: mlp, args: {out: 4}}\n  bob",
            "    base: mlp\n  bob",
            '7: parties.alice.base: expected a mapping, found "mlp"',
        ),
    ],
)
def test_each_problem_has_place_expected_and_found(
    before: str, after: str, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, edited(before, after))
    with pytest.raises(TopologyError) as caught:
        Topology.load(path)
    assert str(caught.value).startswith(f"{path}:{message}")
    assert "\n" not in str(caught.value)


def test_all_problems_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path, edited("seed: 3", "seed: x").replace("epochs: 2", "epoch: 2"))
    with pytest.raises(TopologyError) as caught:
        Topology.load(path)
    first, second = str(caught.value).splitlines()
    assert first == f'{path}:2: seed: expected a whole number, found "x"'
    assert second.startswith(f'{path}:14: training.epoch: unknown key; did you mean "epochs"?')


def test_known_keys_follow_the_sections() -> None:
    assert "seed" in known_keys(())
    assert known_keys(("parties", "data", "base")) == {"model", "args", "tensors"}
    assert "metric" in known_keys(("training", "early_stop"))
    # Any name may stand here, so none is known.
    assert known_keys(("parties",)) == known_keys(("fuse", "args")) == frozenset()


def test_long_values_are_cut_in_messages() -> None:
    assert show("x" * 100) == '"' + "x" * 56 + "..."
