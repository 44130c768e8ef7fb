"""From plain values to sections, with every problem in the user's words."""

from __future__ import annotations

import json
import re
from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from slstream.topology.checks import check_federation
from slstream.topology.document import Document, KeyPath, Problem
from slstream.topology.nearest import hint
from slstream.topology.sections import FederationFile

_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "int_type": "a whole number",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "model_type": "a mapping",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "too_long": "a list of at most {max_length} items",
    "too_short": "a list with at least {min_length} item(s)",
    "tuple_type": "a list",
}
_SHOWN_CHARACTERS = 60


def validate(document: Document) -> FederationFile:
    """Check a document and turn it into sections.

    Raises:
        TopologyError: lists every problem found, each with its place.
    """
    try:
        file = FederationFile.model_validate(document.value)
    except ValidationError as error:
        problems = [_problem(details) for details in error.errors(include_url=False)]
        raise document.error(problems) from error
    problems = list(check_federation(file))
    if problems:
        raise document.error(problems)
    return file


def _problem(details: ErrorDetails) -> Problem:
    path = tuple(part for part in details["loc"] if part != "[key]")
    return Problem(path=path, text=_text(path, details))


def _text(path: KeyPath, details: ErrorDetails) -> str:
    kind, found, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown key{hint(str(path[-1]), known_keys(path[:-1]))}"
    if kind == "missing":
        return (
            "this item is missing" if isinstance(path[-1], int) else "this key is missing; add it"
        )
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        if not choices:  # numbers
            return f"expected {context['expected']}, found {show(found)}"
        near = hint(str(found), choices)
        return f"expected one of these names, found {show(found)}{near}"
    expected = _EXPECTED.get(kind)
    if expected is None:
        return f"{details['msg']}, found {show(found)}"
    return f"expected {expected.format(**context)}, found {show(found)}"


def show(value: object) -> str:
    """A value as it may stand in a message: JSON, at most 60 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def known_keys(path: KeyPath) -> frozenset[str]:
    """Keys that may stand in the mapping at ``path``; none where any key may."""
    section: type[BaseModel] | None = FederationFile
    parts = iter(path)
    for part in parts:
        if section is None or str(part) not in section.model_fields:
            return frozenset()
        annotation = section.model_fields[str(part)].annotation
        if get_origin(annotation) is dict and next(parts, None) is None:
            return frozenset()  # the names of the parties are the user's
        section = _section_in(annotation)
    return frozenset(section.model_fields) if section is not None else frozenset()


def _section_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _section_in(arg))), None)
