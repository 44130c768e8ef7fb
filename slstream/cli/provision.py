"""``slstream topology apply|diff|destroy``: a federation's topics and rights on a Kafka broker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slstream.cli.exit_code import ExitCode
from slstream.cli.printable import printable
from slstream.errors import ConfigError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

    from slstream.provisioning.failure import Failure
    from slstream.provisioning.plan import Desired, Plan
    from slstream.provisioning.provisioner import Remains
    from slstream.topology import Topology
    from slstream.transport.kafka.settings import KafkaSettings

APPLY_EPILOG = """\b
Examples:
  slstream topology apply credit.yaml
  slstream topology apply credit.yaml --principal bob=User:CN=bob,O=Bank --wait 60
  slstream topology apply credit.yaml --no-create --session 20260131-101500-7f3a2b

\b
Exit status: 0 the broker is as it should be; 1 something could not be done.
"""

DIFF_EPILOG = """\b
Exit status: 0 nothing differs; 4 something does; 1 it could not be found out.
Give the options that apply was given: they are part of what is compared.
"""

DESTROY_EPILOG = """\b
Examples:
  slstream topology destroy credit.yaml                    show what would be lost
  slstream topology destroy credit.yaml --session 20260131-101500-7f3a2b --yes

\b
Exit status: 0 it is gone, or there was nothing; 1 without --yes, or when something is left.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionOptions:
    """What all three commands are told."""

    topology_path: Path
    overrides: tuple[str, ...]
    sessions: tuple[str, ...]
    wait_s: float
    as_json: bool


def _provision_options(command: Callable[..., ExitCode]) -> Callable[..., ExitCode]:
    """Give ``command`` the common options, as one argument ``options``."""

    @wraps(command)
    def with_options(
        *,
        topology_path: Path,
        overrides: tuple[str, ...],
        sessions: tuple[str, ...],
        wait_s: float,
        as_json: bool,
        **own: object,
    ) -> ExitCode:
        options = ProvisionOptions(
            topology_path=topology_path,
            overrides=overrides,
            sessions=sessions,
            wait_s=wait_s,
            as_json=as_json,
        )
        return command(options=options, **own)

    decorated: Callable[..., ExitCode] = with_options
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


_OPTIONS = (
    click.argument("topology_path", metavar="TOPOLOGY", type=click.Path(path_type=Path)),
    click.option(
        "--session",
        "sessions",
        metavar="ID",
        multiple=True,
        help="The links of this session too (destroy: nothing else). Repeatable.",
    ),
    click.option(
        "--set",
        "overrides",
        metavar="KEY.PATH=VALUE",
        multiple=True,
        help="Change the topology before it is used: transport=kafka://host:9092. Repeatable.",
    ),
    click.option(
        "--wait",
        "wait_s",
        metavar="SECONDS",
        type=click.FloatRange(min=0),
        default=10.0,
        show_default=True,
        help="How long to wait for brokers that are not up yet.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead."),
)

_principal_option = click.option(
    "--principal",
    "principals",
    metavar="PARTY=PRINCIPAL",
    multiple=True,
    help="Kafka's name of a party.  [default: User:PARTY]  Repeatable.",
)
_create_option = click.option(
    "--create/--no-create",
    "may_create",
    default=True,
    show_default=True,
    help="Whether parties may create the topics of their links; if not, name each session.",
)


@click.command("apply", epilog=APPLY_EPILOG)
@_provision_options
@_principal_option
@_create_option
@click.option("--prune", is_flag=True, help="Also remove rights that no party needs.")
def apply(
    *, options: ProvisionOptions, principals: tuple[str, ...], may_create: bool, prune: bool
) -> ExitCode:
    """Create and repair the topics and rights that TOPOLOGY needs on its Kafka broker.

    Prints the plan, then carries it out; what is as it should be is left alone. Never deletes a
    topic. Needs an operator's credentials, from the environment (SLSTREAM_KAFKA_*).
    """
    from slstream.provisioning.provisioner import apply as apply_plan

    place = _Place.of(options, principals, may_create=may_create)
    plan = place.difference()
    if not options.as_json:
        place.print_plan(plan, prune=prune)
    failures = apply_plan(place.admin, place.desired, plan, prune=prune)
    if options.as_json:
        place.print_json(plan, failures=failures)
    elif plan.to_do(prune=prune) and not failures:
        click.echo("done")
    return _outcome(failures, options)


@click.command("diff", epilog=DIFF_EPILOG)
@_provision_options
@_principal_option
@_create_option
def diff(*, options: ProvisionOptions, principals: tuple[str, ...], may_create: bool) -> ExitCode:
    """Show how the Kafka broker differs from what TOPOLOGY needs. Changes nothing."""
    place = _Place.of(options, principals, may_create=may_create)
    plan = place.difference()
    if options.as_json:
        place.print_json(plan)
    else:
        place.print_plan(plan, prune=False)
    return ExitCode.DIFFERS if plan.changes else ExitCode.OK


