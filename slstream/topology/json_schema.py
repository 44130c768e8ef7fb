"""The format of topology files as JSON Schema, so that editors complete and check them."""

from __future__ import annotations

from pydantic import JsonValue

from slstream.topology.sections import FederationFile


def json_schema() -> dict[str, JsonValue]:
    """JSON Schema (draft 2020-12) of a topology file, closed: an unknown key is an error."""
    schema: dict[str, JsonValue] = FederationFile.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "slstream topology",
        **{key: value for key, value in schema.items() if key != "title"},
    }
