"""What ``codecs show`` prints about a codec."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator

from pydantic import JsonValue
from ruamel.yaml import YAML

from slstream.cli.codecs_description import CodecDescription

_WIDTH = 96

_KINDS = {
    "tensor": "codec of tensors",
    "stateful": "codec of tensors that remembers what crossed the link",
    "bytes": "lossless codec of bytes, to stand behind another codec",
    "gradients": "codec of gradients only",
}


def page_lines(found: CodecDescription) -> Iterator[str]:
    """Docstring, parameters, and an example for a topology."""
    yield f"{found.id}: {_KINDS[found.kind]} ({found.source})"
    yield ""
    yield found.text or "Its class has no docstring."
    yield ""
    yield "Parameters:" if found.parameters else "It has no parameters."
    for each in found.parameters:
        default = "required" if each.required else f"default {_flow(each.default)}"
        yield f"  {each.name}: {each.type}, {default}"
        yield from textwrap.wrap(each.text, _WIDTH, initial_indent="    ", subsequent_indent="    ")
    chain = found.example[0] if len(found.example) == 1 else found.example
    yield ""
    yield "In a topology:"
    yield "  codec:"
    yield f"    {found.direction}: {_flow(chain)}"


def _flow(value: JsonValue) -> str:
    """YAML on one line."""
    yaml = YAML()
    yaml.default_flow_style = True
    yaml.width = 4096
    out = io.StringIO()
    yaml.dump(value, out)
    return out.getvalue().removesuffix("...\n").strip()