@click.command("destroy", epilog=DESTROY_EPILOG)
@_provision_options
@click.option("--yes", "is_sure", is_flag=True, help="Delete it, for good.")
def destroy(*, options: ProvisionOptions, is_sure: bool) -> ExitCode:
    """Delete all topics and rights of TOPOLOGY's federation, or the links of some sessions.

    The logs are then gone: no session in them can be continued, replayed or audited, unless it was
    archived. Without --yes, only shows what would be lost.
    """
    from slstream.provisioning.provisioner import destroy as destroy_all
    from slstream.provisioning.provisioner import remains
    from slstream.provisioning.target import operator

    topology, settings = _kafka_topology(options)
    admin = _connect(settings, options)
    gone = remains(admin, topology.federation, options.sessions, operator=operator(settings))
    if not options.as_json:
        _print_remains(gone, topology, settings)
    is_empty = not (gone.topics or gone.acls)
    failures = destroy_all(admin, gone) if is_sure and not is_empty else ()
    if options.as_json:
        click.echo(json.dumps(_remains_document(gone, is_sure=is_sure, failures=failures)))
    elif is_sure and not (is_empty or failures):
        click.echo("done")
    if not (is_empty or is_sure):
        raise ConfigError("nothing was deleted; to delete all of this for good, add --yes")
    return _outcome(failures, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A cluster, and what a federation needs there."""

    topology: Topology
    settings: KafkaSettings
    desired: Desired
    admin: AdminClient

    @classmethod
    def of(
        cls, options: ProvisionOptions, principals: Sequence[str], *, may_create: bool
    ) -> _Place:
        topology, settings = _kafka_topology(options)

        from slstream.provisioning.target import Needs, desired

        needs = Needs(
            sessions=options.sessions, principals=_parsed(principals), may_create=may_create
        )
        wanted = desired(topology, settings, needs)
        admin = _connect(settings, options)
        return cls(topology=topology, settings=settings, desired=wanted, admin=admin)

    def difference(self) -> Plan:
        from slstream.provisioning.provisioner import difference

        return difference(self.admin, self.desired)

    def print_plan(self, plan: Plan, *, prune: bool) -> None:
        from slstream.cli.plan_text import plan_lines

        _print_lines(_title(self.topology, self.settings), plan_lines(plan, prune=prune))
        if not plan.changes:
            click.echo("nothing differs")

    def print_json(self, plan: Plan, failures: Sequence[Failure] | None = None) -> None:
        from slstream.cli.plan_text import plan_document

        document: dict[str, object] = {
            "federation": self.topology.federation,
            "brokers": self.settings.brokers,
            **plan_document(plan),
        }
        if failures is not None:
            document["failures"] = [_failure_document(failure) for failure in failures]
        click.echo(json.dumps(document))


def _kafka_topology(options: ProvisionOptions) -> tuple[Topology, KafkaSettings]:
    from slstream.topology import Topology

    topology = Topology.load(options.topology_path, options.overrides)

    from slstream.provisioning.target import kafka_settings

    settings = kafka_settings(topology)
    if find_spec("confluent_kafka") is None:
        raise ConfigError(
            "expected the package confluent-kafka, which topics and rights are managed with, found "
            "none; install it with: pip install 'slstream[admin]'"
        )
    return topology, settings


def _connect(settings: KafkaSettings, options: ProvisionOptions) -> AdminClient:
    from slstream.provisioning.connection import connect

    def say(reason: str) -> None:
        click.echo(f"waiting for {settings.brokers}: {printable(reason)}", err=True)

    return connect(settings, wait_s=options.wait_s, on_wait=say)


def _parsed(principals: Iterable[str]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for text in principals:
        party, separator, principal = text.partition("=")
        if not separator or party in found:
            raise click.UsageError(
                f"--principal: expected PARTY=PRINCIPAL such as bob=User:CN=bob, each party once, "
                f"found {text!r}"
            )
        found[party] = principal
    return found


def _title(topology: Topology, settings: KafkaSettings) -> str:
    return f"federation {topology.federation} on {settings.brokers}"


def _print_lines(title: str, lines: Iterable[str]) -> None:
    click.echo(title)
    for line in lines:
        click.echo(f"  {printable(line, keep_lines=False)}")


def _print_remains(gone: Remains, topology: Topology, settings: KafkaSettings) -> None:
    from slstream.cli.plan_text import rights_lines

    lines = [f"delete topic {each.name}: {_records(each.records)}" for each in gone.topics]
    lines += [f"remove {line}" for line in rights_lines(gone.acls)]
    lines += [f"note: left, as no federation has such a topic: {name}" for name in gone.foreign]
    _print_lines(_title(topology, settings), lines or ["there is nothing to delete"])


def _records(number: int | None) -> str:
    if number is None:
        return "an unknown number of records"
    return f"{number:,} record{'' if number == 1 else 's'}"


def _remains_document(
    gone: Remains, *, is_sure: bool, failures: Sequence[Failure]
) -> dict[str, object]:
    from slstream.cli.plan_text import acl_document

    return {
        "topics": [{"topic": each.name, "records": each.records} for each in gone.topics],
        "acls": [acl_document(acl) for acl in gone.acls],
        "foreign_topics": list(gone.foreign),
        "deleted": is_sure and not failures,
        "failures": [_failure_document(failure) for failure in failures],
    }


def _failure_document(failure: Failure) -> dict[str, str]:
    return {"what": failure.what, "cause": failure.cause, "remedy": failure.remedy}


def _outcome(failures: Sequence[Failure], options: ProvisionOptions) -> ExitCode:
    if not options.as_json:
        for failure in failures:
            click.echo(f"failed to {printable(str(failure))}", err=True)
    return ExitCode.FAILED if failures else ExitCode.OK
