"""``slstream topology``: check a federation file, print the schema of such files, provide."""

from __future__ import annotations

import json
from pathlib import Path

import click

from slstream.cli.provision import apply, destroy, diff

SCHEMA_EPILOG = """\b
For editors that use the YAML language server:
  slstream topology schema > topology.schema.json
and this as the first line of a topology file:
  # yaml-language-server: $schema=topology.schema.json
"""

CHECK_EPILOG = """\b
Examples:
  slstream topology check my.yaml
  slstream topology check my.yaml --party bob --set parties.bob.data.path=/data/bob.csv
"""


@click.group("topology")
def command() -> None:
    """Check a federation file, and provide what it needs on a Kafka broker."""


for _provision in (apply, diff, destroy):
    command.add_command(_provision)


@command.command("schema", epilog=SCHEMA_EPILOG)
def schema() -> None:
    """Print the JSON Schema of topology files, so that editors complete and check them."""
    from slstream.topology import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@command.command("check", epilog=CHECK_EPILOG)
@click.argument("topology_path", metavar="TOPOLOGY", type=click.Path(path_type=Path))
@click.option(
    "--party",
    "names",
    metavar="NAME",
    multiple=True,
    help="Check only the data and model of this party. Repeatable.  [default: all parties]",
)
@click.option(
    "--set",
    "overrides",
    metavar="KEY.PATH=VALUE",
    multiple=True,
    help="Change the topology before it is checked: training.epochs=3. Repeatable.",
)
def check(topology_path: Path, names: tuple[str, ...], overrides: tuple[str, ...]) -> None:
    """Check a TOPOLOGY file: its keys, then the parties' tables, models and codecs.

    Of the transport only the URL is looked at.

    Where a party's data is not on this machine, name those that are with --party.
    """
    from slstream.topology import Topology

    topology = Topology.load(topology_path, overrides)
    parties = [topology.party(name) for name in names] or list(topology.parties)

    from slstream.party.preflight import check_parties
    from slstream.transport.connect import check_url

    if topology.transport is not None:
        check_url(topology.transport)
    facts = check_parties(topology, parties)
    for fact in facts:
        cut = "x".join(map(str, fact.cut)) or "none"
        click.echo(
            f"{fact.party}: {fact.role} party, {fact.rows} rows, {fact.columns} feature columns, "
            f"cut {cut}, {fact.parameters} parameters"
        )
    checked = "" if len(facts) == len(topology.parties) else f" for {', '.join(names)}"
    click.echo(f"{topology_path} is valid{checked}: digest {topology.digest()[:16]}")
