import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from slstream.errors import TopologyError
from slstream.topology import Topology, json_schema
from slstream.topology.document import read_document
from tests.topology.documents import write
from tests.topology.test_topology import SHIPPED


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_are_valid(path: Path, validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(read_document(path).value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("epochs",), 3),
        (("parties", "bob", "data", "idd"), "x"),
        (("parties", "bob", "role"), "hots"),
        (("parties", "Bob"), {"role": "feature", "data": {}}),
        (("parties", "bob-to-c"), {"role": "feature", "data": {}}),
        (("federation",), "to"),
        (("training", "batch_size"), 1),
        (("training", "epochs"), "2"),
        (("optimizer",), {"betas": [0.1]}),
        (("codec",), {"forward": [3]}),
        (("codec",), {"forward": [{"step": 3}]}),
        (("fuse", "model"), "my model"),
        (("transport",), "somewhere"),
    ],
)
def test_schema_and_loader_refuse_the_same(
    path: tuple[str, ...],
    value: object,
    tmp_path: Path,
    validator: jsonschema.Draft202012Validator,
) -> None:
    document: dict[str, Any] = copy.deepcopy(read_document(write(tmp_path)).value)
    validator.validate(document)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert not validator.is_valid(document)
    with pytest.raises(TopologyError):
        Topology.from_dict(document)


def test_each_key_is_described() -> None:
    properties: Any = json_schema()["properties"]
    assert properties["federation"]["description"].startswith("Lower-case letters")
