"""`foregate kafka`: make Kafka ready for Foregate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from foregate.cli.exits import ExitCode, Failure
from foregate.cli.output import note, print_json, print_table
from foregate.cli.processes import AsJson

app = typer.Typer(help="Make Kafka ready for Foregate.", no_args_is_help=True)


@app.callback()
def kafka() -> None:
    """Make Kafka ready for Foregate."""


@app.command(short_help="Make topics, users and access rules.")
def setup(
    *,
    partitions: Annotated[
        int, typer.Option(min=1, max=1000, help="Partitions of the events: so many workers can share them.")
    ] = 6,
    replication: Annotated[int, typer.Option(min=1, max=15, help="How many brokers hold each record.")] = 1,
    events_kept: Annotated[str, typer.Option(help="How long Kafka keeps events, such as 168h.")] = "168h",
    edge: Annotated[
        list[str] | None, typer.Option(help="Another edge that gets a user of its own. May be given several times.")
    ] = None,
    admin: Annotated[str, typer.Option(help="User of Kafka that may make topics and users.")] = "",
    admin_password_file: Annotated[
        Path | None, typer.Option(help="File with its password; - reads it from the standard input.")
    ] = None,
    change: Annotated[bool, typer.Option("--change", help="Bring settings of topics that differ to the plan.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make the topics, users and access rules that Foregate needs in Kafka, and say what differs. Safe to repeat."""
    from dataclasses import asdict

    from foregate.core.durations import parse_duration
    from foregate.core.secrets import Secret
    from foregate.eventlog.kafka_access import Login
    from foregate.eventlog.kafka_plan import Sizes
    from foregate.eventlog.kafka_setup import Outcome
    from foregate.services.home import open_home, read_private
    from foregate.services.kafka import admin_access, set_up
    from foregate.services.settings import load

    settings = load()
    home = open_home(settings.home)
    login = None
    if admin and admin_password_file is not None:
        is_piped = str(admin_password_file) == "-"
        login = Login(admin, Secret(sys.stdin.readline().strip() if is_piped else read_private(admin_password_file)))
    access = admin_access(settings, home, login)
    sizes = Sizes(partitions, replication, parse_duration(events_kept))
    findings = list(set_up(access, home, sizes, edge or (), may_change=change))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(("item", "is", "more"), [(f.item, f.outcome.value, f.more) for f in findings])
    if access.login is None:
        note("The connection is in the clear, so there are no users and no access rules: for trying out alone.")
    if any(finding.outcome is Outcome.DIFFERS for finding in findings):
        raise Failure(ExitCode.FAILED, "Some of it is not as planned; --change brings the settings of topics there.")
