"""``slstream codecs``: which codecs there are, what each promises, and one tried on a tensor."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

LIST_EPILOG = """\b
Kinds:
  tensor      encodes tensors
  stateful    encodes tensors, by what crossed the link before
  bytes       packs the bytes of another codec without loss; stands behind it in a chain
  gradients   encodes gradients only, as it uses the activation of the same step

\b
With --json, prints one object:
  {"codecs": [{"id", "kind", "summary", "source"} or {"id", "problem"}]}
"""

SHOW_EPILOG = """\b
Examples:
  slstream codecs show ecsq
  slstream codecs show topk --json
"""

TRY_EPILOG = """\b
Examples:
  slstream codecs try q8row activation.npy
  slstream codecs try '{id: ecsq, step: 0.5}' activation.npy --json
  slstream codecs try '[fp16, {id: zstd_shuffled, level: 9}]' activation.npy
  slstream codecs try mask gradient.npy --forward activation.npy

\b
To save a tensor of yours:
  numpy.save("activation.npy", activation.detach().numpy())

\b
Bytes are those of the payload; in a session, a frame's header and its record come on top.
A stateful codec is tried as on the first tensor of a link.
The error is decoded minus original: its mean over all elements is the bias in one encoding.
"""

_type_of_path = click.Path(path_type=Path)

_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group("codecs")
def command() -> None:
    """List the codecs, explain one, or try one on a tensor of yours.

    These are the codecs of slstream and those that installed packages add.
    """


@command.command("list", epilog=LIST_EPILOG)
@_json_option
def list_codecs(as_json: bool) -> None:
    """List the installed codecs.

    Prints id, kind, and what each does in a sentence.
    """
    from slstream.cli.codecs_table import codecs_table, list_rows

    rows = list_rows()
    if as_json:
        click.echo(json.dumps({"codecs": rows}))
        return
    from slstream.cli.terminal import result_console

    result_console().print(codecs_table(rows))


@command.command("show", epilog=SHOW_EPILOG)
@click.argument("codec_id", metavar="ID")
@_json_option
def show(codec_id: str, as_json: bool) -> None:
    """Explain the codec ID.

    Prints what it promises (bits, error, bias), its parameters with their ranges, and how a
    topology names it.
    """
    from slstream.cli.codecs_description import describe
    from slstream.codecs.registry import codec_class

    found = describe(codec_class(codec_id))
    if as_json:
        example = {found.direction: found.example}
        click.echo(json.dumps({**asdict(found), "example": example}))
        return
    from slstream.cli.codecs_page import page_lines
    from slstream.cli.printable import printable

    click.echo(printable("\n".join(page_lines(found))))


@command.command("try", epilog=TRY_EPILOG)
@click.argument("codec")
@click.argument("path", metavar="TENSOR", type=_type_of_path)
@click.option(
    "--forward",
    "forward_path",
    metavar="FILE",
    type=_type_of_path,
    help="The activation of the gradient TENSOR, for codecs of gradients only.",
)
@_json_option
def try_codec(codec: str, path: Path, forward_path: Path | None, as_json: bool) -> None:
    """Try a codec on a tensor of yours.

    Encodes and decodes TENSOR, a .npy file, and prints size, error and speed. CODEC is an id or
    what a topology may hold: a config or a chain, in YAML or JSON. The tensor has 1 to 4
    dimensions, the first one rows, and is of float32, or is converted to it.
    """
    from slstream.cli.codecs_attempt import attempt
    from slstream.cli.printable import printable

    found = attempt(codec, path, forward_path)
    if as_json:
        click.echo(json.dumps(found.document()))
    else:
        click.echo(printable("\n".join(found.lines())))
